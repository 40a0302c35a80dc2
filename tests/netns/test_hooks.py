"""Others at the hooks that the daemon uses: it yields or coexists, says so, and replaces nobody."""

import subprocess
import unittest

import bpf
from harness import (BINARY, ENVIRONMENT, HOST4, METRICS_PORT, PEER4, CaptureTest, left_behind,
                     needs_daemon, needs_tcx, needs_tool, tcx_programs, wait_until)
from peers import connect, exchange, listen
from test_http import get

AGAIN_SECONDS = 10  # a round of the daemon, twice
OTHER_FILTER = "1,6 0 0 0"  # classic BPF that matches nothing


class HooksTest(CaptureTest):

    def one_flow(self, daemon):
        """A connection, and the file that it becomes."""
        before = len(daemon.files())
        listener = listen(self, self.host, HOST4)
        client, accepted = connect(self, self.peer, PEER4, listener)
        exchange(client, accepted)
        for sock in (client, accepted, listener):
            sock.close()
        daemon.wait_for_files(before + 1)

    def attached_again(self, daemon, by_whom):
        """Does what detaches the daemon, and sees it back, with one line of complaint."""
        attached = daemon.log.count("attached to host0")
        by_whom()
        wait_until(lambda: daemon.log.count("attached to host0") == attached + 1,
                   lambda: daemon.log, AGAIN_SECONDS)
        self.assertEqual(daemon.log.count("were detached by somebody else"), attached)
        self.one_flow(daemon)

    def tc(self, *arguments, check=True):
        return self.host.run("tc", *arguments, check=check)


@needs_daemon
class Xdp(HooksTest):

    def other(self):
        """Another's program and its id."""
        program = bpf.load(self, bpf.XDP, bpf.XDP_PASS)
        return program, bpf.field_of(program, "prog_id")

    def test_a_slot_that_is_held(self):
        """Refused, with the id of the program that is there; that stays."""
        program, number = self.other()
        bpf.link(self, self.host, "host0", program, bpf.ATTACH_XDP, bpf.XDP_DRIVER_MODE)
        process = self.host.popen(BINARY, "-interface=host0", "-capture.hook=xdp",
                                  "-prometheusx.listen-address=127.0.0.1:9990",
                                  f"-datadir={self.folder}", stderr=subprocess.PIPE, text=True)
        _, error = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 1, error)
        self.assertIn(f"the XDP program with id {number} is there", error)
        self.assertEqual(left_behind(self.host), ["xdp on host0"])

    def test_one_of_several_is_held(self):
        """The others are captured; metrics and /readyz tell of it while it is there."""
        self.host.link_to(self.peer, "host1", "peer1", [], [])
        program, _ = self.other()
        bpf.link(self, self.host, "host1", program, bpf.ATTACH_XDP, bpf.XDP_DRIVER_MODE)
        daemon = self.start_daemon("-capture.hook=xdp", interface=None)
        self.assertEqual(daemon.metric("interface_not_captured", interface="host1"), 1)
        self.assertEqual(daemon.metric("interface_not_captured", interface="host0"), 0)
        with self.host.entered():
            status, text = get(("127.0.0.1", METRICS_PORT), b"/readyz")
        self.assertEqual(status, 200)
        self.assertRegex(text, r"^capturing on \d interface\(s\), not on 2 more$")
        self.host.ip("link", "del", "host1")
        wait_until(lambda: daemon.metric("interface_not_captured", interface="host1") == 0,
                   lambda: daemon.log, AGAIN_SECONDS)
        self.one_flow(daemon)

    @needs_tool("bpftool")
    def test_nobody_replaces_ours(self):
        """Not by a link, nor by a program that is to overwrite what is there."""
        daemon = self.start_daemon("-capture.hook=xdp")
        program, number = self.other()
        with self.assertRaises(OSError):
            bpf.link(self, self.host, "host0", program, bpf.ATTACH_XDP, bpf.XDP_DRIVER_MODE)
        self.host.run("bpftool", "net", "attach", "xdpdrv", "id", str(number), "dev", "host0",
                      "overwrite", check=False)
        self.assertNotIn(f"prog/xdp id {number} ",
                         self.host.ip("-d", "link", "show", "host0"))
        self.one_flow(daemon)
        self.assertEqual(len(self.finish(daemon)), 1)

    @needs_tool("bpftool")
    def test_detached_by_force(self):
        daemon = self.start_daemon("-capture.hook=xdp")
        ingress = bpf.ids_of(daemon.pid, "link_id")[0]
        self.attached_again(
            daemon, lambda: self.host.run("bpftool", "link", "detach", "id", str(ingress)))
        self.assertEqual(len(self.finish(daemon)), 1)


@needs_daemon
@needs_tcx
class Tcx(HooksTest):

    def test_others_before_and_after(self):
        """Those that were there come after ours; one that goes before it may. All stay."""
        hooks = bpf.ATTACH_TCX_INGRESS, bpf.ATTACH_TCX_EGRESS
        program = bpf.load(self, bpf.SCHED_CLS, bpf.TCX_NEXT)
        for hook in hooks:
            bpf.link(self, self.host, "host0", program, hook, 0)
        daemon = self.start_daemon()
        number = bpf.field_of(program, "prog_id")
        for side in ("ingress", "egress"):
            self.assertIn(f"tcx {side} of host0 is shared: program id {number} comes after ours",
                          daemon.log)
        for hook in hooks:
            for flag in (bpf.BEFORE, bpf.AFTER):
                bpf.link(self, self.host, "host0", bpf.load(self, bpf.SCHED_CLS, bpf.TCX_NEXT),
                         hook, flag)
        self.one_flow(daemon)
        self.assertEqual(tcx_programs(self.host, "host0"), 8)
        daemon.send_signal(15)
        self.assertEqual(daemon.wait_for_exit(10), 0)
        self.assert_books_close(daemon)
        self.assertEqual(tcx_programs(self.host, "host0"), 6)

    def test_a_verdict_of_others_hides_nothing(self):
        """A program that drops everything, attached before the daemon: ours still sees it."""
        drop = bpf.link(self, self.host, "host0",
                        bpf.load(self, bpf.SCHED_CLS, bpf.TCX_DROP), bpf.ATTACH_TCX_INGRESS, 0)
        self.assertGreaterEqual(drop, 0)
        daemon = self.start_daemon()
        self.peer.run("ping", "-c", "1", "-W", "1", HOST4, check=False)
        wait_until(lambda: daemon.metric("packets_seen_total", interface="host0",
                                         direction="ingress") > 0, lambda: daemon.log)

    @needs_tool("bpftool")
    def test_detached_by_force(self):
        daemon = self.start_daemon()
        for _ in range(2):
            def detach():
                for number in bpf.ids_of(daemon.pid, "link_id"):
                    self.host.run("bpftool", "link", "detach", "id", str(number))
            self.attached_again(daemon, detach)
        self.assertEqual(len(self.finish(daemon)), 2)


@needs_daemon
class Clsact(HooksTest):

    def start_daemon(self, *flags, **options):
        return super().start_daemon("-capture.hook=clsact", *flags, **options)

    def test_detached_by_others(self):
        """Our filter, or the qdisc with it, is taken away; traffic control is left as it was."""
        daemon = self.start_daemon()
        self.attached_again(daemon,
                            lambda: self.tc("filter", "del", "dev", "host0", "ingress"))
        self.attached_again(daemon,
                            lambda: self.tc("filter", "del", "dev", "host0", "egress"))
        self.attached_again(daemon,
                            lambda: self.tc("qdisc", "del", "dev", "host0", "clsact"))
        self.assertEqual(len(self.finish(daemon)), 3)

    def test_filters_of_others_at_our_priority(self):
        """They stay, and ours sees the packets before them; when we go they stay."""
        self.tc("qdisc", "add", "dev", "host0", "clsact")
        for side in ("ingress", "egress"):
            self.tc("filter", "add", "dev", "host0", side, "protocol", "all", "prio", "1",
                    "handle", "1", "bpf", "bytecode", OTHER_FILTER)
        daemon = self.start_daemon()
        for side in ("ingress", "egress"):
            filters = self.tc("filter", "show", "dev", "host0", side)
            self.assertLess(filters.index("handle 0x7068"), filters.index("handle 0x1 "))
        self.one_flow(daemon)
        daemon.send_signal(15)
        self.assertEqual(daemon.wait_for_exit(10), 0)
        self.assert_books_close(daemon)
        for side in ("ingress", "egress"):
            filters = self.tc("filter", "show", "dev", "host0", side)
            self.assertIn("handle 0x1", filters)
            self.assertNotIn("0x7068", filters)

    def test_another_of_ours(self):
        """The second takes the place; the first says so, yields, and comes back behind it."""
        first = self.start_daemon()
        second = self.start_daemon(metrics_port=9991)
        wait_until(lambda: "another packet-headers took our place at host0" in first.log,
                   lambda: first.log)
        self.assertEqual(first.metric("interface_not_captured", interface="host0"), 1)
        self.one_flow(second)
        self.assertEqual(second.log.count("attached to host0"), 1)
        second.send_signal(15)
        self.assertEqual(second.wait_for_exit(10), 0)
        wait_until(lambda: first.log.count("attached to host0") == 2, lambda: first.log,
                   AGAIN_SECONDS)
        self.assertEqual(first.log.count("took our place"), 1)
        self.assertEqual(first.metric("interface_not_captured"), 0)
        self.one_flow(first)
        self.assertEqual(len(self.finish(first)), 1)


if __name__ == "__main__":
    unittest.main()
