"""Killed at any moment: what has its final name is whole, what has not is salvaged, no more."""

import concurrent.futures
import os
import random
import re
import signal
import time
import unittest

import index
from faults import (assert_tools_read, hidden_files, read_whole, records_in, seed, stop,
                    wait_until_salvaged)
from harness import (HOST4, OWN_NAMES, PEER4, CaptureTest, Daemon, Namespace, left_behind,
                     needs_daemon, needs_tool, wait_until)
from peers import Load

# (kills, flags): 200 in all.
MODES = [(31, (stream, f"-compress={compress}"))
         for compress in ("none", "gzip", "zstd") for stream in ("-stream=false", "-stream")]
MODES += [(7, ("-capture.engine=pcap",)), (7, ("-capture.engine=pcap", "-stream"))]
# Flows end, and are published, in the middle of a life that is as short.
SHORT_FLOWS = ("-captureduration=100ms", "-uuidwaitduration=50ms")
NAME = re.compile(rf"\.?({OWN_NAMES})(\.\d+)?\.pcap(\.gz|\.zst)?(\.part)?")
KILLED_AT_START = 0.2  # of all
START_S = 0.3  # about what a start takes
LIFE_S = 0.1, 0.8  # when ready


class Lives:
    """One data directory, and the daemons that live and die on it one after the other."""

    def __init__(self, case, namespace, flags, moments):
        self._case, self._namespace, self._flags = case, namespace, flags
        self._moments = moments  # random.Random
        self._datadir = os.path.join(case.folder, "data" + "".join(flags))
        self._left = {}  # {path of a hidden file that a kill left: the records that it holds}
        self._files = {}  # {path of a published file: its records}
        self._flows = {}  # {uuid: {record: path of the file that it is in}}
        self.salvaged = 0  # records
        self.early_kills = 0

    def run(self, kills):
        for _ in range(kills):
            self._live_and_die()
        daemon = self._start()
        daemon.wait_until_ready()
        self._judge_salvaged()
        self._case.assertEqual(stop(self._case, daemon), 0, daemon.log)
        self._case.assertEqual(hidden_files(self._datadir), [])
        self._judge_files()
        for path, line in index.read(self._datadir).items():
            path = os.path.join(self._datadir, path)
            self._case.assertEqual(index.packets(line), len(self._files[path]), path)
        assert_tools_read(self._case, sorted(self._files))
        return len(self._files)

    def _start(self):
        return Daemon(self._case, self._namespace, *self._flags, *SHORT_FLOWS,
                      datadir=self._datadir, wait=False)

    def _live_and_die(self):
        daemon = self._start()
        if self._moments.random() < KILLED_AT_START:
            self.early_kills += 1
            time.sleep(self._moments.uniform(0, START_S))
        else:
            daemon.wait_until_ready()
            self._judge_salvaged()
            time.sleep(self._moments.uniform(*LIFE_S))
        daemon.send_signal(signal.SIGKILL)
        self._case.assertEqual(daemon.wait_for_exit(5), -signal.SIGKILL, daemon.log)
        self._judge_files()
        # A start that was killed has salvaged some of what there was, or nothing.
        still_left = {path: records for path, records in self._left.items()
                      if records_in(path) == records}
        self._assert_published(self._left.keys() - still_left.keys())
        self._left = {path: records_in(path) for path in hidden_files(self._datadir)}
        wait_until(lambda: left_behind(self._namespace) == [],
                   lambda: f"nothing stays attached: {left_behind(self._namespace)}")

    def _judge_salvaged(self):
        wait_until_salvaged(self._left)
        self._judge_files()
        self._assert_published(self._left)
        self._left = {}

    def _judge_files(self):
        """Every published file is whole, and no packet is in two of them."""
        for folder, _, names in os.walk(self._datadir):
            for name in names:
                path = os.path.join(folder, name)
                if name.startswith(".") or index.is_index(name) or path in self._files:
                    continue
                self._case.assertRegex(name, rf"^{NAME.pattern}$")
                read_whole(self._case, path)
                self._files[path] = records_in(path)
                flow = self._flows.setdefault(uuid_of(path), {})
                for record in self._files[path]:
                    self._case.assertNotIn(record, flow, f"in {flow.get(record)} and in {path}")
                    flow[record] = path

    def _assert_published(self, paths):
        """Exactly what these hidden files held is in a file that isn't hidden."""
        for path in paths:
            records = self._left[path]
            if not records:
                continue
            flow = self._flows.get(uuid_of(path), {})
            self._case.assertIn(records[0], flow, f"not salvaged: {path}")
            found = flow[records[0]]
            self._case.assertEqual(records, self._files[found], f"{path} became {found}")
            self.salvaged += len(records)


def uuid_of(path):
    return NAME.fullmatch(os.path.basename(path))[1]


@needs_daemon
@needs_tool("zstd")
class Kill9(CaptureTest):

    def setUp(self):
        super().setUp()
        other_host, other_peer = Namespace(self, "C"), Namespace(self, "D")
        other_host.link_to(other_peer, "host0", "peer0", [f"{HOST4}/24"], [f"{PEER4}/24"])
        self.hosts = [self.host, other_host]
        for host, peer in ((self.host, self.peer), (other_host, other_peer)):
            Load(self, peer, host, HOST4)

    def test_two_hundred_kills(self):
        """In two places at once, to be done sooner."""
        number, lives = seed("kills"), []

        def run(host, modes):
            for kills, flags in modes:
                lives.append(Lives(self, host, flags, random.Random(number + "".join(flags))))
                yield kills, lives[-1].run(kills)

        with concurrent.futures.ThreadPoolExecutor() as pool:
            done = [pool.submit(list, run(host, MODES[place::2]))
                    for place, host in enumerate(self.hosts)]
            kills, files = map(sum, zip(*(each for place in done for each in place.result())))
        salvaged = sum(each.salvaged for each in lives)
        print(f"  {kills} kills, {sum(each.early_kills for each in lives)} of them at a start; "
              f"{files} files, {salvaged} records of them salvaged", flush=True)
        self.assertEqual(kills, 200)
        self.assertGreater(salvaged, 0)


if __name__ == "__main__":
    unittest.main()
