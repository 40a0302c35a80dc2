"""A disk that takes no files: capture goes on, whole flows are shed, and the cure is noticed."""

import errno
import os
import re
import shutil
import unittest

import judge
import pcap
from faults import FailingCalls, needs_failing_calls, read_whole, stop, tmpfs
from harness import HOST4, PEER4, CaptureTest, needs_daemon, wait_until
from peers import connect, cookie_of, exchange, flow_of, listen

CURED_WITHIN_S = 10
MOST_LOG_LINES = 12  # about one fault, warnings and errors
SMALL_HEAP = 4 << 20


class DiskTest(CaptureTest):
    """A daemon whose data are on a disk of the test's."""

    def start_on(self, datadir, *flags, **options):
        self.daemon = self.start_daemon("-captureduration=1s", "-uuidwaitduration=100ms", *flags,
                                        datadir=datadir, **options)
        self.tcpdump, self.owners = self.start_tcpdump(), {}
        self.listener = listen(self, self.host, HOST4)

    def flows(self, count, exchanges=1):
        """So many connections that come and go."""
        for _ in range(count):
            client, accepted = connect(self, self.peer, PEER4, self.listener)
            self.owners[cookie_of(accepted)] = flow_of(accepted)
            for _ in range(exchanges):
                exchange(client, accepted, size=200)
            client.close()
            accepted.close()

    def own_directory(self):
        """A path for data with nothing beside it: else a sandboxed root can't make it again."""
        parent = os.path.join(self.folder, "own")
        os.mkdir(parent)
        return os.path.join(parent, "data")

    def told(self):
        """What the log warns of."""
        return re.findall(r"^\S+ (?:warning|error) .*$", self.daemon.log, re.M)

    def wait_for_failure(self):
        """It has tried all that it has, and says so."""
        wait_until(lambda: self.daemon.metric("file_errors_total") > 0 and self.told(),
                   lambda: f"the fault is met\n{self.daemon.log}")

    def wait_for_more_failures(self):
        """It tries again."""
        before = self.daemon.metric("file_errors_total")
        wait_until(lambda: self.daemon.metric("file_errors_total") > before,
                   lambda: f"another try\n{self.daemon.log}")

    def assert_quiet(self):
        """The log tells of the fault, and isn't flooded."""
        self.assertTrue(self.told(), self.daemon.log)
        self.assertLessEqual(len(self.told()), MOST_LOG_LINES, self.daemon.log)

    def wait_for_cure(self):
        """All flows so far are saved, soon."""
        wait_until(lambda: len(self.daemon.files()) == len(self.owners),
                   lambda: f"{len(self.daemon.files())} of {len(self.owners)} files\n"
                           f"{self.daemon.log}", CURED_WITHIN_S)

    def settle(self):
        """Every flow is saved, with every packet, and later ones are, too."""
        self.flows(5)
        captured, files = self.tcpdump.stop(), self.finish(self.daemon, within=20)
        self.assert_quiet()
        self.assertEqual(files.keys(), {judge.uuid_of(cookie) for cookie in self.owners})
        self.assert_same(captured, files)

    def assert_same(self, captured, files):
        expected, times = pcap.by_flow(captured), judge.Times()
        for cookie, flow in self.owners.items():
            uuid = judge.uuid_of(cookie)
            if uuid in files:
                judge.assert_same_packets(self, files[uuid].records, expected[flow], times, uuid)

    def outlast(self, fault, cure, *flags, datadir, **options):
        """
        Flows before, during and after a fault are all saved, those that came during it within 10 s
        of its cure.
        """
        self.start_on(datadir, *flags, **options)
        self.flows(5)
        self.wait_for_cure()
        fault()
        self.flows(20)
        self.wait_for_failure()
        self.wait_for_more_failures()
        published = len(self.daemon.files())
        for path in self.daemon.files():
            read_whole(self, path)
        self.flows(5)
        cure()
        self.wait_for_cure()
        self.assertGreater(len(self.owners), published)
        self.settle()


@needs_daemon
class Recovers(DiskTest):
    """From what a disk itself refuses."""

    def full(self, *flags):
        disk = tmpfs(self, "size=2m")
        self.outlast(lambda: disk.fill(self), lambda: disk.remount("size=64m"), *flags,
                     datadir=os.path.join(disk.path, "data"))

    def test_full(self):
        self.full()

    def test_full_streaming(self):
        self.full("-stream", "-compress=none")

    def test_out_of_inodes(self):
        disk = tmpfs(self, "size=64m,nr_inodes=30")

        def use_up():
            with self.assertRaises(OSError) as raised:
                for number in range(100):
                    with open(os.path.join(disk.path, f"other-{number}"), "wb"):
                        pass
            self.assertEqual(raised.exception.errno, errno.ENOSPC)

        self.outlast(use_up, lambda: disk.remount("nr_inodes=1000"),
                     datadir=os.path.join(disk.path, "data"))

    def test_read_only(self):
        disk = tmpfs(self, "size=64m")
        self.outlast(lambda: disk.remount("ro"), lambda: disk.remount("rw"),
                     datadir=os.path.join(disk.path, "data"))

    def test_data_directory_is_a_file_for_a_while(self):
        """Removed, and not to be made again before the file has gone."""
        datadir = self.own_directory()
        before = os.path.join(self.folder, "before")

        def replace():
            os.rename(datadir, before)
            shutil.rmtree(before)
            with open(datadir, "wb"):
                pass

        def restore():
            os.unlink(datadir)
            self.owners = {cookie: flow for cookie, flow in self.owners.items()
                           if judge.uuid_of(cookie) not in gone}

        self.start_on(datadir)
        self.flows(5)
        self.wait_for_cure()
        gone = {judge.uuid_of(cookie) for cookie in self.owners}
        removed = sum(len(pcap.read(path).records) for path in self.daemon.files())
        replace()
        self.flows(20)
        self.wait_for_failure()
        self.wait_for_more_failures()
        restore()
        self.wait_for_cure()
        self.assertGreaterEqual(len(self.daemon.files()), 20)
        captured = self.tcpdump.stop()
        self.assertEqual(stop(self, self.daemon), 0)
        self.assertEqual(self.daemon.booked("saved"), len(captured), self.daemon.log)
        files = {os.path.basename(path).removesuffix(".pcap"): self.assert_header_exact(path)
                 for path in self.daemon.files()}
        self.assertEqual(sum(len(file.records) for file in files.values()) + removed,
                         len(captured))
        self.assert_same(captured, files)
        self.assert_quiet()

    def test_data_directory_is_removed(self):
        """It is made again, and nothing fails."""
        datadir = self.own_directory()
        self.start_on(datadir, "-stream")
        shutil.rmtree(datadir)
        self.flows(20)
        self.wait_for_cure()
        self.assertEqual(self.daemon.metric("files_failed_total"), 0)
        captured, files = self.tcpdump.stop(), self.finish(self.daemon, within=20)
        self.assertEqual(len(files), len(self.owners))
        self.assert_same(captured, files)


@needs_daemon
@needs_failing_calls
class CallsFail(DiskTest):
    """As they do for a quota, or for a device that is gone."""

    def fail(self, error, *functions, flags=()):
        calls = FailingCalls(self, only_files=True)
        self.outlast(lambda: calls.fail(error, *functions), calls.heal, *flags,
                     rights=calls.wrapper, datadir=os.path.join(self.folder, "data"))
        self.assertGreaterEqual(calls.failed, 2)

    def test_quota_of_bytes(self):
        self.fail(errno.EDQUOT, "write")

    def test_quota_of_files(self):
        self.fail(errno.EDQUOT, "open", "mkdir")

    def test_device_takes_no_bytes(self):
        self.fail(errno.EIO, "write", flags=("-stream",))

    def test_device_does_not_sync(self):
        self.fail(errno.EIO, "fdatasync", "fsync", "syncfs")


@needs_daemon
class Sheds(DiskTest):
    """Memory is bounded: beyond it whole flows are given up, and counted."""

    def shed(self, disk, *flags):
        """Makes flows on a disk that takes none until some are refused."""
        self.start_on(os.path.join(disk.path, "data"), f"-maxheap={SMALL_HEAP}", "-shards=1",
                      *flags)
        self.flows(5)
        self.wait_for_cure()
        disk.remount("ro")
        for _ in range(100):
            self.flows(100)
            if self.daemon.lost("memory_limit") > 0:
                break
        self.assertGreater(self.daemon.lost("memory_limit"), 0, self.daemon.log)
        self.wait_for_failure()
        self.assertLessEqual(self.daemon.metric("memory_bytes", kind="used"), SMALL_HEAP)

    def assert_whole_flows(self, captured, files):
        """Each flow is saved with every packet, or not at all."""
        self.assert_same(captured, files)
        # What a refused flow sends later can be settled.
        reasons = "memory_limit", "write_error", "settled"
        self.assertEqual(len(captured) - self.daemon.booked("saved"),
                         sum(self.daemon.booked(reason) for reason in reasons), self.daemon.log)

    def test_and_recovers(self):
        disk = tmpfs(self, "size=64m")
        self.shed(disk)
        disk.remount("rw")
        shed = self.daemon.metric("flows_refused_total", limit="maxheap")
        self.assertGreater(shed, 0)
        # The shard takes its memory back a moment after the last file is saved.
        wait_until(lambda: self.daemon.metric("files_waiting") == 0
                   and self.daemon.metric("flows", state="capturing") == 0
                   and self.daemon.metric("memory_bytes", kind="used") < SMALL_HEAP / 2,
                   "all is saved", CURED_WITHIN_S)
        before = len(self.daemon.files())
        last = list(self.owners)
        self.flows(5)
        wait_until(lambda: len(self.daemon.files()) == before + 5, "new flows are saved")
        captured, files = self.tcpdump.stop(), self.finish(self.daemon, within=20)
        self.assertEqual(self.daemon.booked("write_error"), 0, self.daemon.log)
        self.assertLess(len(files), len(last) + 5)
        self.assert_whole_flows(captured, files)
        self.assert_quiet()

    def test_and_ends_in_time(self):
        """A stop while the disk takes nothing gives up what there is, and counts it."""
        disk = tmpfs(self, "size=64m")
        self.shed(disk)
        captured, files = self.tcpdump.stop(), self.finish(self.daemon, within=20, code=1)
        self.assertEqual(len(files), 5)
        self.assertGreater(self.daemon.booked("write_error"), 0, self.daemon.log)
        self.assert_whole_flows(captured, files)
        self.assert_quiet()


if __name__ == "__main__":
    unittest.main()
