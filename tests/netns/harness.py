"""Network namespaces, the daemon and tcpdump, each taken down by the test that made it."""

import contextlib
import ctypes
import http.client
import itertools
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import index
import pcap

HERE = os.path.dirname(os.path.abspath(__file__))
BINARY = os.path.abspath(os.environ.get(
    "PACKET_HEADERS_BINARY", os.path.join(HERE, "..", "..", "build", "packet-headers")))
PREFIX = "netns-test"
OWN_NAMES = rf"{PREFIX}_[0-9A-F]{{16}}"  # pattern of the UUIDs that the daemon makes itself
METRICS_PORT = 9990
PATIENCE = float(os.environ.get("PACKET_HEADERS_PATIENCE", "1"))  # of waits, on slow machines
MARKER = b"PayloadNotHeader"  # all payloads are made of it, and no file may hold it
HOST4, PEER4 = "10.9.0.1", "10.9.0.2"
HOST6, PEER6 = "fd00:9::1", "fd00:9::2"
HOST_MAC, PEER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
ENVIRONMENT = {"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LC_ALL": "C"}

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_serial = itertools.count(1)


def needs_daemon(test):
    """Skips, with the reason, what can't run here."""
    if os.geteuid() != 0:
        return unittest.skip("needs root")(test)
    if not os.access(BINARY, os.X_OK):
        return unittest.skip(f"no daemon at {BINARY}")(test)
    return test


def needs_tool(name):
    """Skips, with the reason, a test whose tool isn't installed."""
    found = shutil.which(name, path=ENVIRONMENT["PATH"])
    return unittest.skipUnless(found, f"{name} isn't installed")


def run(*command, check=True):
    """Runs a command to its end and returns its stdout."""
    done = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def wait_until(condition, what, seconds=10):
    """Polls until condition() is true and returns its value; fails, saying what, after a while."""
    deadline = time.monotonic() + seconds * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.01)


class Namespace:
    """A network namespace with lo up, deleted when the test ends."""

    def __init__(self, case, role):
        self.name = f"ph{role}-{os.getpid()}"
        run("ip", "netns", "add", self.name)
        case.addCleanup(run, "ip", "netns", "del", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments):
        return run("ip", "-n", self.name, *arguments)

    def run(self, *command, check=True):
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def popen(self, *command, **options):
        """Starts a process here; `ip netns exec` becomes the command, so the id is its own."""
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], env=ENVIRONMENT,
                                **options)

    def enter(self):
        """Moves the calling thread (or a forked process) here for good."""
        with open(f"/run/netns/{self.name}", "rb") as handle:
            if _libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {self.name}")

    @contextlib.contextmanager
    def entered(self):
        """Inside the block this thread is here; sockets made in it stay here for their life."""
        with open(f"/proc/self/task/{threading.get_native_id()}/ns/net", "rb") as home:
            self.enter()
            try:
                yield
            finally:
                if _libc.setns(home.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns back")

    def link_to(self, other, here, there, addresses_here, addresses_there):
        """Joins two namespaces by a veth pair, up and with addresses, ready for traffic."""
        self.ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", other.name)
        for space, device, addresses in ((self, here, addresses_here),
                                         (other, there, addresses_there)):
            for address in addresses:
                space.ip("addr", "add", address, "dev", device,
                         *(["nodad"] if ":" in address else []))
            space.ip("link", "set", device, "up")


class Tcpdump:
    """tcpdump on one interface: the judge of what was on the wire.

    Each packet is written as it comes (-U). A flush by SIGUSR2 would run in tcpdump's signal
    handler, beside the writing that it interrupts, and tear the file now and then.
    """

    _SENTINEL = b"EndOfTheCapture!"

    def __init__(self, case, namespace, interface="host0"):
        self._case, self._namespace, self._interface = case, namespace, interface
        self.path = os.path.join(case.folder, f"tcpdump-{interface}-{next(_serial)}.pcap")
        self._log = open(self.path + ".log", "w+b")
        case.addCleanup(self._log.close)
        self._process = namespace.popen(
            "tcpdump", "-i", interface, "-n", "-Z", "root", "--time-stamp-precision=nano",
            "-B", "262144", "-s", "256", "-U", "-w", self.path, stderr=self._log)
        case.addCleanup(end_process, self._process)
        wait_until(lambda: b"listening on" in self._read_log(), self._read_log)

    def _read_log(self):
        with open(self._log.name, "rb") as file:
            return file.read()

    def _bytes(self):
        with open(self.path, "rb") as file:
            return file.read()

    def wait_for(self, condition, what, seconds=10):
        """Waits until condition(TCP records so far) is true."""
        def holds():
            with contextlib.suppress(ValueError, FileNotFoundError):  # half a record so far
                return condition(pcap.read(self.path).records)
        wait_until(holds, what, seconds)

    def stop(self):
        """Stops once all that was sent before is in the file; returns its TCP records."""
        self._send_sentinel()
        wait_until(lambda: self._SENTINEL in self._bytes(), "tcpdump saw the end of the capture")
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        self._case.assertIn(b"\n0 packets dropped by kernel", self._read_log())
        return pcap.read(self.path).records

    def _send_sentinel(self):
        """A frame of an experimental type (on a tun device, of no IP version) that all ignore."""
        with self._namespace.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        with raw:
            raw.sendto(b"\0" + self._SENTINEL, (self._interface, 0x88B5, 0, 0, b"\xff" * 6))


def rights_of(*capabilities):
    """The words that give a command the rights of nobody, beside these capabilities."""
    these = ",".join(("-all", *(f"+{name}" for name in capabilities)))
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            f"--bounding-set={these}", f"--inh-caps={these}", f"--ambient-caps={these}")


def end_process(process):
    """Ends a process that a test left running."""
    if process.poll() is None:
        process.kill()
    process.wait(10)


def memory_bytes(pid, row="VmRSS"):
    """
    Of a process, by a row of its status (proc_pid_status(5)): VmRSS is what it has now, VmHWM the
    most it has had. 0 once it has ended.
    """
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        found = re.search(rf"^{row}:\s+(\d+) kB$", file.read(), re.M)
    return int(found[1]) << 10 if found else 0


def peak_memory(process):
    """
    Waits for the end of a child, which is still to be reaped; returns the most memory it had, in
    bytes, as looked at every 20 ms. The kernel's own figure, ru_maxrss, may be the parent's.
    """
    ended, peak = os.pidfd_open(process.pid), memory_bytes(process.pid, "VmHWM")
    try:
        while not select.select([ended], [], [], 0.02)[0]:
            peak = max(peak, memory_bytes(process.pid, "VmHWM"))
    finally:
        os.close(ended)
    return peak


class Daemon:
    """
    The program under test; writes to a data directory of its own. A second one beside it takes
    another metrics_port; rights are words before the command, as of rights_of().
    Without wait it may not be ready yet.
    """

    def __init__(self, case, namespace, *flags, interface="host0", datadir=None, prefix=PREFIX,
                 metrics_port=METRICS_PORT, rights=(), wait=True):
        self.case, self.namespace = case, namespace
        serial = next(_serial)
        self.datadir = datadir or os.path.join(case.folder, f"data-{serial}")
        self._metrics_port = metrics_port
        self._log_path = os.path.join(case.folder, f"daemon-{serial}.log")
        prefix_path = os.path.join(case.folder, f"uuid-prefix-{serial}")
        with open(prefix_path, "w", encoding="ascii") as file:
            file.write(prefix)
        arguments = [f"-datadir={self.datadir}", f"-uuid-prefix-file={prefix_path}",
                     f"-prometheusx.listen-address=127.0.0.1:{metrics_port}", "-sigtermwait=0s"]
        if interface:
            arguments.append(f"-interface={interface}")
        with open(self._log_path, "wb") as log:
            self._process = namespace.popen(*rights, BINARY, *arguments, *flags, stderr=log)
        self.pid = self._process.pid
        case.addCleanup(end_process, self._process)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self):
        self.wait_for_log("ready: capturing on ")

    @property
    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_for_log(self, text, seconds=20):
        def appeared():
            if text in self.log:
                return True
            if self._process.poll() is not None:
                raise AssertionError(f"daemon exited {self._process.returncode}:\n{self.log}")
            return False
        wait_until(appeared, lambda: f"{text!r} in the log:\n{self.log}", seconds)

    def metrics(self):
        """All samples as {(name, frozenset of (label, value)): number}."""
        with self.namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", self._metrics_port, timeout=10)
            connection.connect()
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        samples = {}
        for name, labels, value in re.findall(r"^([a-z_]+)(?:\{(.*)\})? (\S+)$", text, re.M):
            key = frozenset(re.findall(r'(\w+)="([^"]*)"', labels))
            samples[name, key] = float(value)
        return samples

    def metric(self, name, family="packet_headers", **labels):
        """The sum of <family>_<name> over all samples that have these labels."""
        wanted = set(labels.items())
        return sum(value for (sample, having), value in self.metrics().items()
                   if sample == f"{family}_{name}" and wanted <= having)

    def lost(self, reason):
        return self.metric("packets_not_saved_total", reason=reason)

    def files(self):
        """The paths of all published files, without those of the index."""
        return sorted(os.path.join(folder, name) for folder, _, names in os.walk(self.datadir)
                      for name in names if not name.startswith(".") and not index.is_index(name))

    def wait_for_files(self, count, seconds=15):
        wait_until(lambda: len(self.files()) >= count,
                   lambda: f"{count} files, {len(self.files())} are there\n{self.log}", seconds)
        return self.files()

    def send_signal(self, number):
        self._process.send_signal(number)

    @property
    def is_running(self):
        return self._process.poll() is None

    def wait_for_exit(self, seconds):
        """The exit code."""
        try:
            return self._process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no exit within {seconds} s:\n{self.log}") from None

    def books(self):
        """The balance at exit: {(interface, direction): {name: count}}."""
        balance = {}
        for line in re.findall(r"books: (.*)", self.log):
            fields = dict(field.split("=", 1) for field in line.split())
            key = fields.pop("interface"), fields.pop("direction")
            balance[key] = {name: int(value) for name, value in fields.items()}
        return balance

    def booked(self, name):
        """One line of the balance, summed over interfaces and directions."""
        return sum(entry.get(name, 0) for entry in self.books().values())


class CaptureTest(unittest.TestCase):
    """Two namespaces joined by a veth pair; the daemon runs in host, traffic comes from peer."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="packet-headers-netns-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.daemons = []
        self.host = Namespace(self, "A")
        self.peer = Namespace(self, "B")
        self.host.link_to(self.peer, "host0", "peer0", [f"{HOST4}/24", f"{HOST6}/64"],
                          [f"{PEER4}/24", f"{PEER6}/64"])
        self.host.ip("link", "set", "host0", "address", HOST_MAC)
        self.peer.ip("link", "set", "peer0", "address", PEER_MAC)

    def folder_in_memory(self):
        """For files of which times or memory are judged: a disk has times of its own."""
        folder = tempfile.mkdtemp(prefix="packet-headers-netns-", dir="/dev/shm")
        self.addCleanup(shutil.rmtree, folder)
        return folder

    def start_daemon(self, *flags, **options):
        self.daemons.append(Daemon(self, self.host, *flags, **options))
        return self.daemons[-1]

    def start_tcpdump(self, interface="host0"):
        return Tcpdump(self, self.host, interface)

    def finish(self, daemon, number=signal.SIGTERM, within=10, names=OWN_NAMES, code=0):
        """
        Ends the daemon and checks what holds for every run; returns {uuid: PcapFile}. names is the
        pattern of the UUIDs, code the exit code: 1 when files could not be saved.
        """
        daemon.send_signal(number)
        self.assertEqual(daemon.wait_for_exit(within), code, daemon.log)
        files = {}
        for path in daemon.files():
            name = os.path.basename(path)
            self.assertRegex(name, rf"^({names})\.pcap$")
            self.assertRegex(os.path.relpath(path, daemon.datadir), r"^\d{4}/\d\d/\d\d/[^/]*$")
            files[name.removesuffix(".pcap")] = self.assert_header_exact(path)
        hidden = [name for _, _, names in os.walk(daemon.datadir) for name in names
                  if name.startswith(".")]
        self.assertEqual(hidden, [], "temp files after exit")
        indexed = {os.path.basename(file): index.packets(line)
                   for file, line in index.read(daemon.datadir).items()}
        if code != 0:  # what has no room for a file may have none for a line
            files_of_lines = {name: len(files[name.removesuffix(".pcap")].records)
                              for name in indexed}
        else:
            files_of_lines = {f"{uuid}.pcap": len(file.records) for uuid, file in files.items()}
        self.assertEqual(indexed, files_of_lines,
                         f"packets by the index, and those in files\n{daemon.log}")
        self.assert_books_close(daemon)
        self.assertEqual(daemon.booked("saved"), sum(len(f.records) for f in files.values()),
                         f"packets saved by the books, and those in files\n{daemon.log}")
        if not any(other.is_running for other in self.daemons):
            self.assertEqual(left_behind(self.host), [], "attached after exit")
        return files

    def assert_books_close(self, daemon):
        """Seen by the hooks = saved + counted reasons, for every interface and direction."""
        balance = daemon.books()
        self.assertTrue(balance, f"no books in the log:\n{daemon.log}")
        for key, entry in balance.items():
            entry = dict(entry)
            self.assertEqual(entry.pop("unaccounted"), 0, f"{key}\n{daemon.log}")
            self.assertEqual(entry.pop("seen"), sum(entry.values()), f"{key}\n{daemon.log}")

    def assert_header_exact(self, path):
        """One flow, in time order, each record ending where its TCP header ends."""
        with open(path, "rb") as file:
            self.assertNotIn(MARKER, file.read(), f"payload in {path}")
        content = pcap.read(path)
        self.assertEqual(content.others, 0, f"records without a TCP header in {path}")
        self.assertEqual(len(pcap.by_flow(content.records)), 1, f"flows in {path}")
        last_ns = 0
        for record in content.records:
            self.assertEqual(record.caplen, record.tcp.end, f"record length in {path}")
            self.assertGreaterEqual(record.wire_bytes, record.caplen, path)
            self.assertGreaterEqual(record.time_ns, last_ns, f"time goes back in {path}")
            last_ns = record.time_ns
        return content


_BPF_PROG_QUERY, _BPF_TCX_INGRESS, _BPF_TCX_EGRESS = 16, 46, 47
_SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(os.uname().machine)


def tcx_programs(namespace, interface):
    """How many programs sit on a device's TCX hooks, or None where the kernel has no TCX."""
    count = 0
    with namespace.entered():
        ifindex = socket.if_nametoindex(interface)
        for hook in (_BPF_TCX_INGRESS, _BPF_TCX_EGRESS):
            query = bytearray(struct.pack("=IIIIQI", ifindex, hook, 0, 0, 0, 0).ljust(64, b"\0"))
            buffer = (ctypes.c_char * len(query)).from_buffer(query)
            if _libc.syscall(_SYS_BPF, _BPF_PROG_QUERY, buffer, len(query)) != 0:
                return None
            count += struct.unpack_from("=I", query, 24)[0]
    return count


def needs_tcx(test):
    """Skips, with the reason, on kernels without TCX."""
    if os.geteuid() != 0:
        return unittest.skip("needs root")(test)
    query = struct.pack("=II", 1, _BPF_TCX_INGRESS).ljust(64, b"\0")
    works = _SYS_BPF and _libc.syscall(_SYS_BPF, _BPF_PROG_QUERY, query, len(query)) == 0
    return unittest.skipUnless(works, "this kernel has no TCX")(test)


def left_behind(namespace):
    """What is attached to the devices of a namespace, one line each."""
    found = [line for line in namespace.run("tc", "qdisc", "show").splitlines()
             if "clsact" in line or "ingress" in line]
    for line in namespace.ip("-o", "link", "show").splitlines():
        device = line.split(": ")[1].split("@")[0]
        if "prog/xdp" in line:
            found.append(f"xdp on {device}")
        if tcx_programs(namespace, device):
            found.append(f"tcx on {device}")
    return found
