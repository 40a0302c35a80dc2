"""The wall clock is stepped, and the host is suspended, while flows are open."""

import datetime
import mmap
import os
import struct
import time
import unittest

import judge
from harness import BINARY, HOST4, PEER4, CaptureTest, needs_daemon, wait_until
from peers import connect, cookie_of, exchange, listen

SHIM = os.path.join(os.path.dirname(BINARY), "tests", "libclock_shim.so")
SECOND = 1_000_000_000
DAY = 24 * 3600 * SECOND
ROUNDING = SECOND  # what the times of this process and of a packet may differ by


@needs_daemon
@unittest.skipUnless(os.access(SHIM, os.R_OK), f"no clock at {SHIM}")
class Clock(CaptureTest):
    """The daemon's clocks are moved, not the host's."""

    def setUp(self):
        super().setUp()
        path = os.path.join(self.folder, "clock-offsets")
        with open(path, "w+b") as file:
            file.truncate(mmap.PAGESIZE)
            self.offsets = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.addCleanup(self.offsets.close)
        self.wall_offset = 0
        self.daemon = self.start_daemon(
            "-flowtimeout=10s", "-captureduration=5m",
            rights=("env", f"LD_PRELOAD={SHIM}", f"CLOCK_OFFSETS={path}"))
        self.listener = listen(self, self.host, HOST4)

    def move(self, wall_ns, boot_ns=0):
        """Moves the clocks, which then differ by so much from those of the host."""
        self.wall_offset = wall_ns
        self.offsets[:16] = struct.pack("=qq", wall_ns, boot_ns)

    def now(self):
        """What the daemon takes for the wall time."""
        return time.time_ns() + self.wall_offset

    def short_connection(self):
        """One that opens and closes; returns its cookie and the time."""
        opened = self.now()
        client, accepted = connect(self, self.peer, PEER4, self.listener)
        cookie = cookie_of(accepted)
        exchange(client, accepted)
        client.close()
        accepted.close()
        return cookie, opened

    def published(self, cookie):
        return [path for path in self.daemon.files() if judge.uuid_of(cookie) in path]

    def assert_dated(self, cookie, opened):
        """Its file is in the folder of its date, and its times are those of the clock then."""
        wait_until(lambda: self.published(cookie), lambda: f"a file\n{self.daemon.log}")
        path, = self.published(cookie)
        date = datetime.datetime.fromtimestamp(opened / SECOND, datetime.timezone.utc)
        self.assertEqual(os.path.relpath(os.path.dirname(path), self.daemon.datadir),
                         date.strftime("%Y/%m/%d"))
        for record in self.assert_header_exact(path).records:
            self.assertAlmostEqual(record.time_ns, opened, delta=10 * SECOND)

    def open_connection(self):
        """One that stays open, and is captured; returns both ends."""
        ends = connect(self, self.peer, PEER4, self.listener)
        exchange(*ends)
        wait_until(lambda: self.daemon.metric("flows", state="capturing") == 1, "it is captured")
        return ends

    def test_steps(self):
        """
        A day forward, two back: the open flow goes on in the time that it began with, and those
        that begin have the new date.
        """
        began = time.time_ns()
        client, accepted = self.open_connection()
        for offset in (DAY, -DAY):
            self.move(offset)
            self.assert_dated(*self.short_connection())
            exchange(client, accepted)
            self.assertEqual(self.daemon.metric("flows", state="capturing"), 1, self.daemon.log)
        ended = time.time_ns()
        files = self.finish(self.daemon)
        self.assertEqual(len(files), 3)
        times = [record.time_ns for record in files[judge.uuid_of(cookie_of(accepted))].records]
        self.assertGreater(times[0], began - ROUNDING)
        self.assertLess(times[-1], ended + ROUNDING)
        self.assertGreater(times[-1] - times[0], SECOND)  # short connections were in between

    def test_suspend(self):
        """Wall time goes on while the host is suspended, and no flow gets older by it."""
        began = time.time_ns()
        client, accepted = self.open_connection()
        self.move(DAY, DAY)
        self.assert_dated(*self.short_connection())
        self.assertEqual(self.daemon.metric("flows", state="capturing"), 1, self.daemon.log)
        before_last = self.now()
        exchange(client, accepted)
        ended = self.now()
        files = self.finish(self.daemon)
        self.assertEqual(len(files), 2)
        path, = self.published(cookie_of(accepted))
        date = datetime.datetime.fromtimestamp(began / SECOND, datetime.timezone.utc)
        self.assertIn(date.strftime("%Y/%m/%d"), path)
        times = [record.time_ns for record in files[judge.uuid_of(cookie_of(accepted))].records]
        self.assertAlmostEqual(times[0], began, delta=ROUNDING)
        self.assertGreater(times[-1], before_last - ROUNDING)
        self.assertLess(times[-1], ended + ROUNDING)


if __name__ == "__main__":
    unittest.main()
