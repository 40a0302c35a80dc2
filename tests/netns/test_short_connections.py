"""Thousands of short connections: one file each, rightly named, packet for packet tcpdump's."""

import unittest

import judge
from harness import HOST4, HOST6, PEER4, PEER6, CaptureTest, needs_daemon, wait_until
from peers import Storm


@needs_daemon
class ShortConnections(CaptureTest):

    def storm(self, connections, *flags, ipv6=False, outbound=False):
        """Runs a storm to its published files and judges every one of them."""
        host, peer = (HOST6, PEER6) if ipv6 else (HOST4, PEER4)
        storm = (Storm(self.host, host, self.peer, peer, connections) if outbound
                 else Storm(self.peer, peer, self.host, host, connections))
        daemon, tcpdump = self.start_daemon(*flags), self.start_tcpdump()
        of_clients, of_server = storm.run(self)
        owners = of_clients if outbound else of_server
        self.assertEqual(len(owners), connections)
        wait_until(lambda: daemon.metric("files_published_total") == connections,
                   "every connection is published", 20)
        captured = tcpdump.stop()
        for state in ("embryonic", "capturing"):
            self.assertEqual(daemon.metric("flows", state=state), 0, state)
        judge.assert_flows(self, self.finish(daemon), captured, owners)

    def test_two_thousand_inbound(self):
        self.storm(2000)

    def test_outbound_are_named_by_the_client_socket(self):
        self.storm(400, outbound=True)

    def test_ipv6(self):
        self.storm(2000, ipv6=True)

    def test_ipv6_outbound(self):
        self.storm(400, ipv6=True, outbound=True)

    def test_stream(self):
        self.storm(400, "-stream")

    def test_one_shard(self):
        self.storm(400, "-shards=1")

    def test_three_shards(self):
        self.storm(400, "-shards=3")

    def test_clsact(self):
        self.storm(400, "-capture.hook=clsact")

    def test_xdp(self):
        self.storm(400, "-capture.hook=xdp")


if __name__ == "__main__":
    unittest.main()
