"""Makes the inputs that the fuzz targets begin with: corpus/<target>/. Run it from anywhere; what
was found later by fuzzing lies there under other names and stays."""

import gzip
import json
import pathlib
import struct
import subprocess

CORPUS = pathlib.Path(__file__).parent / "corpus"


def write(target, name, content):
    path = CORPUS / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


# Frames.

ETHERNET = bytes(12)
IPV4_ENDS = bytes([192, 0, 2, 1, 198, 51, 100, 2])
IPV6_ENDS = bytes.fromhex("20010db8" + "00" * 11 + "01" + "20010db8ffff" + "00" * 9 + "02")


def tcp(flags=0x10, seq=1, ack=1, options=b""):
    return struct.pack("!HHIIBBHHH", 1234, 80, seq, ack, (20 + len(options)) // 4 << 4, flags, 1024,
                       0, 0) + options


def ipv4(payload, options=b"", fragment=0):
    header = 20 + len(options)
    return struct.pack("!BBHHHBBH", 0x40 | header // 4, 0, header + len(payload), 0, fragment, 64, 6,
                       0) + IPV4_ENDS + options + payload


def ipv6(payload, next_header=6):
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 64) + IPV6_ENDS + payload


def extension(next_header, size=8):
    return bytes([next_header, size // 8 - 1]) + bytes(size - 2)


def ethernet(ethertype, payload, tags=()):
    tagged = b"".join(struct.pack("!HH", tpid, 7) for tpid in tags)
    return ETHERNET + tagged + struct.pack("!H", ethertype) + payload


TIMESTAMPS = bytes([1, 1, 8, 10]) + bytes(8)
FRAMES = {
    "ipv4": (0, ethernet(0x0800, ipv4(tcp(options=TIMESTAMPS) + b"payload"))),
    "ipv4_syn_out": (2, ethernet(0x0800, ipv4(tcp(2, options=bytes([2, 4, 5, 180]))))),
    "ipv4_options": (0, ethernet(0x0800, ipv4(tcp(), options=bytes(12)))),
    "ipv4_fragment": (0, ethernet(0x0800, ipv4(tcp(), fragment=0x2000))),
    "ipv4_later_fragment": (0, ethernet(0x0800, ipv4(tcp(), fragment=0x2001))),
    "ipv4_raw": (1, ipv4(tcp(0x18) + b"payload")),
    "ipv6": (2, ethernet(0x86dd, ipv6(tcp(0x11)))),
    "ipv6_extensions": (0, ethernet(0x86dd, ipv6(
        extension(43) + extension(60, 24) + extension(6, 40) + tcp(), next_header=0))),
    "ipv6_fragment": (1, ipv6(bytes([6, 0, 0, 1]) + bytes(4) + tcp(), next_header=44)),
    "ipv6_authentication": (1, ipv6(bytes([6, 4]) + bytes(22) + tcp(), next_header=51)),
    "vlan": (0, ethernet(0x0800, ipv4(tcp()), tags=[0x8100])),
    "vlan_two": (0, ethernet(0x86dd, ipv6(tcp()), tags=[0x88a8, 0x8100])),
    "truncated": (0, ethernet(0x0800, ipv4(tcp()))[:40]),
    "tcp_header_short": (0, ethernet(0x0800, ipv4(b"\x04\xd2\x00\x50" + bytes(8) + b"\x40\x10"
                                                  + bytes(6)))),
    "arp": (0, ethernet(0x0806, bytes(28))),
}


def make_parse():
    for name, (how, frame) in FRAMES.items():
        write("parse", name, bytes([how]) + frame)


# Capture files.

def pcap(frames, order="<", magic=0xa1b23c4d, link_type=1):
    content = struct.pack(order + "IHHIIII", magic, 2, 4, 0, 0, 65535, link_type)
    for i, frame in enumerate(frames):
        content += struct.pack(order + "IIII", 1_790_000_000, i, len(frame), len(frame)) + frame
    return content


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def pcapng(frames, order="<"):
    content = block(0x0a0d0d0a, struct.pack(order + "IHHq", 0x1a2b3c4d, 1, 0, -1), order)
    options = struct.pack(order + "HHB3xHH", 9, 1, 9, 0, 0)
    content += block(1, struct.pack(order + "HHI", 1, 0, 65535) + options, order)
    for i, frame in enumerate(frames):
        head = struct.pack(order + "IIIII", 0, 0, i, len(frame), len(frame))
        content += block(6, head + frame, order)
    return content


def make_capture_file():
    frames = [FRAMES["ipv4"][1], FRAMES["vlan"][1]]
    raw = [FRAMES["ipv4_raw"][1]]
    files = {
        "pcap": pcap(frames),
        "pcap_micro_big_endian": pcap(frames, ">", 0xa1b2c3d4),
        "pcap_raw_ip": pcap(raw, link_type=101),
        "pcap_loopback": pcap([bytes([2, 0, 0, 0]) + raw[0]], link_type=0),
        "pcap_cooked": pcap([bytes(14) + b"\x08\x00" + raw[0]], link_type=113),
        "pcap_torn": pcap(frames)[:-9],
        "pcap_unknown_link_type": pcap(frames, link_type=147),
        "pcapng": pcapng(frames),
        "pcapng_big_endian": pcapng(frames, ">"),
        "pcapng_torn": pcapng(frames)[:-20],
        "empty": b"",
    }
    for name, content in files.items():
        write("capture_file", name, b"\0" + content)
    for name, content in (("gzip", pcap(frames)), ("gzip_pcapng", pcapng(frames))):
        write("capture_file", name, b"\0" + gzip.compress(content, mtime=0))
        write("capture_file", name + "_made", b"\1" + content)
    packed = subprocess.run(["zstd", "-c"], input=pcap(frames), capture_output=True, check=True)
    write("capture_file", "zstd", b"\0" + packed.stdout)
    write("capture_file", "zstd_torn", b"\0" + packed.stdout[:-7])
    write("capture_file", "zstd_made", b"\2" + pcap(frames))
    write("capture_file", "gzip_torn", b"\0" + gzip.compress(pcap(frames), mtime=0)[:-7])


# Files that a run that died may have left.

def make_salvage():
    frames = [FRAMES["ipv4"][1][:54], FRAMES["ipv4_syn_out"][1]]
    files = {
        "whole": pcap(frames),
        "header_only": pcap([]),
        "torn": pcap(frames)[:-9],
        "torn_in_record_header": pcap(frames) + bytes(7),
        "zeros_behind": pcap(frames) + bytes(64),
        "gzip": gzip.compress(pcap(frames), mtime=0),
        "gzip_torn": gzip.compress(pcap(frames), mtime=0)[:-7],
        "gzip_two_members": gzip.compress(pcap(frames), mtime=0) +
                            gzip.compress(pcap(frames)[24:], mtime=0),
        "empty": b"",
    }
    for name, content in files.items():
        write("salvage", name, content)


# Records of a ring.

def step(tuple_, flags, seq=0, ack=0, cookie=0, ifindex=2):
    return bytes([5, tuple_, flags, seq, ack, cookie, ifindex, 3])  # 3: jobs come back


def make_record():
    out = 32
    accepted = step(0, 2, 10) + step(out, 0x12, 90, 11, 7) + step(0, 0x10, 11, 91)
    connected = step(out, 2, 90, 0, 6) + step(0, 0x12, 10, 91) + step(out, 0x10, 91, 11, 6)
    closed = step(0, 0x11, 12, 91) + step(out, 0x11, 91, 13, 7) + step(0, 0x10, 13, 92)
    later = bytes([1, 30, 3])
    told = bytes([3, 0, 7, 0, 3])
    record = struct.pack("<QQIIIHHHHHHHBBB3x", 1, 7, 1, 2, 54, 54, 14, 34, 0, 0, 0, 0, 1, 0,
                         0x10) + FRAMES["ipv4"][1][:54]
    record += bytes(-len(record) % 4)
    runs = {
        "accept_and_close": accepted + closed + later,
        "connect": connected + later,
        "connect_and_reuse": connected + step(0, 4, 11) + later + connected,
        "ipv6_raw": step(8 + 16 + out, 2, 90, 0, 5) + step(8 + 16, 0x12, 10, 91),
        "stream": accepted + bytes([2, 0]) + closed + bytes([2, 0]) + later,
        "announced": told + accepted + closed + later,
        "owner": step(0, 2, 10) + bytes([4, 0, 7, 3]) + step(0, 0x10, 11, 91) + later,
        "flood": b"".join(step(i, 2, i) for i in range(8)) + later,
        "any_record": bytes([0, len(record) // 4]) + record + bytes([3]) + later,
    }
    for name, run in runs.items():
        # Of sockets, of capture files, of what is streamed and has names from events.
        how = {"stream": 1, "announced": 8 + 2, "owner": 4}.get(name, 0)
        write("record", name, bytes([how, 7, 0]) + run)
    write("record", "little_memory", bytes([1, 0, 2]) + accepted + connected + closed)


# Text.

def make_socket_event():
    id_ = {"SPort": 1234, "DPort": 80, "SrcIP": "192.0.2.1", "DstIP": "2001:db8::2", "Interface": 0,
           "Cookie": 77}
    opened = {"Event": 1, "Timestamp": "2026-11-21T19:58:25.916725472Z", "UUID": "host_1_unsafe_4D",
              "ID": id_}
    lines = {
        "open": opened,
        "open_offset": dict(opened, Timestamp="2026-11-21T23:58:25.5+05:30"),
        "open_mapped": dict(opened, ID=dict(id_, SrcIP="::ffff:192.0.2.1", Cookie=-1)),
        "open_without_id": dict(opened, ID=None),
        "open_bad_uuid": dict(opened, UUID="../x"),
        "close": dict(opened, Event=2, ID=None),
        "unknown": dict(opened, Event=9, Other=[{"a": [1.5, "\u00e9", True]}]),
    }
    for name, line in lines.items():
        write("socket_event", name, b"\xff" + json.dumps(line).encode() + b"\n")
    write("socket_event", "lines", b"\7" + b"\n".join(
        json.dumps(line).encode() for line in lines.values()))
    write("socket_event", "case_and_duplicates",
          b"\0" + b'{"event":1,"EVENT":null,"id":{"sport":1},"ID":{"dport":2}} \n\n{}\n')


def make_flags():
    texts = {
        "defaults": "",
        "several": "-interface=eth0,lo\n-captureduration=1m30s\n-maxheap=1500MB\n-stream\n--\n",
        "value_apart": "-flowtimeout\n5s\n--compress\nzstd\n-shards=0x4",
        "environment": "-interface=lo\n\nFLOWTIMEOUT=5s\nINTERFACE=eth0\nSTREAM=T",
        "read": "-read=a.pcap\nb.pcap.gz\n-write.all\n-uuids=u\n-uuid.source=tcpinfo\n--\n-c",
        "modes": "-filemode=0600\n-datadirmode=700\n-eventsocket.mode=0660\n-durability=rename",
        "anonymize": "-anonymize.ip=cryptopan\n-anonymize.keyfile=k\n-sandbox=off\n-user=nobody",
        "help": "-interface=lo\n-h",
        "bad": "-maxflows=1_000\n-captureduration=1y\n-nope",
        "empty_path": "-datadir=\n-tcpinfo.eventsocket=\n",
    }
    for name, text in texts.items():
        write("flags", name, text.encode())


def make_uuid():
    texts = {
        "socket": "host_1795293231_unsafe_000000000000004D",
        "prefix_file": "host_1795293231\n",
        "host_and_uptime": "host-1.example\n1234.56 99.0\n",
        "dots": "..",
        "slash": "a/b",
    }
    for name, text in texts.items():
        write("uuid", name, struct.pack("<Q", 77) + text.encode())


def make_http():
    requests = {
        "metrics": b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        "two": b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nHEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        "flows": b"GET /flows?limit=3&after=%31 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "http_1_0": b"GET /metrics HTTP/1.0\r\n\r\n",
        "post": b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "chunked": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "query": b"GET /metrics?name[]=a&%41=%zz HTTP/1.1\r\nHost: a\r\nCookie: a=b; c\r\n\r\n",
        "not_found": b"GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
        "upgrade": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "torn": b"GET /met",
        "bare_newlines": b"GET /readyz HTTP/1.1\nHost: a\n X: y\n\n",
    }
    for name, request in requests.items():
        write("http", name, b"\xff" + request)


for make in (make_capture_file, make_flags, make_http, make_parse, make_record, make_salvage,
             make_socket_event, make_uuid):
    make()
