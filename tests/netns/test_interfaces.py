"""Interfaces of every kind: added and deleted, tagged frames, L3 devices, hooks by name."""

import unittest

import judge
import pcap
from harness import (HOST4, PEER4, PEER_MAC, CaptureTest, left_behind, needs_daemon, needs_tcx,
                     tcx_programs, wait_until)
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
