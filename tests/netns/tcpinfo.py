"""Both ends of tcp-info's event socket: a fake tcp-info, and a client that takes times."""

import json
import os
import re
import socket
import struct
import threading
import time
from typing import NamedTuple

from harness import wait_until
from peers import endpoint

CHUNK_BYTES = 1 << 16
STALLED_SECONDS = 1  # tcp-info stands still while its client doesn't read
NOON = "2026-11-21T12:00:00Z"


def signed(cookie):
    """A cookie as tcp-info writes it."""
    return struct.unpack("q", struct.pack("Q", cookie))[0]


def address_text(packed, mapped=False):
    """An address as net.IP has it in JSON; an IPv4 one may be mapped into IPv6."""
    if len(packed) == 16:
        return socket.inet_ntop(socket.AF_INET6, packed)
    return ("::ffff:" if mapped else "") + socket.inet_ntop(socket.AF_INET, packed)


def open_event(uuid, cookie, source, destination, when=NOON, mapped=False):
    """The fields of an open, in Go's order; source and destination are endpoints as pcap.Tcp's."""
    return {"Event": 0, "Timestamp": when, "UUID": uuid,
            "ID": {"SPort": source[1], "DPort": destination[1],
                   "SrcIP": address_text(source[0], mapped),
                   "DstIP": address_text(destination[0], mapped),
                   "Interface": 0, "Cookie": signed(cookie)}}


def close_event(uuid="somebody_0000000000000001", when=NOON):
    return {"Event": 1, "Timestamp": when, "UUID": uuid, "ID": None}


def line(event):
    """One line as Go's encoding/json writes it."""
    text = json.dumps(event, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode() + b"\n"


class TcpInfo:
    """
    A fake tcp-info with one client. What the test sends has to be read at once: a client that
    doesn't read would hold up all others of a real one.
    """

    def __init__(self, case):
        self.path = os.path.join(case.folder, "tcpinfo.sock")
        self._listener = self._client = None
        self.longest_send_s = 0.0
        case.addCleanup(self.stop)

    def listen(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()

    def accept(self, seconds=10):
        """Waits for the client."""
        self._listener.settimeout(seconds)
        self._client, _ = self._listener.accept()
        self._client.settimeout(STALLED_SECONDS)

    def start(self):
        self.listen()
        self.accept()

    def has_caller(self):
        """Whether anybody has ever called since it listens."""
        self._listener.settimeout(0)
        try:
            self._listener.accept()[0].close()
            return True
        except BlockingIOError:
            return False

    def stop(self, leave_file=False):
        """Hangs up and goes away, as an exit does; a killed one leaves its file."""
        for sock in (self._client, self._listener):
            if sock:
                sock.close()
        self._client = self._listener = None
        if not leave_file and os.path.exists(self.path):
            os.unlink(self.path)

    def send(self, data):
        """Sends bytes; fails when they aren't read at once."""
        view = memoryview(data)
        for start in range(0, len(data), CHUNK_BYTES):
            began = time.monotonic()
            try:
                self._client.sendall(view[start:start + CHUNK_BYTES])
            except TimeoutError:
                raise AssertionError(
                    f"tcp-info stood still for {STALLED_SECONDS} s: not read") from None
            self.longest_send_s = max(self.longest_send_s, time.monotonic() - began)

    def say(self, *events):
        self.send(b"".join(map(line, events)))


class Event(NamedTuple):
    """A line that a client got: when, and what it said."""
    at: float  # time.monotonic()
    is_open: bool
    timestamp: str
    uuid: str
    source: tuple = None
    destination: tuple = None
    cookie: int = None

    @property
    def flow(self):
        return frozenset((self.source, self.destination))


_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{0,8}[1-9])?Z)"
_OPEN = re.compile(
    rf'\{{"Event":0,"Timestamp":"{_TIME}","UUID":"([\w.-]+)","ID":\{{"SPort":(\d+),"DPort":(\d+),'
    r'"SrcIP":"([0-9a-f.:]+)","DstIP":"([0-9a-f.:]+)","Interface":(\d+),"Cookie":(-?\d+)\}\}')
_CLOSE = re.compile(rf'\{{"Event":1,"Timestamp":"{_TIME}","UUID":"([\w.-]+)","ID":null\}}')


def parse_event(at, text):
    """An Event; raises ValueError at anything but the spelling of Go's encoding/json."""
    if found := _CLOSE.fullmatch(text):
        return Event(at, False, *found.groups())
    if found := _OPEN.fullmatch(text):
        when, uuid, sport, dport, source, destination, _, cookie = found.groups()
        return Event(at, True, when, uuid, endpoint(source, int(sport)),
                     endpoint(destination, int(dport)), int(cookie))
    raise ValueError(f"no line of tcp-info: {text!r}")


class EventClient:
    """A client of an event socket that reads all that comes, from a thread of its own."""

    def __init__(self, case, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._pieces = []  # (when, bytes)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        case.addCleanup(self.close)

    def _read(self):
        while data := self._socket.recv(1 << 20):
            self._pieces.append((time.monotonic(), data))

    def wait_for(self, count, seconds=10):
        """Waits for so many lines in all."""
        wait_until(lambda: self._lines() >= count,
                   lambda: f"{count} lines; {self._lines()} came", seconds)

    def _lines(self):
        return sum(data.count(b"\n") for _, data in self._pieces)

    def close(self):
        """Hangs up; returns what came as Events."""
        if self._thread.is_alive():
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        events, rest = [], b""
        for at, data in self._pieces:
            *lines, rest = (rest + data).split(b"\n")
            events += [parse_event(at, text.decode()) for text in lines]
        return events
