"""A thread that stops is noticed by /healthz and by systemd's watchdog, and so is its return."""

import contextlib
import ctypes
import os
import signal
import socket
import time
import unittest

from harness import METRICS_PORT, CaptureTest, _libc, needs_daemon, wait_until
from tcpinfo import TcpInfo
from test_http import get

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000
PATIENCE_S = 2  # six times as long for the publisher
WATCHDOG_S = 0.5


def ptrace(request, thread):
    if _libc.ptrace(ctypes.c_long(request), thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace {request:#x}")


class HealthTest(CaptureTest):

    def setUp(self):
        super().setUp()
        path = os.path.join(self.folder, "notify.sock")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.notify.close)
        self.notify.bind(path)
        tcpinfo = TcpInfo(self)
        tcpinfo.listen()
        self.daemon = self.start_daemon(
            f"-health.patience={PATIENCE_S}s", f"-tcpinfo.eventsocket={tcpinfo.path}",
            f"-eventsocket.serve={self.folder}/serve.sock",
            rights=("env", f"NOTIFY_SOCKET={path}", f"WATCHDOG_USEC={int(WATCHDOG_S * 1e6)}"))
        tcpinfo.accept()

    def get(self, path):
        with self.host.entered():
            return get(("127.0.0.1", METRICS_PORT), path)

    def told(self, seconds):
        """What systemd is told next; None if nothing comes."""
        self.notify.settimeout(seconds)
        try:
            return self.notify.recv(4096).decode()
        except (TimeoutError, BlockingIOError):
            return None

    def forget_told(self):
        while self.told(0):
            pass

    def assert_well(self):
        wait_until(lambda: self.get(b"/healthz") == (200, "ok\n"), "healthy")
        self.forget_told()
        self.assertEqual(self.told(10), "WATCHDOG=1")

    def threads(self):
        """{name: id}, but of the one that may end meanwhile."""
        found = {}
        for thread in map(int, os.listdir(f"/proc/{self.daemon.pid}/task")):
            with (contextlib.suppress(FileNotFoundError, ProcessLookupError),
                  open(f"/proc/{self.daemon.pid}/task/{thread}/comm", encoding="ascii") as file):
                found["main" if thread == self.daemon.pid else file.read().strip()] = thread
        found.pop("salvage", None)
        return found

    @contextlib.contextmanager
    def holding(self, thread):
        """Inside the block one thread stands still, as in a debugger."""
        ptrace(PTRACE_SEIZE, thread)
        ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)
        try:
            yield
        finally:
            ptrace(PTRACE_DETACH, thread)

    def is_noticed(self, name, patience_s=PATIENCE_S):
        began = time.monotonic()
        with self.holding(self.threads()[name]):
            wait_until(lambda: self.told(2 * WATCHDOG_S) is None, "the watchdog is left alone", 30)
            if name != "http":
                wait_until(lambda: self.get(b"/healthz")[0] == 503, f"{name} is missed")
                for path in (b"/healthz", b"/readyz"):
                    status, text = self.get(path)
                    self.assertEqual(status, 503)
                    self.assertRegex(text, rf"^stopped: {name} \(\d+ s\)\n$")
                age = self.daemon.metric("thread_heartbeat_age_seconds", thread=name)
                self.assertGreater(age, patience_s)
            self.assertGreater(time.monotonic() - began, patience_s)
        self.assert_well()


@needs_daemon
class Health(HealthTest):

    def test_each_thread_is_missed(self):
        self.assertEqual(self.told(10), "READY=1\nSTATUS=capturing on 1 interface(s)")
        self.assert_well()
        self.assertEqual(self.get(b"/readyz"), (200, "capturing on 1 interface(s)\n"))
        names = set(self.threads())
        self.assertEqual({name for name in names if not name.startswith("shard ")},
                         {"main", "http", "publisher", "event client", "event server"})
        for name in sorted(names - {"publisher"}):
            with self.subTest(thread=name):
                self.is_noticed(name)
        with self.subTest(thread="publisher"):
            self.is_noticed("publisher", 6 * PATIENCE_S)
        self.daemon.send_signal(signal.SIGTERM)
        wait_until(lambda: self.told(10) == "STOPPING=1", "systemd is told of the end")
        self.finish(self.daemon)

    def test_a_stop_of_all_is_nobodys(self):
        self.assert_well()
        self.daemon.send_signal(signal.SIGSTOP)
        time.sleep(3 * PATIENCE_S)
        self.daemon.send_signal(signal.SIGCONT)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            self.assertEqual(self.get(b"/healthz"), (200, "ok\n"))
        self.assert_well()
        self.finish(self.daemon)

    def test_not_ready_without_an_interface(self):
        self.peer.ip("link", "del", "peer0")
        wait_until(lambda: self.get(b"/readyz") == (503, "capturing on no interface\n"), "noticed")
        self.assertEqual(self.get(b"/healthz"), (200, "ok\n"))


if __name__ == "__main__":
    unittest.main()
