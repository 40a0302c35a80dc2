"""Ethernet frames of TCP segments in which every field, option and stray byte can be chosen."""

import socket
import struct

from pcap import ACK
from peers import checksum, family_of

HOP_BY_HOP, ROUTING, AUTHENTICATION, DESTINATION, MOBILITY = 0, 43, 51, 60, 135
URG = 0x20


def padded(options, size=4, padding=b"\0"):
    """The options in whole words of so many bytes."""
    return options + padding * (-len(options) % size)


def extension(content):
    """An IPv6 extension header, its first byte (what follows) left open."""
    content = padded(b"\0\0" + content, 8)
    return b"\0" + bytes([len(content) // 8 - 1]) + content[2:]


def authentication(digest):
    """An authentication header, which counts in words of four bytes."""
    content = padded(b"\0\0\0\0" + struct.pack(">II", 7, 1) + digest, 8)
    return b"\0" + bytes([len(content) // 4 - 2]) + content[2:]


def frame(source, destination, flags=ACK, *, seq=0x51525354, ack=0x61626364, options=b"", data=b"",
          urgent=0, data_offset=None, ip_options=b"", extensions=(), fragment=0, ip_length=None,
          protocol=6, trailer=b"", macs=bytes(12)):
    """
    source and destination are (address, port). Lengths and checksums are right where they are not
    given; ip_length is the field as it stands in the header of the family, extensions are (type,
    header) and trailer follows what IP says is the packet.
    """
    ends = [socket.inet_pton(family_of(end[0]), end[0]) for end in (source, destination)]
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], seq, ack, words << 4, flags, 65535,
                      0, urgent) + options + data
    pseudo = b"".join(ends) + struct.pack(">HH", 6, len(tcp))
    tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    if family_of(source[0]) == socket.AF_INET6:
        types = [kind for kind, _ in extensions] + [protocol]
        payload = b"".join(bytes([after]) + header[1:]
                           for after, (_, header) in zip(types[1:], extensions)) + tcp
        length = len(payload) if ip_length is None else ip_length
        ip = struct.pack(">IHBB", 6 << 28, length, types[0], 64) + ends[0] + ends[1]
        return macs + b"\x86\xdd" + ip + payload + trailer
    header_bytes = 20 + len(ip_options)
    length = header_bytes + len(tcp) if ip_length is None else ip_length
    ip = struct.pack(">BBHHHBBH", 0x40 | header_bytes // 4, 0, length, 0x1234, fragment, 64,
                     protocol, 0) + ends[0] + ends[1] + ip_options
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    return macs + b"\x08\x00" + ip + tcp + trailer


def inject(case, namespace, interface, frames):
    """Puts frames on a device's wire as they are."""
    with namespace.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with raw:
        raw.bind((interface, 0))
        for one in frames:
            case.assertEqual(raw.send(one), len(one))
