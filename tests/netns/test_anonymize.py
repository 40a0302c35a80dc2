"""-anonymize.ip=netblock: the peer's address is in no byte of a file, nor can it be computed."""

import socket
import struct
import unittest

import judge
from harness import (HOST4, HOST6, HOST_MAC, PEER6, PEER_MAC, CaptureTest, needs_daemon,
                     needs_tool)
from peers import checksum, connect, cookie_of, exchange, listen

REMOTE = "10.9.0.2"
REMOTE_BLOCK = "10.9.0.0"


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def pseudo_header_sum(record, remote):
    """The sum that a sum-offloading kernel leaves in the TCP checksum field, for a candidate."""
    addresses = [remote if address == socket.inet_aton(REMOTE_BLOCK) else address
                 for address, _ in (record.tcp.source, record.tcp.destination)]
    tcp_bytes = record.wire_bytes - record.tcp.tcp_offset
    return ~checksum(b"".join(addresses) + struct.pack(">HH", 6, tcp_bytes)) & 0xFFFF


def candidates(record):
    """The last bytes of the remote address that some checksum of this packet gives away."""
    ip = record.header[record.tcp.ip_offset:record.tcp.tcp_offset]
    tcp = record.header[record.tcp.tcp_offset:]
    at = 12 if record.tcp.source[0] == socket.inet_aton(REMOTE_BLOCK) else 16
    ip_sum, tcp_sum = struct.unpack_from(">H", ip, 10)[0], struct.unpack_from(">H", tcp, 16)[0]
    found = set()
    for last in range(256):
        remote = socket.inet_aton(REMOTE_BLOCK)[:3] + bytes((last,))
        true_ip = ip[:10] + b"\0\0" + ip[12:at] + remote + ip[at + 4:]
        partial = pseudo_header_sum(record, remote)
        whole = None
        if record.payload_bytes == 0:
            zeroed = tcp[:16] + b"\0\0" + tcp[18:]
            whole = checksum(struct.pack(">H", partial) + zeroed)
        if checksum(true_ip) == ip_sum or tcp_sum in (partial, whole):
            found.add(last)
    return found


@needs_daemon
class Netblock(CaptureTest):

    def flow(self, host, peer, *flags):
        daemon = self.start_daemon("-anonymize.ip=netblock", *flags)
        client, accepted = connect(self, self.peer, peer, listen(self, self.host, host))
        exchange(client, accepted)
        cookie = cookie_of(accepted)
        client.close()
        accepted.close()
        daemon.wait_for_files(1)
        files = self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie)})
        self.assertNotIn(peer, daemon.log)
        return next(iter(files.values())).records

    def assert_macs(self, record, inbound):
        """The remote's is zero, the host's is kept."""
        zero, own = bytes(6), mac(HOST_MAC)
        self.assertEqual(record.header[:12], own + zero if inbound else zero + own)

    def assert_ipv4(self, records):
        own, remote = (socket.inet_aton(address) for address in (HOST4, REMOTE_BLOCK))
        self.assertGreater(len(records), 8)
        for record in records:
            inbound = record.tcp.source[0] == remote
            self.assertEqual({record.tcp.source[0], record.tcp.destination[0]}, {own, remote})
            self.assert_macs(record, inbound)
            self.assertNotIn(socket.inet_aton(REMOTE), record.header)
            self.assertNotIn(2, candidates(record), record.header.hex())

    def test_ipv4(self):
        """With checksum offload: what the stack leaves in the TCP checksum is the address' sum."""
        self.assert_ipv4(self.flow(HOST4, REMOTE))

    def test_ipv4_streaming(self):
        self.assert_ipv4(self.flow(HOST4, REMOTE, "-stream"))

    @needs_tool("ethtool")
    def test_ipv4_without_checksum_offload(self):
        """Whole checksums: a packet without payload has all that is needed to solve for it."""
        self.peer.run("ethtool", "-K", "peer0", "tx", "off")
        self.assert_ipv4(self.flow(HOST4, REMOTE))

    def test_ipv6(self):
        """The last ten bytes are zero; the host's own address stays."""
        own = socket.inet_pton(socket.AF_INET6, HOST6)
        remote = socket.inet_pton(socket.AF_INET6, PEER6)[:6] + bytes(10)
        for record in self.flow(HOST6, PEER6):
            self.assertEqual({record.tcp.source[0], record.tcp.destination[0]}, {own, remote})
            self.assert_macs(record, record.tcp.source[0] == remote)
            self.assertNotIn(mac(PEER_MAC), record.header)

    def test_none_is_the_default(self):
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        client, accepted = connect(self, self.peer, REMOTE, listen(self, self.host, HOST4))
        exchange(client, accepted)
        captured = tcpdump.stop()
        self.assertIn(2, candidates(captured[0]._replace(
            tcp=captured[0].tcp._replace(source=(socket.inet_aton(REMOTE_BLOCK), 0)))))
        judge.assert_flows(self, self.finish(daemon), captured,
                           {cookie_of(accepted): captured[0].flow})


if __name__ == "__main__":
    unittest.main()
