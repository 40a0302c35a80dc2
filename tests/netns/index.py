"""Reads the index beside the files, and says by code of its own what it has to tell."""

import datetime
import json
import os
import re
import socket
import struct

import pcap
from pcap import ACK, FIN, RST, SYN

NAME = re.compile(r"index-[A-Za-z0-9._-]+-\d{8}T\d{6}\.\d{9}Z\.jsonl")
_ECE, _CWR = 0x40, 0x80


def is_index(name):
    return NAME.fullmatch(name) is not None


def paths(datadir):
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(datadir)
                  for name in names if is_index(name))


def read(datadir, after_crash=False):
    """
    {path of a file: its line} of all indexes; ValueError unless every line is whole. Only after a
    crash the last one may be torn, until the next start.
    """
    lines = {}
    for path in paths(datadir):
        with open(path, "rb") as file:
            text, newline, torn = file.read().rpartition(b"\n")
        if torn and not after_crash:
            raise ValueError(f"{path} ends with {torn!r}")
        text = (text + newline).decode("ascii")
        for line in map(json.loads, text.splitlines()):
            if os.path.dirname(line["file"]) != os.path.relpath(os.path.dirname(path), datadir):
                raise ValueError(f"{path} tells of {line['file']}")
            if line["file"] in lines:
                raise ValueError(f"two lines of {line['file']}")
            lines[line["file"]] = line
    return lines


def packets(line):
    return line["sent_packets"] + line["received_packets"]


def expected(content, local):
    """
    What a line says of the packets of a pcap.PcapFile of which no packet is missing; local is the
    (address, port) of the local end.
    """
    records = content.records
    of = {"sent": [record for record in records if record.tcp.source == local],
          "received": [record for record in records if record.tcp.source != local]}
    told = {"first_time": _time(records[0].time_ns), "last_time": _time(records[-1].time_ns),
            "duration_ns": records[-1].time_ns - records[0].time_ns}
    for end, sent, received in (("local", "sent", "received"), ("remote", "received", "sent")):
        told.update({f"{sent}_{name}": value
                     for name, value in _sent(of[sent], of[received]).items()})
        options = _syn_options(of[sent])
        told[f"{end}_mss"] = options.get(2)
        told[f"{end}_window_scale"] = options.get(3)
        told[f"{end}_sack"] = 4 in options if options else None
        source = (of[sent] or of[received])[0].tcp
        address, port = source.source if of[sent] else source.destination
        told[f"{end}_port"] = port
        told[f"{end}_ip"] = socket.inet_ntop(
            socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)
    told.update(_handshake(records, local))
    return told


def _time(time_ns):
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    when = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{rest_ns:09d}Z"


def _payload(record):
    """What IP says: frames may be padded."""
    ip = record.header[record.tcp.ip_offset:]
    if ip[0] >> 4 == 4:
        end = struct.unpack_from(">H", ip, 2)[0]
    else:
        end = 40 + struct.unpack_from(">H", ip, 4)[0]
    return record.tcp.ip_offset + end - record.tcp.end


def _sent(records, received):
    """One end's figures by a set of all sequence numbers that it sent, relative to the first."""
    told = {"packets": len(records), "bytes": sum(record.wire_bytes for record in records),
            "payload_bytes": sum(map(_payload, records)), "retransmitted": 0, "repeated_bytes": 0,
            "out_of_order": 0, "unseen_bytes": 0, "aggregates": None}
    seen, behind, base = set(), 0, records[0].tcp.seq if records else 0
    for record in records:
        size = _payload(record) + bool(record.tcp.flags & SYN) + bool(record.tcp.flags & FIN)
        first = (record.tcp.seq - base + (1 << 31)) % (1 << 32) - (1 << 31)
        numbers = set(range(first, first + size))
        is_keepalive = _payload(record) == size == 1 and first == behind - 1
        if not numbers or record.tcp.flags & RST or is_keepalive:
            continue
        told["retransmitted"] += numbers <= seen
        told["repeated_bytes"] += len(numbers & seen)
        told["out_of_order"] += bool(seen) and first < behind and bool(
            set(range(first, min(first + size, behind))) - seen)
        seen |= numbers
        behind = max(behind, first + size)
    mss = _syn_options(received).get(2)
    if mss:
        told["aggregates"] = sum(_payload(record) > mss for record in records)
    return told


def _syn_options(records):
    """{kind: value} of the first SYN, its end always among them; nothing without SYN."""
    syn = next((record for record in records if record.tcp.flags & SYN), None)
    if syn is None:
        return {}
    options, found = syn.header[syn.tcp.tcp_offset + 20:], {0: 0}
    while options and options[0] != 0:
        size = 1 if options[0] == 1 else options[1]
        found[options[0]] = int.from_bytes(options[2:size], "big")
        options = options[size:]
    return found


def _handshake(records, local):
    """Of a connection that began with one SYN and one SYN-ACK."""
    syns = [record for record in records if record.tcp.flags & (SYN | ACK) == SYN]
    answers = [record for record in records if record.tcp.flags & (SYN | ACK) == SYN | ACK]
    told = {"opened_by": None, "syn_to_synack_ns": None, "handshake_ns": None, "ecn": None}
    if syns:
        told["opened_by"] = "local" if syns[0].tcp.source == local else "remote"
    if syns and answers:
        opener = syns[0].tcp.source
        ack = next(record for record in records if record.tcp.source == opener
                   and record.tcp.flags & (SYN | ACK) == ACK)
        told["handshake_ns"] = ack.time_ns - syns[0].time_ns
        told["ecn"] = (syns[0].tcp.flags & (_ECE | _CWR) == _ECE | _CWR
                       and answers[0].tcp.flags & (_ECE | _CWR) == _ECE)
        if len(syns) == 1:
            told["syn_to_synack_ns"] = answers[0].time_ns - syns[0].time_ns
    return told
