"""Capture files made by hand: connections packet by packet, in every format that is read."""

import socket
import struct
from typing import NamedTuple

import pcap
from pcap import ACK, FIN, PSH, RST, SYN
from peers import checksum, endpoint, family_of, payload

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
START_NS = 1_709_245_800 * SECOND + 123_456_000  # 2024-02-29T22:30:00.123456Z
CLIENT, SERVER = ("203.0.113.77", 40000), ("198.51.100.9", 443)
CLIENT6, SERVER6 = ("2001:db8:5:6::77", 40000), ("2001:db8:1:2::9", 443)
CLIENT_FIRST, SERVER_FIRST = 1000, 9000  # sequence numbers of the SYNs
LINK_NULL, LINK_IEEE802_11, LINK_LINUX_SLL, LINK_LINUX_SLL2 = 0, 105, 113, 276


class Packet(NamedTuple):
    """One packet on the wire: when, and all of its bytes."""
    time_ns: int
    data: bytes

    def record(self):
        """As the daemon saves it."""
        tcp = pcap.parse_tcp(pcap.LINK_ETHERNET, self.data)
        return pcap.Record(self.time_ns, len(self.data), tcp.end, self.data[:tcp.end], tcp)


class Connection:
    """
    A TCP connection whose packets the test lists, each `step_ns` after the one before. The
    numbers are those of a connection that loses nothing.
    """

    def __init__(self, client=CLIENT, server=SERVER, start_ns=START_NS, step_ns=MILLISECOND,
                 client_first=CLIENT_FIRST, server_first=SERVER_FIRST):
        self.packets = []
        self._ends = client, server
        self._next = [client_first, server_first]
        self._now_ns, self._step_ns = start_ns, step_ns

    def wait(self, duration_ns):
        """Nothing happens for a while."""
        self._now_ns += duration_ns
        return self

    def client(self, flags, size=0):
        return self._send(0, flags, size)

    def server(self, flags, size=0):
        return self._send(1, flags, size)

    def open(self):
        return self.client(SYN).server(SYN | ACK).client(ACK)

    def talk(self, rounds=1, size=100):
        """A question and an answer of so many bytes."""
        for _ in range(rounds):
            self.client(PSH | ACK, size).server(PSH | ACK, size)
        return self

    def close(self):
        return self.client(FIN | ACK).server(FIN | ACK).client(ACK)

    def reset(self):
        return self.server(RST | ACK)

    def whole(self):
        return self.open().talk(2).close()

    def _send(self, sender, flags, size):
        source, destination = self._ends[sender], self._ends[1 - sender]
        acknowledged = self._next[1 - sender] if flags & ACK else 0
        tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], self._next[sender],
                          acknowledged, 5 << 4, flags, 65535, 0, 0)
        self.packets.append(Packet(self._now_ns, frame(source[0], destination[0],
                                                       tcp + payload(size))))
        self._next[sender] += size + bool(flags & (SYN | FIN))
        self._now_ns += self._step_ns
        return self


def frame(source, destination, tcp):
    """An Ethernet frame, its MAC addresses as telling as its IP addresses."""
    ends = b"".join(socket.inet_pton(family_of(end), end) for end in (source, destination))
    macs = b"\2" + ends[-5:] + b"\2" + ends[:5]
    tcp = tcp[:16] + struct.pack(">H", checksum(
        ends + struct.pack(">HH", 6, len(tcp)) + tcp)) + tcp[18:]
    if family_of(source) == socket.AF_INET6:
        return macs + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(tcp), 6, 64) + ends + tcp
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + ends
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    return macs + b"\x08\x00" + ip + tcp


def merged(*connections):
    """The packets of several connections in the order of their times."""
    return sorted((packet for connection in connections for packet in connection.packets),
                  key=lambda packet: packet.time_ns)


def pcap_bytes(packets, nanoseconds=True, order="<", link_type=pcap.LINK_ETHERNET, snaplen=262144):
    """A pcap file; order is "<" for little-endian or ">"."""
    magic = pcap.NANOSECOND_MAGIC if nanoseconds else 0xA1B2C3D4
    pieces = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)]
    for packet in packets:
        seconds, rest_ns = divmod(packet.time_ns, SECOND)
        data = packet.data[:snaplen]
        pieces += struct.pack(order + "IIII", seconds, rest_ns if nanoseconds else rest_ns // 1000,
                              len(data), len(packet.data)), data
    return b"".join(pieces)


def pcapng_bytes(packets, nanoseconds=True, order="<", link_type=pcap.LINK_ETHERNET):
    """One section of pcapng, with one interface."""
    def block(kind, body):
        body += bytes(-len(body) % 4)
        size = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + size + body + size

    resolution = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0) if nanoseconds else b""
    pieces = [block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)),
              block(1, struct.pack(order + "HHI", link_type, 0, 0) + resolution)]
    for packet in packets:
        ticks = packet.time_ns if nanoseconds else packet.time_ns // 1000
        size = len(packet.data)
        pieces.append(block(6, struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF,
                                           size, size) + packet.data))
    return b"".join(pieces)


class Waves:
    """
    A capture of any size, made fast: wave after wave of so many connections at once, whose packets
    come by turns, so many of each in a second. Of the packets the headers are there, or with whole
    all their bytes. All packets of a second have one length, so what differs from second to second
    is patched column by column.
    """
    SECONDS = 12  # of data in a wave
    HEADERS = 14 + 20 + 32
    RECORD = 16 + HEADERS
    WIRE_BYTES = 1514
    _THIRD_BYTES_AT = 16 + 14 + 12 + 2, 16 + 14 + 16 + 2  # of both addresses
    _LENGTH = SECONDS + 4  # from the first SYN of a wave to that of the next

    def __init__(self, waves, flows=500, rounds=200, whole=False):
        self._waves, self._flows, self._rounds = waves, flows, rounds
        self._payload = payload(self.WIRE_BYTES - self.HEADERS) if whole else b""
        self.packets_of_flow = 3 + rounds * self.SECONDS + 3
        self.flows = waves * flows
        self.packets = self.flows * self.packets_of_flow

    def write(self, path):
        opening = self._second(((0, SYN), (1, SYN | ACK), (0, ACK)))
        talking = self._second([(r % 2, ACK) for r in range(self._rounds)], self._payload)
        closing = self._second(((0, FIN | ACK), (1, FIN | ACK), (0, ACK)))
        blocks = [(opening, b"")] + [(talking, self._payload)] * self.SECONDS + [(closing, b"")]
        with open(path, "wb") as file:
            file.write(pcap_bytes([], snaplen=self.HEADERS + len(self._payload)))
            for wave in range(self._waves):
                for second, (block, data) in enumerate(blocks):
                    self._patch(block, self.RECORD + len(data),
                                START_NS // SECOND + wave * self._LENGTH + second, wave)
                    file.write(block)

    def _second(self, rounds, data=b""):
        """The packets of a second, round by round, in each a packet of every flow."""
        records = []
        step_ns = SECOND // (self._rounds * self._flows)
        for index, (sender, flags) in enumerate(rounds):
            for flow in range(self._flows):
                ends = [bytes((10, 1, 0, 1)), bytes((10, 2, 0, 1))]
                ports = [20000 + flow, 443]
                first = [CLIENT_FIRST, SERVER_FIRST]
                source, destination = sender, 1 - sender
                begun = not flags & SYN
                wire_bytes = self.WIRE_BYTES if flags == ACK else self.HEADERS
                ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, wire_bytes - 14, 0, 0x4000, 64, 6, 0,
                                 ends[source], ends[destination])
                tcp = struct.pack(">HHIIBBHHH12s", ports[source], ports[destination],
                                  first[source] + begun, first[destination] + 1 if flags & ACK
                                  else 0, 8 << 4, flags, 65535, 0, 0, b"\1" * 12)
                nanoseconds = (index * self._flows + flow) * step_ns
                records.append(struct.pack("<IIII", 0, nanoseconds, self.HEADERS + len(data),
                                           wire_bytes)
                               + bytes(12) + b"\x08\x00" + ip + tcp + data)
        return bytearray(b"".join(records))

    def _patch(self, block, record, second, wave):
        count = len(block) // record
        for at, byte in enumerate(struct.pack("<I", second)):
            block[at::record] = bytes([byte]) * count
        for at in self._THIRD_BYTES_AT:
            block[at::record] = bytes([wave]) * count
