"""A file is a local socket's: scans, half-open handshakes and forwarded traffic leave none."""

import errno
import unittest

import judge
import pcap
from harness import HOST4, HOST6, PEER4, PEER6, PEER_MAC, CaptureTest, Namespace, needs_daemon
from peers import (RawPeer, connect, cookie_of, exchange, flow_of, listen, unconnected)

NOBODY = "10.9.0.66"  # resolves to the peer's device, but the peer doesn't own it
NOBODYS = ("incomplete_handshake", "unowned", "settled")  # reasons of what no socket owns


@needs_daemon
class Inbound(CaptureTest):

    def test_closed_port(self):
        """The RST comes from a socket of the kernel's own, whose cookie names nobody."""
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        for host, peer in ((HOST4, PEER4), (HOST6, PEER6)):
            for port in range(7100, 7120):
                with self.assertRaises(ConnectionRefusedError):
                    unconnected(self, self.peer, peer).connect((host, port))
        self.assertEqual(len(tcpdump.stop()), 80)
        self.assertEqual(self.finish(daemon), {})

    def test_syn_scan(self):
        """An open port answers, and the scanner's kernel resets."""
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        listen(self, self.host, HOST4)
        for port in range(40000, 40100):
            RawPeer(self, self.peer, (PEER4, port), (HOST4, 7000)).send(pcap.SYN)
        tcpdump.wait_for(lambda seen: len(seen) == 300, "100 times SYN, SYN-ACK, RST")
        tcpdump.stop()
        self.assertEqual(self.finish(daemon), {})
        self.assertEqual(sum(map(daemon.booked, NOBODYS)), 300, daemon.log)

    def test_half_open(self):
        """The host repeats its SYN-ACK to a peer that never answers."""
        self.host.ip("neigh", "add", NOBODY, "lladdr", PEER_MAC, "dev", "host0")
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        listen(self, self.host, HOST4)
        RawPeer(self, self.peer, (NOBODY, 40000), (HOST4, 7000)).send(pcap.SYN)
        tcpdump.wait_for(lambda seen: len(seen) >= 3, "the SYN-ACK twice")
        tcpdump.stop()
        self.assertEqual(self.finish(daemon), {})


@needs_daemon
class Outbound(CaptureTest):

    def test_refused(self):
        """An attempt of a local socket leaves a file even if it fails."""
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        client = unconnected(self, self.host, HOST4, 20000)
        cookie = cookie_of(client)
        self.assertEqual(client.connect_ex((PEER4, 7000)), errno.ECONNREFUSED)
        captured = tcpdump.stop()
        self.assertEqual([r.tcp.flags for r in captured], [pcap.SYN, pcap.RST | pcap.ACK])
        daemon.wait_for_files(1)
        judge.assert_flows(self, self.finish(daemon), captured, {cookie: captured[0].flow})

    def test_unanswered(self):
        """The SYN and its repetitions."""
        self.host.ip("neigh", "add", NOBODY, "lladdr", PEER_MAC, "dev", "host0")
        daemon, tcpdump = self.start_daemon("-flowtimeout=2s"), self.start_tcpdump()
        client = unconnected(self, self.host, HOST4)
        cookie = cookie_of(client)
        client.setblocking(False)
        self.assertEqual(client.connect_ex((NOBODY, 7000)), errno.EINPROGRESS)
        tcpdump.wait_for(lambda seen: len(seen) >= 2, "the SYN twice")
        client.close()
        captured = tcpdump.stop()
        self.assertEqual({r.tcp.flags for r in captured}, {pcap.SYN})
        daemon.wait_for_files(1)
        judge.assert_flows(self, self.finish(daemon), captured, {cookie: captured[0].flow})


@needs_daemon
class Others(CaptureTest):

    def test_open_before_the_start(self):
        """Named when it next sends; its file begins there."""
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        exchange(client, accepted)
        owners = {cookie_of(accepted): flow_of(accepted)}
        client.close()
        accepted.close()
        daemon.wait_for_files(1)
        captured = tcpdump.stop()
        self.assertFalse(any(r.tcp.flags & pcap.SYN for r in captured))
        judge.assert_flows(self, self.finish(daemon), captured, owners)

    def test_loopback_has_two_owners(self):
        """Both sockets are local: a file for each, and each packet once in each."""
        daemon, tcpdump = self.start_daemon(interface="lo"), self.start_tcpdump("lo")
        client, accepted = connect(self, self.host, "127.0.0.1",
                                   listen(self, self.host, "127.0.0.1"))
        exchange(client, accepted)
        flow, cookies = flow_of(client), [cookie_of(client), cookie_of(accepted)]
        client.close()
        accepted.close()
        daemon.wait_for_files(2)
        captured, files = tcpdump.stop(), self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie) for cookie in cookies})
        for cookie in cookies:
            judge.assert_same_packets(self, files[judge.uuid_of(cookie)].records,
                                      pcap.by_flow(captured)[flow], judge.Times(), str(cookie))

    def test_forwarded(self):
        """The host is a router between two peers: it owns none of what it forwards."""
        other = Namespace(self, "C")
        self.host.link_to(other, "host1", "other0", ["10.9.3.1/24"], ["10.9.3.2/24"])
        self.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.peer.ip("route", "add", "10.9.3.0/24", "via", HOST4)
        other.ip("route", "add", "10.9.0.0/24", "via", "10.9.3.1")
        daemon, tcpdump = self.start_daemon(interface="host0,host1"), self.start_tcpdump()
        client, accepted = connect(self, self.peer, PEER4, listen(self, other, "10.9.3.2"))
        for _ in range(10):
            exchange(client, accepted)
        client.close()
        accepted.close()
        forwarded = len(tcpdump.stop())
        self.assertEqual(self.finish(daemon), {})
        self.assertGreater(daemon.booked("unowned"), 0, daemon.log)
        self.assertEqual(sum(map(daemon.booked, NOBODYS)), 2 * forwarded, daemon.log)


if __name__ == "__main__":
    unittest.main()
