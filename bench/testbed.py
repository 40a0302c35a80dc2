"""Two hosts in namespaces, what captures on one of them, the traffic, and what both cost."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import harness
from harness import ENVIRONMENT, HOST4, HOST_MAC, PEER4, PEER_MAC, Daemon, end_process, wait_until

# Data goes to memory, the same for all: a disk has times of its own.
MEMORY = "/dev/shm"
LEAST_FREE_BYTES = 4 << 30
HELPERS = os.path.join(os.path.dirname(harness.BINARY), "tests")
BUFFER_MIB = 64  # of the kernel, for those that capture beside us
IDLE_S = 1.2
TOO_FAST = "ring_full", "shed_syn", "shed_stray"  # why a ring takes no packet


class Unmeasurable(Exception):
    """Says what a measure needs and does not find here."""


def require(tool):
    """The path of a tool that a measure can't do without."""
    path = installed(tool)
    if not path:
        raise Unmeasurable(f"{tool} isn't installed")
    return path


def installed(tool):
    """The path of a tool, or None."""
    return shutil.which(tool, path=ENVIRONMENT["PATH"])


def helper(name):
    """The path of a program that the tests' build makes."""
    path = os.path.join(HELPERS, name)
    if not os.access(path, os.X_OK):
        raise Unmeasurable(f"no program at {path}")
    return path


def memory_folder():
    """Where files go: memory if it has room, else the disk."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage(MEMORY).free >= LEAST_FREE_BYTES:
            return MEMORY
    return tempfile.gettempdir()


class Testbed(harness.CaptureTest):
    """
    For the length of a `with`: host and peer, joined by a veth pair that carries IPv4 and nothing
    unasked for. Whatever is started goes with it.
    """

    def __init__(self, offloads="off"):
        super().__init__()
        self.offloads = offloads

    def __enter__(self):
        if os.geteuid() != 0:
            raise Unmeasurable("network namespaces need root")
        try:
            self.setUp()
        except BaseException:
            self.doCleanups()
            raise
        return self

    def __exit__(self, *_):
        self.doCleanups()

    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="packet-headers-bench-", dir=memory_folder())
        self.addCleanup(shutil.rmtree, self.folder)
        for space, device, other, mac in ((self.host, "host0", PEER4, PEER_MAC),
                                          (self.peer, "peer0", HOST4, HOST_MAC)):
            space.run(require("sysctl"), "-qw", "net.ipv6.conf.all.disable_ipv6=1")
            space.ip("neigh", "replace", other, "lladdr", mac, "dev", device, "nud", "permanent")
            space.run(require("ethtool"), "-K", device, *(
                word for name in ("tso", "gso", "gro") for word in (name, self.offloads)))

    def packets(self):
        """(Received, given to be sent) by the host's device so far, by its own count."""
        stats = json.loads(self.host.ip("-s", "-j", "link", "show", "host0"))[0]["stats64"]
        return stats["rx"]["packets"], stats["tx"]["packets"] + stats["tx"]["dropped"]

    def cut(self):
        """Ends all traffic: TCP sends on what it has taken, also when its sender has gone."""
        self.peer.ip("link", "set", "peer0", "down")

    def capture(self, name, *flags):
        """Starts one of CAPTURES by its name; it is capturing when this returns."""
        return CAPTURES[name](self, *flags)

    def iperf(self, seconds, streams=1, under=()):
        """
        TCP from the peer to the host; returns bits a second, as received. `under` is a command that
        runs the client.
        """
        require("iperf3")
        server = self.host.popen("iperf3", "-s", "-1", "--forceflush", stdout=subprocess.PIPE,
                                 text=True)
        self.addCleanup(end_process, server)
        self.addCleanup(server.stdout.close)
        for line in server.stdout:
            if "listening" in line:
                break
        told = json.loads(self.peer.run(*under, "iperf3", "-c", HOST4, "-t", str(seconds),
                                        "-P", str(streams), "-J"))
        server.communicate(timeout=30)
        return told["end"]["sum_received"]["bits_per_second"]


def cpu_clock(pid):
    """Seconds that a process has run, all its threads, by the kernel's own clock of it."""
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3)


def cpu_at_exit(pid, seconds):
    """Waits for the end of a child; returns how long it has run in all. It is still to be reaped."""
    wait_until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG),
               f"the end of process {pid}", seconds)
    return cpu_clock(pid)


class MachineClock:
    """Seconds of all processors since it was made."""

    # As in proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
    _BUSY, _KERNEL = (0, 1, 2, 5, 6), (2, 5, 6)

    def __init__(self):
        self._begin = self._read()

    @staticmethod
    def _read():
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(word) for word in file.readline().split()[1:]]
        return [tick / os.sysconf("SC_CLK_TCK") for tick in ticks]

    def _since(self, columns):
        now = self._read()
        return sum(now[column] - self._begin[column] for column in columns)

    def busy(self):
        return self._since(self._BUSY)

    def kernel(self):
        return self._since(self._KERNEL)


class Outcome(NamedTuple):
    """What a capture cost from when it was ready to its end, and what became of the packets."""
    cpu_s: float
    saved: int
    lost: int  # not saved, for whatever reason
    missed: int  # those of the lost that came too fast


class Nothing:
    """No capture."""

    def __init__(self, bed):
        del bed

    def stop(self):
        return Outcome(0.0, 0, 0, 0)


class Ours:
    """The daemon, as it is by default but for the flags that are given."""

    def __init__(self, bed, *flags):
        self._bed = bed
        self._received, _ = bed.packets()
        self.daemon = Daemon(bed, bed.host, *flags)
        self._begin = cpu_clock(self.pid)

    @property
    def pid(self):
        return self.daemon.pid

    def cpu_s(self):
        return cpu_clock(self.pid) - self._begin

    def _seen(self):
        return self.daemon.metric("packets_seen_total", interface="host0", direction="ingress")

    def stop(self, injected=0):
        """
        Every packet that the device received, or that the hook saw leave, is saved or lost.
        Injected are those that arrived without the device's count.
        """
        self._bed.cut()
        received = self._bed.packets()[0] - self._received + injected
        if self._bed.offloads == "off":  # else the device counts packets before it merges them
            wait_until(lambda: self._seen() == received,
                       lambda: f"{self._seen()} packets by the hook, {received} by the device")
        self.daemon.send_signal(signal.SIGTERM)
        spent = cpu_at_exit(self.pid, 120) - self._begin
        self._bed.assertEqual(self.daemon.wait_for_exit(1), 0, self.daemon.log)
        self._bed.assert_books_close(self.daemon)
        books = self.daemon.books()
        arrived, left = (books["host0", direction] for direction in ("ingress", "egress"))
        saved = arrived["saved"] + left["saved"]
        lost = arrived["seen"] + left["seen"] - saved
        missed = sum(way.get(reason, 0) for way in (arrived, left) for reason in TOO_FAST)
        if missed > 0:
            print(f"{missed} packets lost: {books}", file=sys.stderr, flush=True)
        return Outcome(spent, saved, lost, missed)


class _Peer:
    """Another program that writes the first 96 bytes of each packet to one file."""

    def __init__(self, bed, *command):
        self._bed = bed
        self.path = os.path.join(bed.folder, f"{command[0]}.pcap")
        self._log = tempfile.TemporaryFile(dir=bed.folder)
        bed.addCleanup(self._log.close)
        self._before = bed.packets()
        self._process = bed.host.popen(*command, "-i", "host0", "-s", "96", "-w", self.path,
                                       stdout=subprocess.DEVNULL, stderr=self._log)
        bed.addCleanup(end_process, self._process)
        wait_until(lambda: self._READY in self._told(), lambda: f"{command[0]}: {self._told()}")
        self._begin = cpu_clock(self.pid)

    @property
    def pid(self):
        return self._process.pid

    def _told(self):
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode()

    def stop(self, injected=0):
        """
        A stop discards what waits in the kernel's buffer, and a part of that is not told before a
        second has passed: so it waits for an idle capture.
        """
        self._bed.cut()
        packets = sum(self._bed.packets()) - sum(self._before) + injected
        spent = -1.0
        while cpu_clock(self.pid) - spent > 0.001:
            spent = cpu_clock(self.pid)
            time.sleep(IDLE_S)
        self._process.send_signal(signal.SIGINT)
        spent = cpu_at_exit(self.pid, 60) - self._begin
        self._process.wait()
        saved = int(re.search(self._SAVED, self._told())[1])
        os.unlink(self.path)
        return Outcome(spent, saved, packets - saved, packets - saved)


class Tcpdump(_Peer):
    _READY, _SAVED = "listening on", r"(\d+) packets? captured"

    def __init__(self, bed):
        super().__init__(bed, "tcpdump", "-n", "-Z", "root", "-B", str(BUFFER_MIB << 10))


class Dumpcap(_Peer):
    _READY, _SAVED = "File: ", r"Packets captured: (\d+)"

    def __init__(self, bed):
        super().__init__(bed, "dumpcap", "-q", "-B", str(BUFFER_MIB))


CAPTURES = {"none": Nothing, "ours": Ours, "tcpdump": Tcpdump, "dumpcap": Dumpcap}


def contenders(*peers):
    """none, ours, and which of these peers are installed."""
    return ["none", "ours", *(peer for peer in peers if installed(peer))]


def alternate(rounds, names, once):
    """{name: [once(name)]}: in each round each name once, and another one first."""
    results = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in (*names[shift:], *names[:shift]):
            results[name].append(once(name))
    return results
