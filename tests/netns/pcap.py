"""Reads pcap files and TCP headers, by code of its own, to judge the daemon by."""

import struct
from typing import NamedTuple

LINK_ETHERNET = 1
LINK_RAW = 101
FILE_HEADER_BYTES = 24
NANOSECOND_MAGIC = 0xA1B23C4D  # the bytes 4d 3c b2 a1 when little-endian

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10

_VLAN_TYPES = (0x8100, 0x88A8)
_IPV6_EXTENSIONS = (0, 43, 44, 51, 60, 135)
_IPV6_FRAGMENT, _IPV6_AUTHENTICATION = 44, 51


class Tcp(NamedTuple):
    """Where a TCP header lies in a frame, and what it says. An endpoint is (address, port)."""
    ip_offset: int
    tcp_offset: int
    end: int
    source: tuple
    destination: tuple
    seq: int
    flags: int


class Record(NamedTuple):
    """One TCP packet of a pcap file; header is cut where the TCP header ends."""
    time_ns: int
    wire_bytes: int
    caplen: int
    header: bytes
    tcp: Tcp

    @property
    def flow(self):
        """The flow's key, the same for both directions."""
        return frozenset((self.tcp.source, self.tcp.destination))

    @property
    def payload_bytes(self):
        """How much followed the TCP header on the wire (frames here carry no padding)."""
        return self.wire_bytes - self.tcp.end


def without_checksum(record):
    """The record with a TCP checksum of 0."""
    at = record.tcp.tcp_offset + 16
    return record._replace(header=record.header[:at] + b"\0\0" + record.header[at + 2:])


class PcapFile(NamedTuple):
    """A whole file: its link type, its TCP packets, and how many other packets it holds."""
    link_type: int
    records: list
    others: int


def parse_tcp(link_type, data):
    """The Tcp of a frame, or None when it holds no complete TCP header."""
    try:
        return _parse_tcp(link_type, data)
    except (IndexError, struct.error):
        return None


def _parse_tcp(link_type, data):
    offset = 0
    if link_type == LINK_ETHERNET:
        offset = 14
        ether_type = data[12] << 8 | data[13]
        while ether_type in _VLAN_TYPES:
            ether_type = data[offset + 2] << 8 | data[offset + 3]
            offset += 4
    else:
        ether_type = {4: 0x0800, 6: 0x86DD}.get(data[0] >> 4)
    ip_offset = offset
    if ether_type == 0x0800:
        if data[offset + 9] != 6 or (data[offset + 6] << 8 | data[offset + 7]) & 0x1FFF:
            return None
        addresses = data[offset + 12:offset + 16], data[offset + 16:offset + 20]
        offset += (data[offset] & 15) * 4
    elif ether_type == 0x86DD:
        addresses = data[offset + 8:offset + 24], data[offset + 24:offset + 40]
        protocol = data[offset + 6]
        offset += 40
        while protocol in _IPV6_EXTENSIONS:
            if protocol == _IPV6_FRAGMENT and (data[offset + 2] << 8 | data[offset + 3]) & 0xFFF8:
                return None
            length = {_IPV6_FRAGMENT: 8, _IPV6_AUTHENTICATION: (data[offset + 1] + 2) * 4}.get(
                protocol, (data[offset + 1] + 1) * 8)
            protocol = data[offset]
            offset += length
        if protocol != 6:
            return None
    else:
        return None
    sport, dport, seq, _, doff, flags = struct.unpack_from(">HHIIBB", data, offset)
    end = offset + (doff >> 4) * 4
    if end > len(data):
        return None
    return Tcp(ip_offset, offset, end, (addresses[0], sport), (addresses[1], dport), seq, flags)


def read(path):
    """Reads a nanosecond little-endian pcap; raises ValueError at anything else or a torn end."""
    with open(path, "rb") as file:
        return parse(file.read(), path)


def parse(data, path):
    """The same of the bytes of a file; errors name its path."""
    if len(data) < FILE_HEADER_BYTES:
        raise ValueError(f"{path}: {len(data)} bytes are no pcap file")
    magic, major, minor, _, _, _, link_type = struct.unpack_from("<IHHiIII", data)
    if (magic, major, minor) != (NANOSECOND_MAGIC, 2, 4):
        raise ValueError(f"{path}: magic {magic:08x}, version {major}.{minor}")
    records, others, offset = [], 0, FILE_HEADER_BYTES
    while offset < len(data):
        if offset + 16 > len(data):
            raise ValueError(f"{path}: torn record header at {offset}")
        seconds, nanoseconds, caplen, wire_bytes = struct.unpack_from("<IIII", data, offset)
        offset += 16
        frame = data[offset:offset + caplen]
        if len(frame) < caplen:
            raise ValueError(f"{path}: torn record at {offset}")
        offset += caplen
        tcp = parse_tcp(link_type, frame)
        if tcp is None:
            others += 1
        else:
            records.append(Record(seconds * 1_000_000_000 + nanoseconds, wire_bytes, caplen,
                                  frame[:tcp.end], tcp))
    return PcapFile(link_type, records, others)


def by_flow(records):
    """Splits records by 4-tuple, whichever way they go, in the order of the file."""
    flows = {}
    for record in records:
        flows.setdefault(record.flow, []).append(record)
    return flows
