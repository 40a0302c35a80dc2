"""
-anonymize.ip, judged by an attacker who has all that the daemon wrote and knows the netblock: no
hidden address is in a file in any form, nor can one be told from another.
"""

import hashlib
import os
import socket
import struct
import unittest

import judge
import pcap
import test_read
from captures import MILLISECOND, START_NS, Packet, pcap_bytes
from crypto_pan import pseudonym
from frames import (AUTHENTICATION, DESTINATION, HOP_BY_HOP, MOBILITY, ROUTING, authentication,
                    extension, frame, inject, padded)
from harness import (HOST4, HOST6, HOST_MAC, PEER_MAC, CaptureTest, needs_daemon, needs_tool, run,
                     wait_until)
from outputs import outputs, written
from pcap import ACK, PSH, SYN
from peers import checksum, connect, cookie_of, exchange, family_of, listen

REMOTE4 = "10.9.0.2"
REMOTE6 = "fd00:9::ff:fe00:2"  # its last half is made of PEER_MAC (EUI-64)
NETBLOCKS = {REMOTE4: "10.9.0.0", REMOTE6: "fd00:9::"}
CLIENT6, SERVER6 = "2001:db8:5:6:ab12:33ff:fe99:4477", "2001:db8:1:2:cd34:55ff:fe88:6619"
KEY = bytes(range(100, 132))


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def packed(address):
    return socket.inet_pton(family_of(address), address)


def digest(address):
    """What somebody might send who wants to prove an address."""
    return hashlib.md5(packed(address)).digest()


def tcp_options(address):
    """TCP options that tell an address."""
    own = packed(address)
    announced = bytes([30, 4 + len(own) + 8, 0x34 if len(own) == 4 else 0x36, 1]) + own
    return [padded(options, padding=b"\1") for options in (
        bytes([254, 4 + len(own)]) + b"PH" + own,
        bytes([99, 2 + len(own)]) + own[::-1],
        announced + digest(address)[:8],         # Multipath TCP: ADD_ADDR and its digest
        bytes([30, 12, 0x10, 1]) + digest(address)[:8],  # MP_JOIN
        bytes([34, 18]) + digest(address),       # a cookie of Fast Open
        b"\x13\x12" + digest(address),           # TCP-MD5
        b"\x1d\x10\1\1" + digest(address)[:12],  # TCP-AO
        b"\x02" + bytes([4 + len(own)]) + b"\5\xb4" + own,
        b"\0" + own, b"\1\xff\xff" + own)]


def ipv4_options(address):
    own = packed(address)
    return [padded(options, padding=b"\1") for options in (
        b"\x07\x0b\x08" + own + own, b"\x83\x0b\x0c" + own + own, b"\x89\x07\x08" + own,
        b"\x44\x14\x15\x01" + own + b"\0\0\0\1" + own + b"\0\0\0\2",
        b"\x86\x0a\0\0\0\1" + own, b"\xc8\x06" + own, b"\0" + own, b"\1\xff\xff" + own)]


def extensions(address):
    own = packed(address)
    return [(HOP_BY_HOP, extension(b"\x1e\x10" + own)), (HOP_BY_HOP, extension(b"\1\x10" + own)),
            (DESTINATION, extension(b"\xc9\x10" + own)),
            (DESTINATION, extension(b"\x1f\xff" + own)),
            (ROUTING, extension(b"\2\1\0\0\0\0" + own)),
            (ROUTING, extension(b"\4\1\0\0\0\0" + own)),
            (AUTHENTICATION, authentication(digest(address)[:12])),
            (MOBILITY, extension(b"\5\0\0\0\0\0" + own))]


def telling_variants(address):
    """Packets that tell an address where they can, as arguments of frames.frame."""
    variants = [{"options": options} for options in tcp_options(address)]
    if family_of(address) == socket.AF_INET:
        return variants + [{"ip_options": options} for options in ipv4_options(address)]
    return variants + [{"extensions": [one]} for one in extensions(address)]


def forms(address):
    """The bytes by which an address could be found."""
    own = packed(address)
    found = {own, own[::-1], bytes(byte ^ 0xFF for byte in own), address.encode(),
             address.replace(":", "-").encode(), own.hex().encode(), own.hex().upper().encode(),
             ".".join(map(str, own[::-1])).encode(), digest(address)[:8]}
    if len(own) == 16:
        interface_id = own[8:]
        hardware = bytes([interface_id[0] ^ 2]) + interface_id[1:3] + interface_id[5:]
        found |= {interface_id, hardware, hardware.hex(":").encode()}
    return found


def fits(record, shown, address):
    """
    Whether a checksum of the packet is that of the packet with this address in it. A TCP checksum
    of 0 is none.
    """
    at = record.header.index(shown, record.tcp.ip_offset + 8)
    true = record.header[:at] + address + record.header[at + len(address):]
    ip = true[record.tcp.ip_offset:record.tcp.tcp_offset]
    tcp = true[record.tcp.tcp_offset:]
    if len(address) == 4 and checksum(ip) == 0:
        return True
    ends = ip[12:20] if len(address) == 4 else ip[8:40]
    tcp_bytes = record.wire_bytes - record.tcp.tcp_offset
    partial = ~checksum(ends + struct.pack(">HH", 6, tcp_bytes)) & 0xFFFF
    sums = {partial}  # as a stack leaves it that lets the device sum
    if record.payload_bytes == 0:
        sums.add(checksum(struct.pack(">H", partial) + tcp[:16] + b"\0\0" + tcp[18:]))
    tcp_sum, = struct.unpack_from(">H", tcp, 16)
    return tcp_sum != 0 and tcp_sum in sums


def shown_of(mode, address):
    """The packed address that stands for another."""
    return packed(NETBLOCKS[address]) if mode == "netblock" else pseudonym(KEY, address)


class Attack(unittest.TestCase):

    def assert_not_found(self, found, address):
        for place, data in found.items():
            for form in forms(address):
                if form in data:
                    self.fail(f"{address} as {form} in {place}")


@needs_daemon
@needs_tool("openssl")
class Live(CaptureTest, Attack):
    """The remote's address is hidden, the host's own is kept."""

    def setUp(self):
        super().setUp()
        self.peer.ip("addr", "add", f"{REMOTE6}/64", "dev", "peer0", "nodad")
        self.key_file = os.path.join(self.folder, "key")
        with open(self.key_file, "wb") as file:
            file.write(KEY)
        os.chmod(self.key_file, 0o600)

    def flags(self, mode):
        return [f"-anonymize.ip={mode}", *([f"-anonymize.keyfile={self.key_file}"]
                                           if mode == "cryptopan" else [])]

    def records_of(self, own, remote, *flags):
        """Those of a connection whose both ends also say the remote's address in every option."""
        daemon = self.start_daemon(*flags)
        client, accepted = connect(self, self.peer, remote, listen(self, self.host, own))
        exchange(client, accepted)
        cookie = cookie_of(accepted)
        ends = client.getsockname()[:2], accepted.getsockname()[:2]
        seen = daemon.metric("packets_seen_total")
        telling = telling_variants(remote)
        host_mac, peer_mac = mac(HOST_MAC), mac(PEER_MAC)
        inject(self, self.peer, "peer0", [frame(*ends, **variant, macs=host_mac + peer_mac)
                                          for variant in telling])
        inject(self, self.host, "host0", [frame(*ends[::-1], **variant, macs=peer_mac + host_mac)
                                          for variant in telling])
        wait_until(lambda: daemon.metric("packets_seen_total") >= seen + 2 * len(telling),
                   "all telling packets were seen")
        self.assert_not_found(outputs(daemon), remote)
        files = self.finish(daemon)
        self.assert_not_found(outputs(daemon), remote)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie)})
        records = files[judge.uuid_of(cookie)].records
        self.assertGreater(len(records), 2 * len(telling) + 8)
        return records

    def assert_hidden(self, mode, own, remote, *flags):
        shown = shown_of(mode, remote)
        zero, own_mac = bytes(6), mac(HOST_MAC)
        for record in self.records_of(own, remote, *self.flags(mode), *flags):
            self.assertEqual({record.tcp.source[0], record.tcp.destination[0]},
                             {packed(own), shown})
            inbound = record.tcp.source[0] == shown
            self.assertEqual(record.header[:12], own_mac + zero if inbound else zero + own_mac)
            self.assertFalse(fits(record, shown, packed(remote)), record.header.hex())
            # A field that never changes tells nothing.
            self.assertEqual(record.header[record.tcp.tcp_offset + 16:][:2], b"\0\0")
            ip = record.header[record.tcp.ip_offset:record.tcp.tcp_offset]
            if len(shown) == 4:
                self.assertEqual(checksum(ip), 0, "the sum of what is left")

    def test_netblock_ipv4(self):
        """With checksum offload: what the stack leaves in the TCP checksum is the address' sum."""
        self.assert_hidden("netblock", HOST4, REMOTE4)

    def test_netblock_ipv4_streaming(self):
        self.assert_hidden("netblock", HOST4, REMOTE4, "-stream")

    @needs_tool("ethtool")
    def test_netblock_ipv4_without_checksum_offload(self):
        """Whole checksums: a packet without payload has all that is needed to solve for it."""
        self.peer.run("ethtool", "-K", "peer0", "tx", "off")
        self.assert_hidden("netblock", HOST4, REMOTE4)

    def test_netblock_ipv6(self):
        self.assert_hidden("netblock", HOST6, REMOTE6)

    def test_netblock_libpcap(self):
        self.assert_hidden("netblock", HOST4, REMOTE4, "-capture.engine=pcap")

    def test_cryptopan_ipv4(self):
        self.assert_hidden("cryptopan", HOST4, REMOTE4)

    def test_cryptopan_ipv6(self):
        self.assert_hidden("cryptopan", HOST6, REMOTE6)

    def test_cryptopan_libpcap(self):
        self.assert_hidden("cryptopan", HOST6, REMOTE6, "-capture.engine=pcap")

    def test_none_is_the_default(self):
        """And the attacker finds what is not hidden."""
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        client, accepted = connect(self, self.peer, REMOTE4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        captured = tcpdump.stop()
        self.assertTrue(fits(captured[0], packed(REMOTE4), packed(REMOTE4)))
        judge.assert_flows(self, self.finish(daemon), captured,
                           {cookie_of(accepted): captured[0].flow})

    def test_event_socket(self):
        """It exists to tell true addresses; the log says so."""
        daemon = self.start_daemon("-anonymize.ip=netblock",
                                   f"-eventsocket.serve={self.folder}/events")
        self.finish(daemon)
        self.assertIn("-eventsocket.serve tells true addresses", daemon.log)


@needs_tool("openssl")
class Offline(test_read.ReadTest, Attack):
    """No end is known to be the host's own: both are hidden, in files and in their names."""

    PORTS = 40000, 443

    def setUp(self):
        super().setUp()
        self.key_file = self.write(KEY.hex().encode() + b"\n", "key")
        os.chmod(self.key_file, 0o600)

    def telling_packets(self, client, server):
        """A connection in which both ends say both addresses wherever they can."""
        ends = list(zip((client, server), self.PORTS))
        macs = b"".join(b"\2" + (b"\0" + packed(end))[-5:] for end in (client, server))
        packets = []

        def add(sender, flags, **fields):
            packets.append(Packet(START_NS + len(packets) * MILLISECOND, frame(
                ends[sender], ends[1 - sender], flags, **fields, macs=macs)))
        add(0, SYN, seq=1000)
        add(1, SYN | ACK, seq=9000, ack=1001)
        add(0, ACK, seq=1001, ack=9001)
        for address in (client, server):
            for variant in telling_variants(address):
                for sender in (0, 1):
                    add(sender, PSH | ACK, **variant, data=b"x" * 10)
        return packets

    def split_between(self, client, server, *flags):
        """Splits it."""
        packets = self.telling_packets(client, server)
        split = self.split("-read", self.write(pcap_bytes(packets)), *flags)
        self.assertEqual(split.books["saved"], len(packets), split.log)
        found = {**written(split.datadir), "names": "\n".join(split.names()).encode(),
                 "log": split.log.encode()}
        for address in (client, server):
            self.assert_not_found(found, address)
        return split

    def test_hosts_of_a_netblock_look_the_same(self):
        """Byte for byte: so nothing whatsoever tells which of them it was."""
        for one, other in (
                (("203.0.113.77", "198.51.100.9"), ("203.0.113.201", "198.51.100.254")),
                # Which of them comes first in order tells nothing either.
                (("203.0.113.77", "203.0.113.9"), ("203.0.113.9", "203.0.113.77")),
                ((CLIENT6, SERVER6), ("2001:db8:5:f:12ff:fe34:1:2", "2001:db8:1:0:9aff:fe11:a:9")),
                (("2002:c000:24d:1:12ff:fe34:1:2", "2002:cb00:7109:0:9aff:fe11:a:9"),
                 ("2002:c000:2fe:5:22ff:fe55:6:7", "2002:cb00:71aa:2:33ff:fe66:7:8"))):
            with self.subTest(one=one):
                first = self.split_between(*one, "-anonymize.ip=netblock")
                second = self.split_between(*other, "-anonymize.ip=netblock")
                self.assertEqual(len(first.paths()), 1)
                self.assertEqual(first.tree(), second.tree())

    def test_pseudonyms(self):
        """They stand in the files and in their names, and are all that differs."""
        flags = ("-anonymize.ip=cryptopan", f"-anonymize.keyfile={self.key_file}")
        bare = set()
        for client, server in (("203.0.113.77", "198.51.100.9"), ("203.0.113.78", "7.1.2.3"),
                               ("198.51.100.9", "203.0.113.77")):
            split = self.split_between(client, server, *flags)
            path, = split.paths()
            records = self.assert_header_exact(os.path.join(split.datadir, path)).records
            ends = [(pseudonym(KEY, address), port)
                    for address, port in zip((client, server), self.PORTS)]
            self.assertEqual({record.flow for record in records}, {frozenset(ends)})
            # The lesser pseudonym comes first: the order of the addresses would tell bits of them.
            name = "_".join(f"{socket.inet_ntoa(address)}.{port}" for address, port in sorted(ends))
            self.assertEqual(split.names(), [f"20240229T223000.123456000Z_{name}"])
            for record in records:
                ip = record.tcp.ip_offset
                self.assertEqual(checksum(record.header[ip:record.tcp.tcp_offset]), 0)
            bare.add(tuple(record.header[:record.tcp.ip_offset + 10]
                           + record.header[record.tcp.ip_offset + 20:] for record in records))
        self.assertEqual(len(bare), 1)

    def test_pseudonyms_of_ipv6(self):
        split = self.split_between(CLIENT6, SERVER6, "-anonymize.ip=cryptopan",
                                   f"-anonymize.keyfile={self.key_file}")
        path, = split.paths()
        records = self.assert_header_exact(os.path.join(split.datadir, path)).records
        self.assertEqual({record.flow for record in records},
                         {frozenset((pseudonym(KEY, address), port) for address, port in
                                    zip((CLIENT6, SERVER6), self.PORTS))})

    @needs_tool("tshark")
    def test_what_is_left_can_be_read(self):
        """Wireshark finds the same layers."""
        for client, server in (("203.0.113.77", "198.51.100.9"),
                               (CLIENT6, SERVER6)):
            path = self.new_path("true.pcap")
            with open(path, "wb") as file:
                file.write(pcap_bytes(self.telling_packets(client, server)))
            split = self.split("-read", path, "-anonymize.ip=netblock")
            hidden, = split.paths()
            layers, hidden_layers = (
                run("tshark", "-n", "-r", path, "-T", "fields", "-e", "frame.protocols")
                for path in (path, os.path.join(split.datadir, hidden)))
            # It stops at options that are malformed, of which zeros are left.
            for layer, hidden_layer in zip(layers.split(), hidden_layers.split(), strict=True):
                self.assertTrue(hidden_layer.startswith(layer.removesuffix(":data")),
                                (layer, hidden_layer))

    def test_a_key_file_that_all_can_read(self):
        os.chmod(self.key_file, 0o644)
        process, _ = self.start("-read", self.write(pcap_bytes([])), "-anonymize.ip=cryptopan",
                                f"-anonymize.keyfile={self.key_file}")
        _, log = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 1)
        self.assertIn(f"key file {self.key_file}: its mode 0644 lets others than its owner open "
                      "it: `chmod 600` it", log.decode())
        self.assertNotIn(KEY.hex(), log.decode())


if __name__ == "__main__":
    unittest.main()
