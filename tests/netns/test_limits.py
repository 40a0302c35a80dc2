"""Little of everything: 64 descriptors for ten thousand flows, 256 MiB for a million."""

import os
import re
import socket
import subprocess
import time
import unittest

import judge
from faults import MIB, hidden_files, read_whole, stop, tmpfs
from harness import (HERE, HOST4, HOST_MAC, PEER4, CaptureTest, end_process, needs_daemon,
                     wait_until)
from peers import connect, cookie_of, exchange, listen

CROWD = os.path.abspath(os.environ.get(
    "CROWD", os.path.join(HERE, "..", "..", "build", "tests", "crowd")))
CROWD_NETWORK = "10.8.0.0/16"  # as in crowd.c
PORT = 7200
FLOWS = 1_000_000
SECONDS = 100  # in which they are made at the latest
SCRAPE_WITHIN_S = 5


class Crowd:
    """The peers of crowd.c, and a listener in host that bears them."""

    def __init__(self, case, reset, backlog=65535):
        self._case, self._reset = case, reset
        case.host.ip("route", "add", CROWD_NETWORK, "via", PEER4)
        for setting in ("net.core.somaxconn", "net.ipv4.tcp_max_syn_backlog"):
            case.host.run("sysctl", "-q", "-w", f"{setting}={backlog}")
        with case.host.entered():
            listener = socket.create_server((HOST4, PORT), backlog=backlog)
        case.addCleanup(listener.close)
        if reset:
            self._start("accept", namespace=case.host, stdin=listener)

    def _start(self, *arguments, namespace, **options):
        process = namespace.popen(CROWD, *arguments, text=True, **options)
        self._case.addCleanup(end_process, process)
        return process

    def connect(self, flows, seconds):
        """Call the result for how many were answered."""
        process = self._start("connect", "peer0", HOST_MAC, HOST4, str(PORT), str(flows),
                              str(seconds), "reset" if self._reset else "open",
                              namespace=self._case.peer, stdout=subprocess.PIPE)

        def result():
            output, _ = process.communicate(timeout=seconds + 10)
            self._case.assertEqual(process.returncode, 0)
            return int(output)
        result.is_running = lambda: process.poll() is None
        return result


class MemoryGroup:
    """A memory cgroup of the first or the second kind, removed after the test."""

    def __init__(self, case, limit_bytes):
        name = f"packet-headers-{os.getpid()}"
        if os.path.isdir("/sys/fs/cgroup/memory"):
            self._path, limit = f"/sys/fs/cgroup/memory/{name}", "memory.limit_in_bytes"
            self._events, self._peak = "memory.oom_control", "memory.max_usage_in_bytes"
        else:
            with open("/sys/fs/cgroup/cgroup.subtree_control", "w", encoding="ascii") as file:
                file.write("+memory")
            self._path, limit = f"/sys/fs/cgroup/{name}", "memory.max"
            self._events, self._peak = "memory.events", "memory.peak"
        os.mkdir(self._path)
        case.addCleanup(wait_until, self._remove, "the memory cgroup goes")
        with open(os.path.join(self._path, limit), "w", encoding="ascii") as file:
            file.write(str(limit_bytes))

    def _remove(self):
        try:
            os.rmdir(self._path)
            return True
        except OSError:
            return False

    def _read(self, name):
        with open(os.path.join(self._path, name), encoding="ascii") as file:
            return file.read()

    @property
    def wrapper(self):
        """
        The words before a command that runs in it, with the mounts of the test, since
        `ip netns exec` hides those beneath /sys.
        """
        return ("nsenter", f"--mount=/proc/{os.getpid()}/ns/mnt", "sh", "-c",
                f'echo $$ > {self._path}/cgroup.procs && exec "$@"', "sh")

    @property
    def oom_kills(self):
        return int(re.search(r"^oom_kill (\d+)$", self._read(self._events), re.M)[1])

    @property
    def peak_bytes(self):
        return int(self._read(self._peak))


def needs_memory_group(test):
    """Skips, with the reason, where there is no memory controller."""
    found = (os.path.isdir("/sys/fs/cgroup/memory") or os.path.exists("/sys/fs/cgroup/memory.stat")
             or "memory" in read_line("/sys/fs/cgroup/cgroup.controllers"))
    return unittest.skipUnless(found, "no memory cgroups here")(test)


def read_line(path):
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


@needs_daemon
@unittest.skipUnless(os.access(CROWD, os.X_OK), f"no program at {CROWD}")
class Limits(CaptureTest):

    def descriptors(self, *flags):
        """All flows are open at once, and end with the daemon."""
        flows = 10_000
        daemon = self.start_daemon("-captureduration=10m", *flags,
                                   rights=("prlimit", "--nofile=64:64"),
                                   datadir=os.path.join(tmpfs(self, "size=256m").path, "data"))
        self.assertEqual(Crowd(self, reset=False).connect(flows, seconds=30)(), flows)
        wait_until(lambda: daemon.metric("flows", state="capturing") == flows,
                   lambda: f"{flows} flows are captured\n{daemon.log}")
        if "-stream" in flags:
            wait_until(lambda: len(hidden_files(daemon.datadir)) == flows,
                       lambda: f"each has begun its file\n{daemon.log}", 30)
        files = self.finish(daemon, within=60)
        self.assertEqual(len(files), flows)
        self.assertEqual(daemon.booked("saved"), 3 * flows, daemon.log)

    def test_64_descriptors(self):
        self.descriptors()

    def test_64_descriptors_streaming(self):
        self.descriptors("-stream")

    def has_room(self, daemon):
        """Whether new flows are taken; from 7/8 of the memory on they are not."""
        memory = {kind: daemon.metric("memory_bytes", kind=kind)
                  for kind in ("used", "idle", "limit")}
        return memory["used"] - memory["idle"] < memory["limit"] * 3 / 4

    @needs_memory_group
    def test_a_million_flows_in_256_mib(self):
        """What finds no room is shed and counted; it is watched all the time."""
        group = MemoryGroup(self, 256 * MIB)
        daemon = self.start_daemon(rights=group.wrapper)
        crowd = Crowd(self, reset=True).connect(FLOWS, SECONDS)
        began, slowest = time.monotonic(), 0
        while crowd.is_running():
            asked = time.monotonic()
            daemon.metric("flows")
            slowest = max(slowest, time.monotonic() - asked)
        flows, took = crowd(), time.monotonic() - began
        wait_until(lambda: self.has_room(daemon), lambda: f"room again\n{daemon.log}", 60)
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        failed, files = stop(self, daemon, within=120), daemon.files()
        print(f"\n  {flows} flows in {took:.1f} s; peak {group.peak_bytes / MIB:.0f} MiB, "
              f"slowest scrape {slowest:.2f} s, {len(files)} files; "
              f"{re.findall('books: .*', daemon.log)}", flush=True)
        self.assertEqual(failed, 0)
        self.assertEqual(group.oom_kills, 0)
        self.assertLess(slowest, SCRAPE_WITHIN_S)
        self.assertGreaterEqual(flows, FLOWS)
        name = f"{judge.uuid_of(cookie_of(accepted))}.pcap"
        self.assertIn(name, map(os.path.basename, files))
        for path in files[::100]:
            read_whole(self, path)


if __name__ == "__main__":
    unittest.main()
