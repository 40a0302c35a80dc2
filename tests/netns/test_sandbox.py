"""Least privilege: what each thread can't do once it captures, and that it captures nevertheless."""

import collections
import contextlib
import os
import re
import subprocess
import sys
import unittest

import captures
import pcap
from harness import (BINARY, ENVIRONMENT, HERE, HOST4, METRICS_PORT, PEER4, CaptureTest, left_behind,
                     needs_daemon, needs_tcx, needs_tool, rights_of, wait_until)
from peers import connect, cookie_of, exchange, flow_of, listen
import judge
from test_read import ReadTest
from tcpinfo import EventClient, TcpInfo

TRIES = {"read /etc/shadow", "write outside the data directory", "execute a program",
         "change a file's mode", "have another process signalled", "trace another process",
         "open a TCP socket", "open a UDP socket", "load a BPF program"}
PARTS = {"capabilities", "no_new_privs", "dumpable", "landlock", "seccomp"}
OTHERS = "packet-headers", "publisher", "http"
NOBODY = 65534
CAPABILITIES = {"net_admin": 12, "net_raw": 13}
NO_LANDLOCK = sys.executable, os.path.join(HERE, "without_call.py"), "landlock_create_ruleset"
NO_SECCOMP = sys.executable, os.path.join(HERE, "without_call.py"), "seccomp"


def selftest_of(log):
    """What the self-test says: {thread: {try: whether it was refused}}; several may have a name."""
    found = collections.defaultdict(list)
    for thread, attempt, answer in re.findall(
            r"sandbox selftest: ([^:]+): ([^:]+): (refused|not refused) \(", log):
        found[thread].append((attempt, answer == "refused"))
    return found


def status_of(pid):
    """The fields of each thread's status. A thread may end meanwhile."""
    threads = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with (contextlib.suppress(FileNotFoundError, ProcessLookupError),
              open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file):
            threads.append(dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line))
    return threads


def nice_of(pid):
    """How nice its threads are, but the one that may end meanwhile."""
    return {thread["Name"]: os.getpriority(os.PRIO_PROCESS, int(thread["Pid"]))
            for thread in status_of(pid) if thread["Name"] != "salvage"}


class SandboxTest(CaptureTest):

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o777)

    def start_tested(self, *flags, **options):
        return self.start_daemon("-sandbox=require", "-sandbox.selftest", *flags, **options)

    def assert_sealed(self, daemon, *names, kept=(), user=0, bounding=0):
        """
        Every try of every thread was refused, these among them, and the kernel says the same of
        all threads. No capability is left but those kept.
        """
        found = selftest_of(daemon.log)
        found.pop("salvage", None)  # it may end meanwhile
        self.assertLessEqual({"main", "publisher", "shard 0", "http", *names}, found.keys(), daemon.log)
        threads = status_of(daemon.pid)
        for thread, tries in found.items():
            self.assertEqual({attempt for attempt, _ in tries}, TRIES, thread)
            self.assertTrue(all(refused for _, refused in tries), daemon.log)
        stay = [thread for thread in threads if thread["Name"] != "salvage"]
        self.assertEqual(sum(map(len, found.values())), len(stay) * len(TRIES), daemon.log)
        mask = f"{sum(1 << CAPABILITIES[name] for name in kept):016x}"
        nothing = f"{0:016x}"
        for thread in threads:
            self.assertEqual((thread["CapEff"], thread["CapPrm"]), (mask, mask), thread["Name"])
            self.assertEqual((thread["CapInh"], thread["CapAmb"]), (nothing, nothing))
            self.assertEqual(int(thread["CapBnd"], 16), bounding)
            self.assertEqual((thread["NoNewPrivs"], thread["Seccomp"]), ("1", "2"), thread["Name"])
            self.assertEqual(set(map(int, thread["Uid"].split())), {user})
        metrics = daemon.metrics()
        parts = {dict(labels)["part"]: value for (name, labels), value in metrics.items()
                 if name == "packet_headers_sandbox"}
        self.assertEqual(parts, dict.fromkeys(PARTS, 1))
        self.assertEqual({dict(labels)["capability"] for name, labels in metrics
                          if name == "packet_headers_capability_kept"}, set(kept))
        self.assertEqual(metrics["packet_headers_sandbox_breaches_total", frozenset()], 0)
        with open(f"/proc/{daemon.pid}/limits", encoding="ascii") as file:
            self.assertRegex(file.read(), r"Max core file size +0 +0 ")
        self.assertEqual(os.stat(f"/proc/{daemon.pid}/environ").st_uid, 0, "not dumpable")

    def make_flow(self, server=HOST4, client=PEER4, port=7000):
        """One connection of some segments; returns {cookie: flow key} of its socket in host."""
        listener = listen(self, self.host, server, port)
        caller, accepted = connect(self, self.peer, client, listener)
        owners = {cookie_of(accepted): flow_of(accepted)}
        exchange(caller, accepted)
        for sock in (caller, accepted, listener):
            sock.close()
        return owners

    def finish_with_flow(self, daemon, tcpdump=None):
        """Capture goes on: a flow is saved, packet for packet, and the end is in order."""
        tcpdump = tcpdump or self.start_tcpdump()
        owners = self.make_flow()
        daemon.wait_for_files(1)
        judge.assert_flows(self, self.finish(daemon), tcpdump.stop(), owners)

    def refused(self, *flags, rights=()):
        """Runs a daemon that can't start; its log."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.host.name, *rights, BINARY, "-interface=host0",
             f"-datadir={self.folder}/refused",
             f"-prometheusx.listen-address=127.0.0.1:{METRICS_PORT}", *flags],
            env=ENVIRONMENT, text=True, capture_output=True, timeout=20, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(left_behind(self.host), [])
        return done.stderr


@needs_daemon
class EveryThread(SandboxTest):
    """Each tries what the sandbox forbids, and capture goes on."""

    def with_events(self, *flags, kept=(), user=0):
        """With an event client and an event server."""
        tcpinfo, served = TcpInfo(self), os.path.join(self.folder, "served", "events.sock")
        os.mkdir(os.path.dirname(served))
        os.chown(os.path.dirname(served), user, user)

        def listen_again():
            tcpinfo.stop()
            tcpinfo.listen()
            os.chmod(tcpinfo.path, 0o777)

        listen_again()
        daemon = self.start_tested(f"-tcpinfo.eventsocket={tcpinfo.path}",
                                   f"-eventsocket.serve={served}", "-uuidwaitduration=0s", *flags)
        tcpinfo.accept()
        self.assert_sealed(daemon, "event client", "event server", kept=kept, user=user)
        client = EventClient(self, served)
        listen_again()
        tcpinfo.accept()  # the client comes again, from within the sandbox
        tcpdump = self.start_tcpdump()
        owners = self.make_flow()
        client.wait_for(2)
        client.close()
        daemon.wait_for_files(1)
        datadir = os.stat(daemon.datadir)
        self.assertEqual(datadir.st_uid, user)
        judge.assert_flows(self, self.finish(daemon), tcpdump.stop(), owners)
        self.assertFalse(os.path.exists(served))

    def test_bpf_as_root(self):
        self.with_events("-capture.engine=bpf")

    def test_bpf_as_another_user(self):
        self.with_events("-capture.engine=bpf", "-user=nobody", user=NOBODY)

    def test_pcap_as_root(self):
        self.with_events("-capture.engine=pcap", kept=["net_raw"])

    def test_pcap_as_another_user(self):
        self.with_events("-capture.engine=pcap", f"-user={NOBODY}", kept=["net_raw"], user=NOBODY)

    def test_niceness(self):
        """It takes a right that is gone afterwards; who starts it may have decided."""
        for own, shards, others in ((0, -5, 0), (-5, -5, 0), (3, 3, 3), (-7, -7, -7)):
            with self.subTest(own):
                daemon = self.start_tested("-shards=2", rights=("nice", "-n", str(own)))
                self.assertEqual(nice_of(daemon.pid), {"shard 0": shards, "shard 1": shards,
                                                       **dict.fromkeys(OTHERS, others)})
                self.finish(daemon)

    @needs_tool("setpriv")
    def test_started_with_ambient_capabilities(self):
        """Not by root: the bounding set stays, from which nothing comes back by no_new_privs."""
        rights = ("bpf", "net_admin")
        daemon = self.start_tested("-capture.engine=bpf", rights=rights_of(*rights))
        self.assert_sealed(daemon, user=NOBODY, bounding=1 << 39 | 1 << 12)
        self.finish_with_flow(daemon)

    @needs_tool("setpriv")
    def test_nobody_of_the_same_user_looks_inside(self):
        daemon = self.start_tested("-user=nobody")
        for secret in ("maps", "environ", "mem"):
            with self.assertRaisesRegex(RuntimeError, "denied"):
                self.host.run(*rights_of(), "cat", f"/proc/{daemon.pid}/{secret}")
        self.finish_with_flow(daemon)


@needs_daemon
class AttachingAgain(SandboxTest):
    """To interfaces that come, go down and up, and come again by the same name."""

    def add_extra(self):
        self.host.link_to(self.peer, "extra0", "extra1", ["10.9.1.1/24"], ["10.9.1.2/24"])

    def come_and_go(self, *flags, kept=()):
        """extra0 is there when the daemon starts, and comes again."""
        self.add_extra()
        daemon = self.start_tested(*flags, interface="host0,extra0")
        self.assert_sealed(daemon, kept=kept)
        for is_first in (True, False):
            if not is_first:
                self.add_extra()
            ifindex = self.host.run("cat", "/sys/class/net/extra0/ifindex").strip()
            daemon.wait_for_log(f"attached to extra0 (ifindex {ifindex})")
            self.host.ip("link", "set", "extra0", "down")
            self.host.ip("link", "set", "extra0", "up")
            tcpdump = self.start_tcpdump("extra0")
            owners = self.make_flow("10.9.1.1", "10.9.1.2")
            uuid = judge.uuid_of(*owners)
            path = wait_until(lambda uuid=uuid: next(
                (path for path in daemon.files() if uuid in path), None), f"{uuid} published")
            judge.assert_flows(self, {uuid: pcap.read(path)}, tcpdump.stop(), owners)
            gone = daemon.log.count("let go of extra0")
            self.host.ip("link", "del", "extra0")
            wait_until(lambda gone=gone: daemon.log.count("let go of extra0") == gone + 1,
                       lambda: daemon.log)
        self.assertEqual(len(self.finish(daemon)), 2)

    @needs_tcx
    def test_tcx(self):
        self.come_and_go("-capture.hook=tcx")

    @needs_tcx
    def test_xdp(self):
        self.come_and_go("-capture.hook=xdp")

    def test_clsact(self):
        """It takes CAP_NET_ADMIN, also to detach at the end, which leaves nothing behind."""
        self.come_and_go("-capture.hook=clsact", kept=["net_admin"])

    def test_pcap(self):
        self.come_and_go("-capture.engine=pcap", kept=["net_raw"])

    def test_pcap_as_another_user(self):
        daemon = self.start_tested("-capture.engine=pcap", "-user=nobody", interface=None)
        self.add_extra()
        daemon.wait_for_log("attached to extra0")
        self.finish_with_flow(daemon)


@needs_daemon
class WithoutParts(SandboxTest):

    def test_off(self):
        """Leaves all as it is. The self-test says so, and shows that its tries can succeed."""
        daemon = self.start_daemon("-sandbox=off", "-sandbox.selftest")
        own, = (thread for thread in status_of("self") if thread["Pid"] == str(os.getpid()))
        for thread in status_of(daemon.pid):
            self.assertEqual((thread["CapEff"], thread["NoNewPrivs"], thread["Seccomp"]),
                             (own["CapEff"], "0", own["Seccomp"]))
        found = selftest_of(daemon.log)
        self.assertGreater(len(found), 3)
        for thread, tries in found.items():
            self.assertEqual({attempt for attempt, refused in tries if not refused}, TRIES, thread)
        self.assertEqual(daemon.metric("sandbox_breaches_total"),
                         sum(map(len, found.values())))
        self.assertEqual(daemon.metric("sandbox"), 0)
        self.assertIn("sandbox: off", daemon.log)
        self.finish_with_flow(daemon)

    def test_required_but_no_landlock(self):
        log = self.refused("-sandbox=require", rights=NO_LANDLOCK)
        self.assertRegex(log, r" error -sandbox=require: landlock: .*Function not implemented.*"
                              r"-sandbox=auto")

    def test_required_but_no_seccomp(self):
        log = self.refused("-sandbox=require", rights=NO_SECCOMP)
        self.assertRegex(log, r" error -sandbox=require: seccomp: .*-sandbox=auto")

    def test_auto_goes_on_without_landlock(self):
        """And says so, in the log, in a metric, and in what the self-test finds."""
        daemon = self.start_daemon("-sandbox.selftest", rights=NO_LANDLOCK)
        self.assertRegex(daemon.log, r"warning sandbox: going on without .*landlock")
        self.assertRegex(daemon.log, r"sandbox: user root, no capabilities, .*, seccomp\n")
        self.assertEqual(daemon.metric("sandbox", part="landlock"), 0)
        self.assertEqual(daemon.metric("sandbox", part="seccomp"), 1)
        breaches = {attempt for tries in selftest_of(daemon.log).values()
                    for attempt, refused in tries if not refused}
        self.assertIn("write outside the data directory", breaches)
        self.assertNotIn("open a TCP socket", breaches)
        self.assertGreater(daemon.metric("sandbox_breaches_total"), 0)
        self.finish_with_flow(daemon)


@needs_daemon
class Users(SandboxTest):

    def test_data_directory_of_another(self):
        """Not even root writes there, since it gives up the right to."""
        for owner, flag in ((0, "-user=nobody"), (NOBODY, "-user=root")):
            with self.subTest(flag):
                datadir = os.path.join(self.folder, f"of-{owner}")
                os.mkdir(datadir, 0o755)
                os.chown(datadir, owner, owner)
                log = self.refused(flag, f"-datadir={datadir}")
                self.assertRegex(log, rf" error .*{datadir}.*user {flag[6:]} .*chown.*-datadir")

    def test_no_such_user(self):
        self.assertRegex(self.refused("-user=nobody-by-that-name"), " error .*no such user")

    @needs_tool("setpriv")
    def test_only_root_can(self):
        log = self.refused("-user=root", rights=rights_of("bpf", "net_admin"))
        self.assertRegex(log, " error .*only root can become another user")

    def test_without_sandbox(self):
        """The user is another one all the same."""
        daemon = self.start_daemon("-user=nobody", "-sandbox=off")
        for thread in status_of(daemon.pid):
            self.assertEqual(thread["Uid"].split(), [str(NOBODY)] * 4)
            self.assertEqual((thread["Gid"].split(), thread["Groups"].split()),
                             ([str(NOBODY)] * 4, []))
        self.finish_with_flow(daemon)


@needs_daemon
class CaptureFiles(ReadTest):
    """-read, for what it reads was written by strangers."""

    def setUp(self):
        super().setUp()
        connection = captures.Connection(captures.CLIENT, captures.SERVER, captures.START_NS)
        self.packets = connection.whole().packets
        self.content = captures.pcap_bytes(self.packets)

    def test_every_thread(self):
        link = self.new_path("link.pcap")
        os.symlink(self.write(self.content), link)
        for arguments, data in (([link], None), (["-"], self.content),
                                (["/dev/stdin"], self.content)):
            with self.subTest(arguments):
                split = self.split("-read", *arguments, "-sandbox=require", "-sandbox.selftest",
                                   data=data)
                self.assert_flows(split, self.packets)
                found = selftest_of(split.log)
                # That of the salvage may have ended before.
                self.assertEqual(found.keys() | {"salvage"}, {"main", "publisher", "salvage"})
                for tries in found.values():
                    self.assertEqual(set(tries), {(attempt, True) for attempt in TRIES})

    def test_no_privilege_while_reading(self):
        process, _ = self.start("-read", "-", stdin=subprocess.PIPE)
        nothing = f"{0:016x}"
        def sealed():
            return {(thread["CapEff"], thread["NoNewPrivs"], thread["Seccomp"])
                    for thread in status_of(process.pid)} == {(nothing, "1", "2")}
        wait_until(sealed, "in the sandbox")
        process.communicate(self.content, timeout=20)
        self.assertEqual(process.returncode, 0)

    def test_another_user(self):
        os.chmod(self.folder, 0o777)
        split = self.split("-read", self.write(self.content), "-user=nobody", "-sandbox=require")
        self.assert_flows(split, self.packets)
        for path in split.paths():
            self.assertEqual(os.stat(os.path.join(split.datadir, path)).st_uid, NOBODY)

    def test_root_reads_what_is_its_own(self):
        """It is told what to do about the rest."""
        path = self.write(self.content)
        os.chown(path, NOBODY, NOBODY)
        os.chmod(path, 0o600)
        split = self.split("-read", path, code=2)
        self.assertRegex(self.one_error(split), "denied.*-sandbox=off")
        self.assert_flows(self.split("-read", path, "-sandbox=off"), self.packets)


if __name__ == "__main__":
    unittest.main()
