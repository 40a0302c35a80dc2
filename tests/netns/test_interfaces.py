"""Interfaces of every kind: added and deleted, tagged frames, L3 devices, hooks by name."""

import json
import os
import time
import unittest

import bpf
import judge
import pcap
from harness import (HOST4, PEER4, PEER_MAC, CaptureTest, Namespace, left_behind,
                     memory_bytes, needs_daemon, needs_tcx, needs_tool, run, tcx_programs,
                     wait_until)
from peers import RawPeer, TunPair, connect, cookie_of, exchange, flow_of, listen, payload

VLAN, QINQ = 0x8100, 0x88A8
PRIORITY_5 = 5 << 13  # VLAN 0 with a priority: the kernel takes such frames without a VLAN device
VLAN_42 = 42


@needs_daemon
class ComingAndGoing(CaptureTest):

    def test_added_and_deleted_while_running(self):
        """Without -interface a new device is attached as it comes and let go as it goes."""
        daemon = self.start_daemon(interface=None)
        for _ in range(2):  # the second time under the same name
            self.host.link_to(self.peer, "extra0", "extra1", ["10.9.1.1/24"], ["10.9.1.2/24"])
            ifindex = self.host.run("cat", "/sys/class/net/extra0/ifindex").strip()
            daemon.wait_for_log(f"attached to extra0 (ifindex {ifindex})")
            tcpdump = self.start_tcpdump("extra0")
            listener = listen(self, self.host, "10.9.1.1")
            client, accepted = connect(self, self.peer, "10.9.1.2", listener)
            exchange(client, accepted)
            owners = {cookie_of(accepted): flow_of(accepted)}
            for sock in (client, accepted, listener):
                sock.close()
            captured = tcpdump.stop()
            gone = daemon.log.count("let go of extra0")
            self.host.ip("link", "del", "extra0")
            wait_until(lambda: daemon.log.count("let go of extra0") == gone + 1,
                       lambda: daemon.log)
            uuid = judge.uuid_of(*owners)
            wait_until(lambda: any(uuid in path for path in daemon.files()), f"{uuid} published")
            path, = (path for path in daemon.files() if uuid in path)
            judge.assert_flows(self, {uuid: pcap.read(path)}, captured, owners)
        self.assertEqual(len(self.finish(daemon)), 2)

    def test_a_named_one_is_gone(self):
        """The metric tells as long as it is."""
        self.host.link_to(self.peer, "extra0", "extra1", [], [])
        daemon = self.start_daemon("-interface=extra0")
        self.assertEqual(daemon.metric("interface_not_captured"), 0)
        self.host.ip("link", "del", "extra0")
        wait_until(lambda: daemon.metric("interface_not_captured", interface="extra0") == 1,
                   lambda: daemon.log)
        self.assertIn("there is no interface extra0 any more", daemon.log)
        self.host.link_to(self.peer, "extra0", "extra1", [], [])
        wait_until(lambda: daemon.metric("interface_not_captured") == 0, lambda: daemon.log)
        self.finish(daemon)

    def test_every_interface_that_is_up(self):
        """Without -interface: host0 and lo, each named in the log; -interface takes a list."""
        daemon = self.start_daemon(interface=None)
        self.assertIn("attached to host0 (ifindex ", daemon.log)
        self.assertIn("attached to lo (ifindex ", daemon.log)
        self.assertIn("ready: capturing on 2 interface(s)", daemon.log)
        self.finish(daemon)
        daemon = self.start_daemon(interface="host0,lo")
        self.assertIn("ready: capturing on 2 interface(s)", daemon.log)
        self.finish(daemon)


@needs_daemon
@needs_tool("bpftool")
class Flapping(CaptureTest):
    """One interface that never rests, in five ways, and a connection over it each time."""

    ATTACHED_WITHIN_S = 1
    MOST_GROWTH_BYTES = 4 << 20  # of the daemon's memory: what its flows and files leave behind

    def setUp(self):
        super().setUp()
        self.latencies = []
        self.uuids = set()
        self.name = "flap0"
        self.make()

    def make(self):
        self.host.link_to(self.peer, "flap0", "flap1", ["10.9.1.1/24"], ["10.9.1.2/24"])

    def bring_up(self):
        self.host.ip("addr", "replace", "10.9.1.1/24", "dev", self.name)
        self.host.ip("link", "set", self.name, "up")

    def attach_line(self):
        """What the daemon says when it attaches to the interface that is there now."""
        ifindex = self.host.run("cat", f"/sys/class/net/{self.name}/ifindex").strip()
        return f"attached to {self.name} (ifindex {ifindex})"

    def go_down_and_up(self):
        self.host.ip("link", "set", self.name, "down")
        return self.timed(self.bring_up, 0)

    def change_its_mtu(self):
        mtu = self.host.run("cat", f"/sys/class/net/{self.name}/mtu").strip()
        return self.timed(lambda: self.host.ip("link", "set", self.name, "mtu",
                                               "1400" if mtu == "1500" else "1500"), 0)

    def get_another_name(self):
        """Whoever looks at the metrics finds it under the new one."""
        old, self.name = self.name, "flap0" if self.name != "flap0" else "renamed0"
        self.host.ip("link", "set", old, "down")
        self.host.ip("link", "set", old, "name", self.name)
        return self.timed(self.bring_up, 0)

    def be_made_again(self):
        gone = self.daemon.log.count("let go of")
        self.host.ip("link", "del", self.name)
        self.name = "flap0"
        wait_until(lambda: self.daemon.log.count("let go of") == gone + 1,
                   lambda: self.daemon.log)
        return self.timed(self.make, 1)

    def move_away_and_back(self):
        gone = self.daemon.log.count("let go of")
        self.host.ip("link", "set", self.name, "netns", self.away.name)
        wait_until(lambda: self.daemon.log.count("let go of") == gone + 1,
                   lambda: self.daemon.log)
        self.away.ip("link", "set", self.name, "netns", self.host.name)
        return self.timed(self.bring_up, 1)

    def timed(self, event, attachments):
        """How long the daemon took from the event on; so often it has to attach anew."""
        before = self.daemon.log.count("attached to ")
        began = time.monotonic()
        event()
        line = self.attach_line()
        wait_until(lambda: self.daemon.log.count("attached to ") == before + attachments,
                   lambda: self.daemon.log)
        if attachments:
            self.assertIn(line, self.daemon.log)
        wait_until(lambda: self.daemon.metric("interface_attached", interface=self.name) == 2,
                   lambda: self.daemon.log)
        self.latencies.append(time.monotonic() - began)

    def connection(self):
        listener = listen(self, self.host, "10.9.1.1")
        client, accepted = connect(self, self.peer, "10.9.1.2", listener)
        exchange(client, accepted)
        self.uuids.add(judge.uuid_of(cookie_of(accepted)))
        for sock in (client, accepted, listener):
            sock.close()

    def wait_until_saved(self):
        def saved():
            return {os.path.basename(path).removesuffix(".pcap") for path in self.daemon.files()}
        wait_until(lambda: self.uuids <= saved(), lambda: self.uuids - saved())

    def held(self):
        """What the daemon holds: BPF objects by kind and counters; memory in bytes."""
        pid, held = self.daemon.pid, {}
        for kind in ("prog_id", "map_id", "link_id"):
            held[kind] = len(bpf.ids_of(pid, kind))
        for number in bpf.ids_of(pid, "map_id"):
            found = json.loads(run("bpftool", "-j", "map", "show", "id", str(number)))
            if found["name"] == "ph_counters_2nd":
                held["more counters"] = len(json.loads(
                    run("bpftool", "-j", "map", "dump", "id", str(number))))
            elif found["name"] == "ph_counters":
                rows = json.loads(run("bpftool", "-j", "map", "dump", "id", str(number)))
                held["rows of counters"] = sum(
                    row["formatted"]["values"][0]["value"]["ifindex"] != 0 for row in rows)
        return held, memory_bytes(pid, "RssAnon")

    def descriptors(self):
        """Files that are being written and requests of metrics included."""
        return len(os.listdir(f"/proc/{self.daemon.pid}/fd"))

    def flap(self, cycles, *flags):
        """So many cycles, all five ways in turn."""
        self.away = Namespace(self, "C")
        self.daemon = self.start_daemon(*flags, interface=None)
        ways = (self.go_down_and_up, self.change_its_mtu, self.get_another_name,
                self.be_made_again, self.move_away_and_back)
        for way in ways:  # what is made once and stays is there afterwards
            way()
            self.connection()
        self.wait_until_saved()
        (held, memory), descriptors = self.held(), self.descriptors()
        for cycle in range(cycles):
            way = ways[cycle % len(ways)]
            with self.subTest(cycle=cycle, way=way.__name__):
                way()
                self.connection()
        self.wait_until_saved()
        held_later, memory_later = self.held()
        wait_until(lambda: self.descriptors() <= descriptors, self.descriptors)
        self.latencies.sort()
        print(f"\n  {self.id().split('.', 1)[-1]}: attached after {self.latencies[0] * 1000:.0f} "
              f"to {self.latencies[-1] * 1000:.0f} ms, median "
              f"{self.latencies[len(self.latencies) // 2] * 1000:.0f} ms; {held_later}; "
              f"{(memory_later - memory) >> 10} KiB more memory", flush=True)
        self.assertLess(self.latencies[-1], self.ATTACHED_WITHIN_S)
        self.assertEqual(held_later, held)
        self.assertLess(memory_later - memory, self.MOST_GROWTH_BYTES)
        self.assertEqual(len(self.uuids), cycles + len(ways))
        self.assertLessEqual(self.uuids, set(self.finish(self.daemon)))

    def test_a_hundred_times(self):
        self.flap(100)

    def test_clsact(self):
        self.flap(15, "-capture.hook=clsact")


@needs_daemon
class Hooks(CaptureTest):

    def one_flow(self, *flags):
        """Saves one flow; returns the log and what was attached meanwhile."""
        daemon, tcpdump = self.start_daemon(*flags), self.start_tcpdump()
        attached = left_behind(self.host)
        for direction in ("ingress", "egress"):
            self.assertEqual(daemon.metric("interface_attached", interface="host0",
                                           direction=direction), 1)
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        owners = {cookie_of(accepted): flow_of(accepted)}
        exchange(client, accepted)
        client.close()
        accepted.close()
        daemon.wait_for_files(1)
        judge.assert_flows(self, self.finish(daemon), tcpdump.stop(), owners)
        return daemon.log, attached

    @needs_tcx
    def test_auto_takes_tcx_on_veth(self):
        """Never XDP, which costs a veth more than half of its throughput."""
        log, attached = self.one_flow()
        self.assertIn("ingress tcx, egress tcx", log)
        self.assertEqual(attached, ["tcx on host0"])

    @needs_tcx
    def test_tcx(self):
        log, attached = self.one_flow("-capture.hook=tcx")
        self.assertIn("ingress tcx, egress tcx", log)
        self.assertEqual(attached, ["tcx on host0"])

    def test_clsact(self):
        log, attached = self.one_flow("-capture.hook=clsact")
        self.assertIn("ingress clsact, egress clsact", log)
        self.assertEqual(len(attached), 1)
        self.assertIn("qdisc clsact", attached[0])

    def test_xdp(self):
        log, attached = self.one_flow("-capture.hook=xdp")
        self.assertIn("ingress xdp", log)
        self.assertIn("xdp on host0", attached)

    @needs_tcx
    def test_a_qdisc_of_others_stays(self):
        """A clsact qdisc that was there before is used, and left."""
        self.host.run("tc", "qdisc", "add", "dev", "host0", "clsact")
        daemon = self.start_daemon("-capture.hook=clsact")
        daemon.send_signal(15)
        self.assertEqual(daemon.wait_for_exit(5), 0)
        self.assert_books_close(daemon)
        self.assertEqual(len(left_behind(self.host)), 1)
        for side in ("ingress", "egress"):
            self.assertEqual(self.host.run("tc", "filter", "show", "dev", "host0", side), "")
        self.assertEqual(tcx_programs(self.host, "host0"), 0)


@needs_daemon
class Tagged(CaptureTest):

    def flow(self, tags, *flags):
        """A connection whose inbound frames are tagged, by a peer of raw frames."""
        self.host.ip("neigh", "add", "10.9.0.66", "lladdr", PEER_MAC, "dev", "host0")
        daemon, tcpdump = self.start_daemon(*flags), self.start_tcpdump()
        listener = listen(self, self.host, HOST4)
        raw = RawPeer(self, self.peer, ("10.9.0.66", 40000), (HOST4, 7000), tags)
        raw.handshake()
        accepted, _ = listener.accept()
        with accepted:
            raw.send(pcap.PSH | pcap.ACK, payload(500))
            self.assertEqual(accepted.recv(1000), payload(500))
            cookie = cookie_of(accepted)
        raw.receive(pcap.FIN)
        raw.send(pcap.FIN | pcap.ACK)
        daemon.wait_for_files(1)
        captured = tcpdump.stop()
        inbound = [r for r in captured if r.tcp.destination[1] == 7000]
        self.assertEqual([r.tcp.ip_offset for r in inbound], [14 + 4 * len(tags)] * 4)
        judge.assert_flows(self, self.finish(daemon), captured, {cookie: raw.flow})

    def test_vlan(self):
        """The tag that the kernel took out of the frame is back in the file."""
        self.flow([(VLAN, PRIORITY_5)])

    def test_qinq(self):
        self.flow([(QINQ, PRIORITY_5), (VLAN, PRIORITY_5)])

    def test_vlan_clsact(self):
        self.flow([(VLAN, PRIORITY_5)], "-capture.hook=clsact")

    def test_qinq_xdp(self):
        self.flow([(QINQ, PRIORITY_5), (VLAN, PRIORITY_5)], "-capture.hook=xdp")

    def test_a_vlan_of_nobody(self):
        """Frames of a VLAN that the host has no device for: seen, unowned, no file."""
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        listen(self, self.host, HOST4)
        for tags in ([(VLAN, VLAN_42)], [(QINQ, VLAN_42), (VLAN, VLAN_42)]):
            raw = RawPeer(self, self.peer, (PEER4, 40000 + len(tags)), (HOST4, 7000), tags)
            for flags in (pcap.SYN, pcap.ACK, pcap.PSH | pcap.ACK, pcap.FIN | pcap.ACK):
                raw.send(flags, payload(100) if flags & pcap.PSH else b"")
        self.assertEqual(len(tcpdump.stop()), 8)
        self.assertEqual(self.finish(daemon), {})
        self.assertEqual(daemon.booked("unowned") + daemon.booked("incomplete_handshake"), 8,
                         daemon.log)


@needs_daemon
class Tun(CaptureTest):

    def test_l3_device(self):
        """No Ethernet header: link type RAW, and records that begin with IP."""
        TunPair(self, ((self.host, "tun0", "10.9.2.1/24"), (self.peer, "tun0", "10.9.2.2/24")))
        daemon, tcpdump = self.start_daemon(interface="tun0"), self.start_tcpdump("tun0")
        client, accepted = connect(self, self.peer, "10.9.2.2",
                                   listen(self, self.host, "10.9.2.1"))
        exchange(client, accepted, 1000)  # one segment: the device can't cut larger ones
        owners = {cookie_of(accepted): flow_of(accepted)}
        client.close()
        accepted.close()
        daemon.wait_for_files(1)
        captured, files = tcpdump.stop(), self.finish(daemon)
        # The device computes no checksums: the stack does, after the TC egress hook.
        captured = map(pcap.without_checksum, captured)
        for content in files.values():
            content.records[:] = map(pcap.without_checksum, content.records)
        judge.assert_flows(self, files, captured, owners)
        self.assertEqual({file.link_type for file in files.values()}, {pcap.LINK_RAW})


if __name__ == "__main__":
    unittest.main()
