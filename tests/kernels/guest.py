"""The tests that run in the virtual machine, a line each: what works on this kernel."""

import json
import os
import re
import signal
import subprocess
import time
import unittest

import bpf
import pcap
from harness import (BINARY, HOST4, PEER4, CaptureTest, left_behind, rights_of, run, wait_until)
from peers import Storm, connect, exchange, listen, payload

VERDICT = "all kernel tests passed"
KERNEL = tuple(int(number) for number in os.uname().release.split(".")[:2])
HAS_MEMORY_BY_CGROUP = KERNEL >= (5, 11)  # before, BPF maps are locked memory of the user
HAS_SOCKET_COOKIE_IN_TRACING = KERNEL >= (5, 12)
HAS_LANDLOCK = KERNEL >= (5, 13)
HAS_XDP_FRAGS = KERNEL >= (5, 18)
HAS_TCX = KERNEL >= (6, 6)
TC = "tcx" if HAS_TCX else "clsact"

# Before, the verifier lets no program without it compare pointers into a packet.
WORKS_WITHOUT_PERFMON = KERNEL >= (6, 1)

# A filter takes CAP_NET_ADMIN, a link nothing; without CAP_BPF no map could be used before 5.19,
# where unprivileged BPF is off.
CAP_NET_ADMIN, CAP_BPF = 1 << 12, 1 << 39
RIGHTS_LEFT = (0 if HAS_TCX else CAP_NET_ADMIN) | (0 if KERNEL >= (5, 19) else CAP_BPF)

CAN_LOAD = rights_of("bpf", "net_admin", *([] if WORKS_WITHOUT_PERFMON else ["perfmon"]))
# Whoever starts the daemon has to raise the limit, as LimitMEMLOCK= of systemd does.
LOCKS_MEMORY = ("prlimit", "--memlock=unlimited")


class Kernel(CaptureTest):

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o777)  # for daemons of nobody

    def storm(self, connections, *flags, **options):
        """Short connections: a file each, whole and rightly named. Returns the log."""
        storm = Storm(self.peer, PEER4, self.host, HOST4, connections)
        daemon = self.start_daemon(*flags, **options)
        _, owners = storm.run(self)
        self.assertEqual(len(owners), connections)
        daemon.wait_for_files(connections, 60)
        files = self.finish(daemon, within=30)
        self.assertEqual(set(files), {f"netns-test_{cookie:016X}" for cookie in owners})
        for cookie, flow in owners.items():
            records = files[f"netns-test_{cookie:016X}"].records
            self.assertEqual({record.flow for record in records}, {flow})
            for flag in (pcap.SYN, pcap.FIN):
                senders = {record.tcp.source for record in records if record.tcp.flags & flag}
                self.assertEqual(len(senders), 2)
        return daemon.log

    def refusal(self, *flags, rights=()):
        """What a daemon says that doesn't start."""
        process = self.host.popen(*rights, BINARY, "-interface=host0", f"-datadir={self.folder}",
                                  *flags, stderr=subprocess.PIPE, text=True)
        _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, error)
        return error

    def one_flow(self, daemon, host="10.9.0.1", peer="10.9.0.2"):
        before = len(daemon.files())
        listener = listen(self, self.host, host)
        client, accepted = connect(self, self.peer, peer, listener)
        exchange(client, accepted)
        for sock in (client, accepted, listener):
            sock.close()
        daemon.wait_for_files(before + 1, 60)

    def test_short_connections(self):
        """Every program is loaded, and the hook that there is is taken."""
        log = self.storm(200, "-capture.engine=bpf")
        self.assertIn(f"ingress {TC}, egress {TC}", log)

    def test_programs(self):
        """None is left out but for what the kernel lacks."""
        self.start_daemon("-capture.engine=bpf")
        loaded = {program.get("name") for program in json.loads(run("bpftool", "-j", "prog"))}
        expected = {"ph_tc_in_eth", "ph_tc_out_eth", "ph_tc_in_ip", "ph_tc_out_ip",
                    "ph_touch_ring"}
        if HAS_XDP_FRAGS:
            expected.add("ph_xdp_in_eth")
        self.assertEqual({name for name in loaded if name and name.startswith("ph_")}, expected)

    def test_few_capabilities(self):
        """CAP_BPF and CAP_NET_ADMIN are enough, for a user of no other right; 5.10 wants more."""
        if not WORKS_WITHOUT_PERFMON:
            rights = (*LOCKS_MEMORY, *rights_of("bpf", "net_admin"))
            self.assertIn("CAP_PERFMON", self.refusal("-capture.engine=bpf", rights=rights))
        log = self.storm(40, "-capture.engine=bpf", rights=(*LOCKS_MEMORY, *CAN_LOAD))
        self.assertIn(f"ingress {TC}, egress {TC}", log)

    def test_locked_memory(self):
        """Where maps are locked memory, too low a limit is named."""
        if HAS_MEMORY_BY_CGROUP:
            self.skipTest("no limit since 5.11")
        error = self.refusal("-capture.engine=bpf", rights=CAN_LOAD)
        self.assertIn("RLIMIT_MEMLOCK", error)

    def test_xdp(self):
        """By name also on a veth; a kernel that can't says what it would need."""
        if HAS_XDP_FRAGS:
            self.assertIn("ingress xdp", self.storm(40, "-capture.hook=xdp"))
        else:
            self.assertIn("needs Linux 5.18", self.refusal("-capture.hook=xdp"))

    def test_driver_with_xdp(self):
        """A physical device is captured by XDP, or by TC while another program is there."""
        self.addCleanup(self.host.ip, "link", "set", "eth0", "netns", "1")
        run("ip", "link", "set", "eth0", "netns", self.host.name)
        self.host.ip("link", "set", "eth0", "up")
        daemon = self.start_daemon(interface="eth0")
        self.assertIn(f"ingress {'xdp' if HAS_XDP_FRAGS else TC}, egress {TC}", daemon.log)
        self.finish(daemon)
        program = bpf.load(self, bpf.XDP, bpf.XDP_PASS)
        number = bpf.field_of(program, "prog_id")
        bpf.link(self, self.host, "eth0", program, bpf.ATTACH_XDP, bpf.XDP_DRIVER_MODE)
        daemon = self.start_daemon(interface="eth0")
        self.assertIn(f"ingress {TC}, egress {TC}", daemon.log)
        if HAS_XDP_FRAGS:
            self.assertIn(f"{TC} instead: attach xdp to eth0", daemon.log)
            self.assertIn(f"the XDP program with id {number} is there", daemon.log)
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0, daemon.log)
        self.assertEqual(left_behind(self.host), ["xdp on eth0"])

    def test_clsact_behind_another_kind_of_filter(self):
        """At our priority there is one that we can't be among: ours comes behind, and says so."""
        run("tc", "-n", self.host.name, "qdisc", "add", "dev", "host0", "clsact")
        for side in ("ingress", "egress"):
            run("tc", "-n", self.host.name, "filter", "add", "dev", "host0", side, "prio", "1",
                "matchall", "action", "continue")
        daemon = self.start_daemon("-capture.hook=clsact")
        for side in ("ingress", "egress"):
            self.assertIn(f"clsact {side} of host0 is shared: 1 filter(s) of others come before",
                          daemon.log)
        self.one_flow(daemon)
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0, daemon.log)
        self.assert_books_close(daemon)
        for side in ("ingress", "egress"):
            filters = run("tc", "-n", self.host.name, "filter", "show", "dev", "host0", side)
            self.assertIn("matchall", filters)
            self.assertNotIn("0x7068", filters)

    def interfaces_come_and_go(self, **options):
        """With the least rights that the kernel lets us do with."""
        daemon = self.start_daemon(interface=None, **options)
        with open(f"/proc/{daemon.pid}/status", encoding="ascii") as file:
            capabilities = int(re.search(r"CapEff:\s*(\S+)", file.read())[1], 16)
        self.assertEqual(capabilities, RIGHTS_LEFT)
        self.host.ip("link", "set", "host0", "down")
        self.host.ip("link", "set", "host0", "up")
        self.one_flow(daemon)
        for times in (1, 2):
            self.host.link_to(self.peer, "extra0", "extra1", ["10.9.1.1/24"], ["10.9.1.2/24"])
            wait_until(lambda: daemon.log.count("attached to extra0") == times,
                       lambda: daemon.log)
            self.one_flow(daemon, "10.9.1.1", "10.9.1.2")
            self.host.ip("link", "del", "extra0")
            wait_until(lambda: daemon.log.count("let go of extra0") == times, lambda: daemon.log)
        self.assertEqual(len(self.finish(daemon, within=30)), 3)

    def test_interfaces_come_and_go(self):
        self.interfaces_come_and_go()

    def test_interfaces_come_and_go_with_few_capabilities(self):
        self.interfaces_come_and_go(rights=(*LOCKS_MEMORY, *CAN_LOAD))

    def test_sandbox(self):
        """What a thread may not is refused; without Landlock all but what it does with files."""
        if HAS_LANDLOCK:
            daemon = self.start_daemon("-sandbox=require", "-sandbox.selftest")
            self.assertRegex(daemon.log, r"sandbox: user root, .*landlock ABI \d+, seccomp")
        else:
            self.assertIn("Linux 5.13 or newer has", self.refusal("-sandbox=require"))
            daemon = self.start_daemon("-sandbox.selftest")
            self.assertRegex(daemon.log, r"sandbox: user root, .*not dumpable, seccomp")
        tries = re.findall(r"sandbox selftest: [^:]+: ([^:]+): (refused|not refused) ", daemon.log)
        self.assertIn(("load a BPF program", "refused"), tries)
        self.assertEqual({what for what, answer in tries if answer != "refused"},
                         set() if HAS_LANDLOCK else {"read /etc/shadow",
                                                     "write outside the data directory"})
        self.one_flow(daemon)
        self.assertEqual(len(self.finish(daemon)), 1)

    def test_settled(self):
        """The kernel is told of flows whose capture is over."""
        daemon = self.start_daemon("-captureduration=2s", "-uuidwaitduration=1s")
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        daemon.wait_for_files(1, 30)
        def goes_on():
            exchange(client, accepted, 100)
            return daemon.lost("settled") > 0
        wait_until(goes_on, lambda: daemon.log, 30)
        self.finish(daemon)

    def test_killed(self):
        """No link outlives the process; a filter does, and the next start takes its place."""
        daemon = self.start_daemon()
        daemon.send_signal(signal.SIGKILL)
        daemon.wait_for_exit(10)
        left = left_behind(self.host)
        self.assertEqual(len(left), 0 if HAS_TCX else 1, left)
        daemon = self.start_daemon()
        self.one_flow(daemon)
        self.assertEqual(len(self.finish(daemon)), 1)

    def test_pcap(self):
        """libpcap needs CAP_NET_RAW alone."""
        self.storm(40, "-capture.engine=pcap", rights=rights_of("net_raw"))

    def test_socket_events(self):
        """The tracepoint is loaded where the kernel tells the cookie there."""
        path = os.path.join(self.folder, "events.sock")
        if HAS_SOCKET_COOKIE_IN_TRACING:
            daemon = self.start_daemon(f"-eventsocket.serve={path}")
            self.one_flow(daemon)
            self.finish(daemon)
        else:
            self.assertIn("5.12", self.refusal(f"-eventsocket.serve={path}"))


class Result(unittest.TestResult):
    """A line for each test, as it ends."""

    def startTest(self, test):
        super().startTest(test)
        self._began = time.monotonic()

    def _say(self, verdict, test, reason=""):
        name = test.id().rsplit(".", maxsplit=1)[-1].removeprefix("test_")
        print(f"{verdict}: {name} ({time.monotonic() - self._began:.1f} s)"
              + (f": {reason}" if reason else ""), flush=True)

    def addSuccess(self, test):
        self._say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say("skipped", test, reason)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._say("FAILED", test, self.failures[-1][1])

    def addError(self, test, err):
        super().addError(test, err)
        self._say("FAILED", test, self.errors[-1][1])


if __name__ == "__main__":
    if unittest.defaultTestLoader.loadTestsFromTestCase(Kernel).run(Result()).wasSuccessful():
        print(VERDICT, flush=True)
