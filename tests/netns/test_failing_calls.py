"""
Each call that can fail does: the Nth of open, write, sync, rename, mkdir, mmap, malloc and
ftruncate, for every N of a short run.
"""

import concurrent.futures
import contextlib
import errno
import http.client
import queue
import re
import signal
import unittest

from faults import FailingCalls, hidden_files, needs_failing_calls, read_whole
from harness import (HOST4, PEER4, CaptureTest, Daemon, Namespace, left_behind,
                     needs_daemon, wait_until)
from peers import connect, exchange, listen

PLACES = 4  # runs at once: most of a run is waiting
FLOWS = 3  # that end before the stop, and as many that end with it
EXCHANGES = 150  # of a flow: with -stream it is written in parts
FLAGS = ("-captureduration=200ms", "-uuidwaitduration=50ms", "-shards=1", "-maxheap=16MB")
ERRORS = {"open": errno.EMFILE, "mkdir": errno.ENOSPC, "mmap": errno.ENOMEM,
          "malloc": errno.ENOMEM}  # of others: EIO
# A start allocates in hundreds of places of libbpf and others that behave alike, and one run for
# each takes long: so many of them, evenly spread. Behind the start every call fails in one run, and
# a run lets one in so many fail.
MALLOCS_OF_START = 40
MALLOC_STRIDE = 16


class Place:
    """Two namespaces for run after run."""

    def __init__(self, case, number):
        self.case = case
        self.host, self.peer = Namespace(case, f"H{number}"), Namespace(case, f"P{number}")
        self.host.link_to(self.peer, "host0", "peer0", [f"{HOST4}/24"], [f"{PEER4}/24"])
        self._listener = listen(case, self.host, HOST4)

    def flows(self):
        """Connections that say something and stay; returns their ends."""
        pairs = [connect(self.case, self.peer, PEER4, self._listener) for _ in range(FLOWS)]
        for _ in range(EXCHANGES):
            for client, accepted in pairs:
                exchange(client, accepted, size=20)
        return [end for pair in pairs for end in pair]


class Run:
    """A short life of the daemon, in which chosen calls fail."""

    def __init__(self, case, flags, function=None, nth=0, every=0, after_start=False):
        self._case, self._flags, self._function = case, flags, function
        self._nth, self._every, self._after_start = nth, every, after_start
        self.calls = FailingCalls(case)
        self.calls_of_start = {}

    def __str__(self):
        return (f"{self._function} {self._nth} {'of the start' if not self._after_start else ''} "
                f"{' '.join(self._flags)}\n{self._daemon.log}")

    def _arm(self):
        before = self.calls_of_start.get(self._function, 0)
        self.calls.fail(ERRORS.get(self._function, errno.EIO), self._function,
                        nth=before + self._nth, every=self._every)

    def run(self, place):
        """To its end, judged; returns itself."""
        if self._function and not self._after_start:
            self._arm()
        self._daemon = Daemon(self._case, place.host, *FLAGS, *self._flags,
                              rights=self.calls.wrapper, wait=False)
        wait_until(lambda: "ready: " in self._daemon.log or not self._daemon.is_running,
                   lambda: f"a start, or none: {self}", 30)
        if not self._daemon.is_running:
            self._judge_no_start(place)
            return self
        self.calls_of_start = {name: self.calls.calls(name) for name in self.calls.FUNCTIONS}
        if self._function and self._after_start:
            self._arm()
        ends = place.flows()
        wait_until(self._is_settled, lambda: f"{FLOWS} files, or why not: {self}", 20)
        self._judge_counts()
        ends += place.flows()
        self._judge_end()
        for end in ends:
            end.close()
        return self

    def end(self):
        """The place is free for the next run, whatever came of this one."""
        if self._daemon.is_running:
            self._daemon.send_signal(signal.SIGKILL)
            self._daemon.wait_for_exit(10)

    def _is_settled(self):
        self._case.assertTrue(self._daemon.is_running, self)
        # A scrape allocates more than all else.
        given_up = len(re.findall("could not be saved", self._daemon.log))
        return len(self._daemon.files()) + given_up >= FLOWS

    def _judge_no_start(self, place):
        """It says what failed, and leaves nothing."""
        self._case.assertEqual(self._daemon.wait_for_exit(10), 1, self)
        self._case.assertRegex(self._daemon.log.splitlines()[-1], 
                               r" error \S.*\S|^packet-headers: \S.*\S", self)
        self._case.assertEqual(self._daemon.files() + hidden_files(self._daemon.datadir), [], self)
        self._case.assertGreater(self.calls.failed, 0, self)
        wait_until(lambda: left_behind(place.host) == [], f"nothing stays attached: {self}")

    def _judge_counts(self):
        """What failed of files is what the daemon has counted; libraries allocate, too."""
        if self._every:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._daemon.metrics()  # may be refused for lack of memory, and harms nobody
            self.calls.heal()
        self._case.assertLessEqual(self._daemon.metric("allocation_failures_total"),
                                   self.calls.failed, self)
        self._not_salvaged = self._daemon.metric("files_salvaged_total", result="failed")
        if self._function != "malloc":
            # A file is in its place before the last call for it was made.
            wait_until(lambda: self._daemon.metric("files_waiting") == 0, lambda: f"all: {self}")
            self._case.assertEqual(self.calls.failed_on_files, self._not_salvaged
                                   + self._daemon.metric("file_errors_total"), self)
        if self._every:
            self._arm()

    def _judge_end(self):
        """Exit code, books and files; what failed of them is told."""
        self._daemon.send_signal(signal.SIGTERM)
        code = self._daemon.wait_for_exit(30)
        told = re.search(r"saved (\d+) files, (\d+) failed(?: \((\d+) errors)?", self._daemon.log)
        self._case.assertTrue(told, self)
        saved, failed, errors = (int(number or 0) for number in told.groups())
        self._case.assertEqual(code, 1 if failed else 0, self)
        self._case.assert_books_close(self._daemon)
        files = [read_whole(self._case, path) for path in self._daemon.files()]
        self._case.assertEqual(len(files), saved, self)
        self._case.assertEqual(sum(len(file.records) for file in files),
                               self._daemon.booked("saved"), self)
        self._case.assertEqual(hidden_files(self._daemon.datadir), [], self)
        self._case.assertLessEqual(failed, self.calls.failed, self)
        if self._function != "malloc":
            self._case.assertEqual(self.calls.failed_on_files, errors + self._not_salvaged, self)


@needs_daemon
@needs_failing_calls
class FailingCall(CaptureTest):

    def setUp(self):
        super().setUp()
        self._places = queue.SimpleQueue()
        for number in range(PLACES):
            self._places.put(Place(self, number))

    def run_in_place(self, run):
        place = self._places.get()
        try:
            return run.run(place)
        finally:
            run.end()
            self._places.put(place)

    def run_all(self, *runs):
        with concurrent.futures.ThreadPoolExecutor(PLACES) as pool:
            done = [(run, pool.submit(self.run_in_place, run)) for run in runs]
        for run, result in done:
            with self.subTest(str(run).splitlines()[0]):
                result.result()
        print(f"  {len(runs)} runs", flush=True)

    def each(self, *functions):
        """Whole files from the start on; in parts what is done after it."""
        whole, stream = self.run_in_place(Run(self, ())), self.run_in_place(Run(self, ("-stream",)))
        self.run_all(*(Run(self, (), function, nth)
                       for function in functions
                       for nth in range(1, whole.calls.calls(function) + 1)),
                     *(Run(self, ("-stream",), function, nth, after_start=True)
                       for function in functions
                       for nth in range(1, stream.calls.calls(function) + 1
                                        - stream.calls_of_start[function])))

    def test_open(self):
        self.each("open")

    def test_write(self):
        self.each("write", "ftruncate")

    def test_sync(self):
        self.each("fsync", "fdatasync", "syncfs")

    def test_names(self):
        self.each("rename", "mkdir")

    def test_mmap(self):
        self.each("mmap")

    def test_malloc(self):
        calls = self.run_in_place(Run(self, ())).calls_of_start["malloc"]
        self.run_all(*(Run(self, (), "malloc", 1 + number * calls // MALLOCS_OF_START)
                       for number in range(MALLOCS_OF_START)),
                     *(Run(self, (), "malloc", nth, every=MALLOC_STRIDE, after_start=True)
                       for nth in range(1, MALLOC_STRIDE + 1)))


if __name__ == "__main__":
    unittest.main()
