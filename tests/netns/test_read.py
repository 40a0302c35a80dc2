"""-read: capture files into a file for each flow, in the time of their packets."""

import contextlib
import fcntl
import gzip
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest
from typing import NamedTuple

import captures
import index
import pcap
from captures import (ACK, CLIENT, CLIENT6, FIN, MILLISECOND, SECOND, SERVER, SERVER6, START_NS,
                      SYN, Connection, Waves, merged, pcap_bytes, pcapng_bytes)
from harness import (BINARY, ENVIRONMENT, CaptureTest, end_process, needs_tool, peak_memory,
                     rights_of, run, wait_until)
from peers import endpoint

NOT_SAVED, DAMAGED, INTERRUPTED = 1, 2, 128 + signal.SIGINT


class Split(NamedTuple):
    """What a run with -read left."""
    datadir: str
    log: str
    books: dict

    def paths(self):
        """Of all files but the index, below datadir."""
        return sorted(os.path.relpath(os.path.join(folder, name), self.datadir)
                      for folder, _, names in os.walk(self.datadir) for name in names
                      if not index.is_index(name))

    def tree(self):
        """Names and contents."""
        content = {}
        for path in self.paths():
            with open(os.path.join(self.datadir, path), "rb") as file:
                content[path] = file.read()
        return content

    def names(self):
        return [os.path.basename(path).removesuffix(".pcap") for path in self.paths()]


@unittest.skipUnless(os.access(BINARY, os.X_OK), f"no program at {BINARY}")
class ReadTest(unittest.TestCase):
    """A folder for captures and what becomes of them."""

    assert_header_exact = CaptureTest.assert_header_exact

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="packet-headers-read-")
        self.addCleanup(shutil.rmtree, self.folder)
        self._serial = 0

    def new_path(self, name):
        self._serial += 1
        return os.path.join(self.folder, f"{self._serial}-{name}")

    def write(self, content, name="a.pcap"):
        """Writes a file and returns its path."""
        path = self.new_path(name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def start(self, *arguments, prefix=(), **options):
        """Starts the program; returns its process and its data directory."""
        datadir = self.new_path("data")
        process = subprocess.Popen([*prefix, BINARY, f"-datadir={datadir}", *arguments],
                                   env=ENVIRONMENT, **{"stderr": subprocess.PIPE, **options})
        self.addCleanup(end_process, process)
        return process, datadir

    def split(self, *arguments, code=0, data=None, prefix=()):
        """Runs the program to its end; data is its standard input."""
        process, datadir = self.start(
            *arguments, prefix=prefix,
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE)
        _, log = process.communicate(data, timeout=60)
        return self.finished(process.returncode, code, datadir, log.decode())

    def finished(self, returncode, code, datadir, log):
        """Checks what holds for every run that began to read."""
        self.assertEqual(returncode, code, log)
        line, = re.findall(r"books: (.*)", log)
        books = {name: int(value) for name, value in re.findall(r"(\w+)=(-?\d+)", line)}
        split = Split(datadir, log, books)
        self.assertEqual([name for name in split.names() if name.startswith(".")], [])
        reasons = {name: count for name, count in books.items()
                   if name not in ("files", "seen", "unaccounted")}
        self.assertEqual(books["unaccounted"], 0, log)
        self.assertEqual(books["seen"], sum(reasons.values()), log)
        self.assertNotIn("\r", log, "no progress where there is no terminal")
        return split

    def assert_flows(self, split, *flows):
        """
        The files hold exactly these flows, each a list of Packet: headers, wire lengths, times and
        order; the books count them as saved.
        """
        expected = sorted([packet.record() for packet in flow] for flow in flows)
        got = sorted(self.assert_header_exact(os.path.join(split.datadir, path)).records
                     for path in split.paths())
        self.assertEqual(len(got), len(expected), split.log)
        for ours, theirs in zip(got, expected):
            self.assertEqual(ours, theirs)
        self.assertEqual(split.books["saved"], sum(map(len, flows)), split.log)

    def one_error(self, split):
        """The only line that is an error."""
        line, = [line for line in split.log.splitlines() if " error " in line]
        return line


def some_connections():
    """Of both families and both ends, side by side."""
    return [Connection((f"203.0.113.{n}", 40000 + n), SERVER, START_NS + n * 300_000).whole()
            for n in range(1, 6)] + [
                Connection(CLIENT6, SERVER6, START_NS).whole(),
                Connection(("10.0.0.1", 5000), ("10.0.0.1", 6000), START_NS + 1000).whole()]


class Formats(ReadTest):

    def setUp(self):
        super().setUp()
        self.connections = some_connections()
        self.packets = merged(*self.connections)

    def assert_all(self, split):
        self.assertEqual(split.books["seen"], len(self.packets))
        self.assert_flows(split, *(connection.packets for connection in self.connections))

    def test_pcap_and_pcapng_of_each_resolution_and_byte_order(self):
        for make in (pcap_bytes, pcapng_bytes):
            for nanoseconds in (False, True):
                for order in ("<", ">"):
                    with self.subTest(make=make.__name__, nanoseconds=nanoseconds, order=order):
                        self.assert_all(self.split("-read", self.write(
                            make(self.packets, nanoseconds, order))))

    def test_nanoseconds(self):
        """Not one of them is lost; those of a file of microseconds are what it says."""
        connection = Connection(start_ns=START_NS + 789, step_ns=1_000_001).whole()
        for make in (pcap_bytes, pcapng_bytes):
            self.assert_flows(self.split("-read", self.write(make(connection.packets))),
                              connection.packets)
        cut = [packet._replace(time_ns=packet.time_ns // 1000 * 1000)
               for packet in connection.packets]
        self.assert_flows(self.split("-read", self.write(
            pcap_bytes(connection.packets, nanoseconds=False))), cut)

    def test_gzip(self):
        self.assert_all(self.split("-read", self.write(gzip.compress(pcap_bytes(self.packets)),
                                                       "a.pcap.gz")))

    @needs_tool("zstd")
    def test_zstd(self):
        path = self.write(pcapng_bytes(self.packets), "a.pcapng")
        run("zstd", "-q", path)
        self.assert_all(self.split("-read", path + ".zst"))

    def test_standard_input(self):
        self.assert_all(self.split("-read", "-", data=pcap_bytes(self.packets)))
        self.assert_all(self.split("-read=-", data=pcapng_bytes(self.packets)))
        self.assert_all(self.split("-read=-", data=gzip.compress(pcap_bytes(self.packets))))

    def test_several_files_are_one_capture(self):
        """A flow that spans two files is one file, whatever the files' formats."""
        half = len(self.packets) // 2
        first = self.write(pcap_bytes(self.packets[:half], nanoseconds=False))
        second = self.write(pcapng_bytes(self.packets[half:]), "b.pcapng")
        self.assert_all(self.split("-read", first, second))
        self.assert_all(self.split("-read", first, "-read", second))
        self.assert_all(self.split("-read", first, "-", data=pcapng_bytes(self.packets[half:])))

    def test_link_layers_without_ethernet(self):
        """Cooked headers are left out, and the file is one of bare IP."""
        connection = Connection().whole()
        sll = struct.pack(">HHHQH", 0, 1, 6, 0, 0x0800)
        sll2 = struct.pack(">HHIHBB8s", 0x0800, 0, 1, 1, 0, 6, b"")
        for link_type, head in ((pcap.LINK_RAW, b""), (captures.LINK_NULL, b"\2\0\0\0"),
                                (captures.LINK_LINUX_SLL, sll), (captures.LINK_LINUX_SLL2, sll2)):
            with self.subTest(link_type=link_type):
                cooked = [packet._replace(data=head + packet.data[14:])
                          for packet in connection.packets]
                split = self.split("-read", self.write(pcap_bytes(cooked, link_type=link_type)))
                path, = split.paths()
                content = self.assert_header_exact(os.path.join(split.datadir, path))
                self.assertEqual(content.link_type, pcap.LINK_RAW)
                bare = [packet.record() for packet in connection.packets]
                self.assertEqual([(r.time_ns, r.wire_bytes, r.header) for r in content.records],
                                 [(r.time_ns, r.wire_bytes - 14, r.header[14:]) for r in bare])

    def test_what_is_not_tcp_is_counted(self):
        connection = Connection().whole()
        arp = captures.Packet(START_NS, b"\xff" * 12 + b"\x08\x06" + bytes(46))
        udp = bytearray(connection.packets[0].data)
        udp[23] = 17
        short = connection.packets[0]
        content = pcap_bytes([arp, captures.Packet(START_NS, bytes(udp)), *connection.packets])
        content += struct.pack("<IIII", START_NS // SECOND, 0, 40, 54) + short.data[:40]
        split = self.split("-read", self.write(content))
        self.assert_flows(split, connection.packets)
        for reason in ("not_ip", "not_tcp", "truncated"):
            self.assertEqual(split.books.get(reason), 1, split.log)


class SameEachTime(ReadTest):

    FLAGS = "-captureduration=6s", "-flowtimeout=3s", "-maxflows=20"

    def capture(self):
        """Two thousand packets in which every timer and the limit of flows have something to do."""
        return pcap_bytes(merged(*(
            Connection((f"203.0.113.{n % 40}", 40000 + n // 80), SERVER, START_NS + n * 13 ** 7,
                       step_ns=n ** 3 * 2000, client_first=n * 100_000,
                       server_first=n * 200_000).whole() for n in range(1, 210))))

    def test_whatever_the_number_of_shards(self):
        path = self.write(self.capture())
        first = self.split("-read", path, *self.FLAGS)
        for reason in ("late", "flow_limit"):
            self.assertGreater(first.books.get(reason, 0), 0, first.log)
        for more in ((), ("-shards=1",), ("-shards=3",), ("-stream",)):
            again = self.split("-read", path, *self.FLAGS, *more)
            self.assertEqual(again.tree(), first.tree(), more)
            self.assertEqual(again.books, first.books, more)

    def test_however_slowly_it_comes(self):
        """Through a pipe, in pieces that end anywhere, each only after the last one was read."""
        content = self.capture()
        first = self.split("-read", "-", *self.FLAGS, data=content)
        process, datadir = self.start("-read", "-", *self.FLAGS, stdin=subprocess.PIPE)
        for at in range(0, len(content), 1234):
            os.write(process.stdin.fileno(), content[at:at + 1234])
            wait_until(lambda: unread_bytes(process.stdin) == 0, "it reads on")
        _, log = process.communicate(timeout=20)
        slow = self.finished(process.returncode, 0, datadir, log.decode())
        self.assertEqual(slow.tree(), first.tree())
        self.assertEqual(slow.books, first.books)


def unread_bytes(pipe):
    """How much waits in a pipe."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]


class FlowLife(ReadTest):
    """As live, in the time of the packets: ten minutes take a moment."""

    def read(self, *connections, flags=(), **options):
        return self.split("-read", self.write(pcap_bytes(merged(*connections))), *flags, **options)

    def test_captureduration(self):
        """The first part is saved, the rest is late, and never makes a second file."""
        long = Connection(step_ns=SECOND).open().talk(298).close()
        split = self.read(long, flags=("-captureduration=1m",))
        self.assert_flows(split, [p for p in long.packets if p.time_ns <= START_NS + 60 * SECOND])
        self.assertEqual(split.books["late"], len(long.packets) - split.books["saved"])
        self.assert_flows(self.read(long, flags=("-captureduration=11m",)), long.packets)

    def test_flowtimeout(self):
        """Silence that is longer ends a flow; what comes later never makes a second file."""
        paused = Connection().open().talk().wait(9 * SECOND).talk().wait(600 * SECOND).talk()
        self.assert_flows(self.read(paused, flags=("-flowtimeout=10s", "-captureduration=1h")),
                          paused.packets[:7])
        self.assert_flows(self.read(paused, flags=("-flowtimeout=5s",)), paused.packets[:5])
        self.assert_flows(self.read(paused, flags=("-flowtimeout=11m", "-captureduration=1h")),
                          paused.packets)

    def test_time_goes_on_with_the_packets_of_others(self):
        """What a flow's silence ends is ended then, and its tuple is free."""
        first = Connection().open().talk()
        second = Connection(start_ns=START_NS + 40 * SECOND, client_first=70000).whole()
        other = Connection(CLIENT6, SERVER6, step_ns=5 * SECOND).open().talk(4)
        self.assert_flows(self.read(first, second, other, flags=("-captureduration=1m",)),
                          first.packets, second.packets, other.packets)

    def test_tuple_reuse(self):
        """A file for each connection, however the one before ended."""
        for end in (Connection.close, Connection.reset, lambda connection: connection):
            connections = [end(Connection(start_ns=START_NS + n * SECOND,
                                          client_first=1000 + n * 100_000,
                                          server_first=900_000 + n * 100_000).open().talk())
                           for n in range(3)]
            self.assert_flows(self.read(*connections), *(c.packets for c in connections))

    def test_port_reuse_within_time_wait(self):
        """And what is left of the first connection belongs to neither."""
        for pause_ns in (SECOND, 10 * SECOND, 59 * SECOND, 600 * SECOND):
            with self.subTest(pause_s=pause_ns // SECOND):
                first = Connection().whole()
                second = Connection(start_ns=START_NS + pause_ns, client_first=500_000,
                                    server_first=600_000).whole()
                self.assert_flows(self.read(first, second), first.packets, second.packets)
        late = Connection().whole().wait(30 * SECOND).server(FIN | ACK).client(ACK)
        split = self.read(late)
        self.assert_flows(split, late.packets[:-2])
        self.assertEqual(split.books["late"], 2)

    def test_retransmitted_syns_begin_nothing(self):
        connection = Connection()
        connection.client(SYN)
        connection.packets.append(connection.packets[0]._replace(time_ns=START_NS + MILLISECOND))
        connection.wait(SECOND).server(SYN | ACK).client(ACK).talk().close()
        self.assert_flows(self.read(connection), connection.packets)

    def test_ten_minutes_of_many_flows(self):
        """300 flows begin every other second, each lives for one: all are there."""
        connections = [Connection((f"10.1.{n % 256}.{n // 256 + 1}", 40000), SERVER,
                                  START_NS + n * 2 * SECOND).whole() for n in range(300)]
        split = self.read(*connections)
        self.assert_flows(split, *(connection.packets for connection in connections))

    def test_the_clock_was_set_back(self):
        """Said once; flows that are open stay whole, and the times stay those of the packets."""
        before = Connection().whole()
        after = Connection(CLIENT6, SERVER6, START_NS - 3600 * SECOND).whole()
        split = self.split("-read", self.write(pcap_bytes(before.packets + after.packets)))
        self.assert_flows(split, before.packets, after.packets)
        self.assertRegex(split.log, "warning.* back 1 time")


class WhichFlows(ReadTest):

    def setUp(self):
        super().setUp()
        self.whole = Connection().whole()
        begun = Connection(("203.0.113.78", 40001)).open().talk(3)
        self.begun = begun.packets[3:]  # the capture has its middle only
        self.attempt = Connection(("203.0.113.79", 40002)).client(SYN).packets
        self.path = self.write(pcap_bytes(sorted(
            self.whole.packets + self.begun + self.attempt, key=lambda packet: packet.time_ns)))

    def test_without_handshake(self):
        """Counted, and the log says which flag keeps them."""
        split = self.split("-read", self.path)
        self.assert_flows(split, self.whole.packets)
        self.assertEqual(split.books["no_handshake"], len(self.begun))
        self.assertEqual(split.books["incomplete_handshake"], 1)
        self.assertIn("-write.all", split.log.split("no_handshake=", 1)[1])

    def test_write_all(self):
        split = self.split("-read", self.path, "-write.all")
        self.assert_flows(split, self.whole.packets, self.begun, self.attempt)

    def test_no_hint_without_need(self):
        split = self.split("-read", self.write(pcap_bytes(self.whole.packets)))
        self.assertNotIn("-write.all keeps", split.log)


def iso(time_ns, offset_hours=0):
    """RFC 3339 as Go writes it."""
    seconds, rest = divmod(time_ns + offset_hours * 3600 * SECOND, SECOND)
    written = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    zone = f"+{offset_hours:02d}:00" if offset_hours else "Z"
    return f"{written}.{rest:09d}{zone}"


def open_event(uuid, time_ns, client=CLIENT, server=SERVER, cookie=7, offset_hours=0):
    """A line of tcp-info: a socket opened."""
    return json.dumps({
        "Event": 0, "Timestamp": iso(time_ns, offset_hours), "UUID": uuid,
        "ID": {"SPort": server[1], "DPort": client[1], "SrcIP": server[0], "DstIP": client[0],
               "Interface": 0, "Cookie": cookie}}).encode() + b"\n"


class Names(ReadTest):

    def test_without_uuids(self):
        """When it began, and its two ends, the lower one first."""
        connections = (Connection(start_ns=START_NS + 789).whole(),
                       Connection(CLIENT6, SERVER6).whole())
        split = self.split("-read", self.write(pcap_bytes(merged(*connections))))
        self.assertEqual(split.paths(), [
            "2024/02/29/20240229T223000.123456000Z_2001-db8-1-2--9.443_2001-db8-5-6--77.40000.pcap",
            "2024/02/29/20240229T223000.123456789Z_198.51.100.9.443_203.0.113.77.40000.pcap"])

    def test_uuids(self):
        """Names as recorded, in the folder of the date as written; the others' own."""
        announced, other = Connection().whole(), Connection(CLIENT6, SERVER6).whole()
        path = self.write(pcap_bytes(merged(announced, other)))
        events = self.write(
            b"no event\n" + open_event("host_1_7", START_NS + 5 * MILLISECOND, offset_hours=2)
            + b'{"Event":1,"Timestamp":"2024-02-29T23:30:01Z","UUID":"host_1_7","ID":null}\n')
        split = self.split("-read", path, "-uuids", events)
        self.assert_flows(split, announced.packets, other.packets)
        self.assertEqual(split.paths()[1], "2024/03/01/host_1_7.pcap")
        self.assertRegex(split.paths()[0], "^2024/02/29/.*_2001-db8-5-6--77.40000.pcap$")
        self.assertRegex(split.log, "1 lines are no events")

    def test_only_what_was_announced(self):
        announced, other = Connection().whole(), Connection(CLIENT6, SERVER6).whole()
        path = self.write(pcap_bytes(merged(announced, other)))
        events = self.write(open_event("host_1_7", START_NS))
        split = self.split("-read", path, "-uuids", events, "-uuid.source=tcpinfo")
        self.assert_flows(split, announced.packets)
        self.assertEqual(split.names(), ["host_1_7"])
        self.assertEqual(split.books["unannounced"], len(other.packets))

    def test_each_connection_of_a_tuple_has_its_own(self):
        """Also where the event names the client first, and comes after the end."""
        connections = [Connection(start_ns=START_NS + n * 4 * SECOND, client_first=n * 100_000,
                                  server_first=n * 200_000).whole() for n in range(1, 4)]
        events = b"".join(
            open_event(f"host_1_{n}", START_NS + n * 4 * SECOND + SECOND, SERVER, CLIENT, cookie=n)
            for n in range(1, 4))
        split = self.split("-read", self.write(pcap_bytes(merged(*connections))), "-uuids",
                           self.write(events))
        self.assertEqual(split.names(), ["host_1_1", "host_1_2", "host_1_3"])
        self.assert_flows(split, *(connection.packets for connection in connections))
        for path, connection in zip(split.paths(), connections):
            self.assertEqual(self.assert_header_exact(
                os.path.join(split.datadir, path)).records[0].time_ns,
                connection.packets[0].time_ns)

    def test_a_name_that_is_no_file_name(self):
        """Doesn't lead out of the data directory; the flow keeps its own."""
        connection = Connection().whole()
        events = self.write(open_event("../../../evil", START_NS))
        split = self.split("-read", self.write(pcap_bytes(connection.packets)), "-uuids", events)
        self.assert_flows(split, connection.packets)
        self.assertRegex(split.names()[0], "^20240229T")

    def test_uuids_that_cannot_be_read(self):
        process, datadir = self.start("-read", self.write(pcap_bytes([])), "-uuids",
                                      "/nonexistent/events")
        _, log = process.communicate(timeout=10)
        self.assertEqual(process.returncode, NOT_SAVED, log)
        self.assertIn(b"/nonexistent/events", log)
        self.assertEqual(Split(datadir, "", {}).paths(), [])

    def test_anonymized(self):
        """Nobody knows which end is the host: both are hidden, in the file and in its name."""
        connections = (Connection().whole(), Connection(CLIENT6, SERVER6).whole())
        split = self.split("-read", self.write(pcap_bytes(merged(*connections))),
                           "-anonymize.ip=netblock")
        start = "20240229T223000.123456000Z"
        self.assertEqual(split.names(), [f"{start}_198.51.100.0.443_203.0.113.0.40000",
                                         f"{start}_2001-db8-1--.443_2001-db8-5--.40000"])
        for path, content in split.tree().items():
            for end in (CLIENT, SERVER, CLIENT6, SERVER6):
                self.assertNotIn(endpoint(*end)[0], content, path)
        for path, kept in zip(split.paths(), connections):
            records = self.assert_header_exact(os.path.join(split.datadir, path)).records
            self.assertEqual([(r.time_ns, r.wire_bytes, r.tcp.seq) for r in records],
                             [(r.time_ns, r.wire_bytes, r.tcp.seq)
                              for r in (packet.record() for packet in kept.packets)])
            for record in records:
                self.assertEqual(record.header[:12], bytes(12), "MAC addresses")
        self.assertEqual({end for path in split.paths()
                          for end in pcap.read(os.path.join(split.datadir, path)).records[0].flow},
                         {endpoint("203.0.113.0", 40000), endpoint("198.51.100.0", 443),
                          endpoint("2001:db8:5::", 40000), endpoint("2001:db8:1::", 443)})


class NobodyReadsTheLog(ReadTest):

    def test_files_are_saved(self):
        """As behind `2>&1 | head`."""
        path = self.write(pcap_bytes(Connection().whole().packets))
        reader, writer = os.pipe()
        os.close(reader)
        process, datadir = self.start("-read", path, stderr=writer)
        os.close(writer)
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(len(Split(datadir, "", {}).paths()), 1)


class BadFiles(ReadTest):
    """All that can be read is saved, one line says what is wrong, and the exit code is 2."""

    def setUp(self):
        super().setUp()
        self.connection = Connection().whole()
        self.good = self.write(pcap_bytes(self.connection.packets), "good.pcap")

    def bad(self, path, says, saved=0):
        """A bad file by itself, and before and after a good one."""
        split = self.split("-read", path, code=DAMAGED)
        error = self.one_error(split)
        self.assertIn(path, error)
        self.assertRegex(error, says)
        self.assertEqual(split.books["saved"], saved, split.log)
        self.assertEqual(len(split.paths()), 1 if saved else 0)
        return split

    def with_a_good_one(self, path):
        for paths in ((path, self.good), (self.good, path)):
            split = self.split("-read", *paths, code=DAMAGED)
            self.assert_flows(split, self.connection.packets)
            self.assertIn(path, self.one_error(split))

    def test_truncated(self):
        """Wherever it was cut."""
        connection = Connection().open().talk(3)
        for make in (pcap_bytes, pcapng_bytes):
            content = make(connection.packets)
            last = len(content) - len(make(connection.packets[:-1]))
            for cut in (1, 7, last - 20, last - 5, last - 1):
                with self.subTest(make=make.__name__, cut=cut):
                    split = self.bad(self.write(content[:-cut]), "trunc|cut|stopped after 8 p", 8)
                    self.assert_flows(split, connection.packets[:-1])

    def test_damaged(self):
        """A record that can't be: what is before it is saved."""
        content = bytearray(pcap_bytes(self.connection.packets))
        at = len(pcap_bytes(self.connection.packets[:6]))
        content[at + 8:at + 12] = b"\xff\xff\xff\x7f"
        split = self.bad(self.write(bytes(content)), "stopped after 6 packets", 6)
        self.assert_flows(split, self.connection.packets[:6])

    def test_damaged_gzip(self):
        """Cut off, and with a wrong byte."""
        packets = Connection().open().talk(5000).packets  # more than one buffer
        content = gzip.compress(pcap_bytes(packets))
        cut = self.split("-read", self.write(content[:-len(content) // 3], "a.gz"), code=DAMAGED)
        self.assertRegex(self.one_error(cut), r"a\.gz.*gzip")
        path, = cut.paths()
        records = self.assert_header_exact(os.path.join(cut.datadir, path)).records
        self.assertGreater(len(records), len(packets) // 3)
        self.assertEqual(records, [packet.record() for packet in packets[:len(records)]])
        wrong = bytearray(content)
        wrong[-6] ^= 1  # of the checksum
        split = self.split("-read", self.write(bytes(wrong), "a.gz"), code=DAMAGED)
        self.assertRegex(self.one_error(split), r"a\.gz.*checksum")
        self.assert_flows(split, packets)

    @needs_tool("zstd")
    def test_truncated_zstd(self):
        path = self.write(pcap_bytes(self.connection.packets))
        run("zstd", "-q", path)
        with open(path + ".zst", "rb+") as file:
            file.truncate(os.path.getsize(path + ".zst") - 9)
        split = self.split("-read", path + ".zst", code=DAMAGED)
        self.assertRegex(self.one_error(split), r"\.zst.*zstd")

    def test_missing(self):
        path = os.path.join(self.folder, "missing.pcap")
        process, datadir = self.start("-read", path)
        _, log = process.communicate(timeout=60)
        self.assertEqual(process.returncode, DAMAGED)
        self.assertRegex(log.decode(), f"error read {path}: No such file")
        self.assertFalse(os.path.exists(datadir), "made for nothing")
        self.with_a_good_one(path)

    def test_empty(self):
        path = self.write(b"")
        self.bad(path, "empty")
        self.with_a_good_one(path)

    def test_text(self):
        path = self.write(b"These are not the packets that you look for.\n" * 100)
        self.bad(path, "not a capture")
        self.with_a_good_one(path)

    def test_directory(self):
        path = os.path.join(self.folder, "directory")
        os.mkdir(path)
        self.bad(path, "(?i)is a directory")
        self.with_a_good_one(path)

    def test_unsupported_link_type(self):
        path = self.write(pcap_bytes(self.connection.packets,
                                     link_type=captures.LINK_IEEE802_11))
        self.bad(path, r"(?i)link type 105\b.*802\.11")
        self.with_a_good_one(path)

    def test_header_only(self):
        """Nothing in it is no error."""
        split = self.split("-read", self.write(pcap_bytes([])))
        self.assertEqual(split.paths(), [])
        self.assertEqual(split.books["seen"], 0)

    def test_both_bad(self):
        """A line for each."""
        split = self.split("-read", self.write(b""), os.path.join(self.folder, "missing"),
                           code=DAMAGED)
        self.assertEqual(split.log.count(" error "), 2, split.log)

    def test_where_nothing_can_be_written(self):
        process, _ = self.start("-datadir=/proc", "-read", self.good)
        _, log = process.communicate(timeout=10)
        self.assertEqual(process.returncode, NOT_SAVED, log)
        self.assertIn(b"/proc", log.splitlines()[-1])


class Output(ReadTest):

    def test_compressed(self):
        """Any gunzip or zstd gives what there would have been without."""
        path = self.write(pcap_bytes(merged(*some_connections())))
        plain = self.split("-read", path).tree()
        for compress, ending, tool in (("gzip", ".gz", "gunzip"), ("zstd", ".zst", "zstd")):
            if not shutil.which(tool, path=ENVIRONMENT["PATH"]):
                self.skipTest(f"{tool} isn't installed")
            split = self.split("-read", path, f"-compress={compress}")
            self.assertEqual([name + ending for name in plain], split.paths())
            for name in split.paths():
                whole = os.path.join(split.datadir, name)
                done = subprocess.run([tool, "-dc", whole], capture_output=True, check=True)
                self.assertEqual(done.stdout, plain[name.removesuffix(ending)])
            # And reads them itself.
            again = self.split("-read", *(os.path.join(split.datadir, n) for n in split.paths()))
            self.assertEqual(again.tree(), plain)

    def test_what_it_wrote_it_reads(self):
        """Split once more, the files are the same."""
        first = self.split("-read", self.write(pcap_bytes(merged(*some_connections()))))
        second = self.split("-read", *(os.path.join(first.datadir, n) for n in first.paths()))
        self.assertEqual(second.tree(), first.tree())

    def test_twice_into_one_directory(self):
        """Nothing is overwritten: the second has a number."""
        path = self.write(pcap_bytes(Connection().whole().packets))
        first = self.split("-read", path)
        before = first.tree()
        self.split("-read", path, f"-datadir={first.datadir}")
        after = first.tree()
        name, = before
        self.assertEqual(after, {name: before[name],
                                 name.replace(".pcap", ".1.pcap"): before[name]})


class Stopped(ReadTest):

    def stop(self, number):
        """While it waits for a pipe that gives nothing more."""
        connections = [Connection((f"203.0.113.{n}", 40000), SERVER).open().talk(2)
                       for n in range(100)]
        packets = merged(*connections)
        process, datadir = self.start("-read", "-", stdin=subprocess.PIPE)
        process.stdin.write(pcap_bytes(packets) + b"\0\0\0")  # and the beginning of a record
        process.stdin.flush()
        wait_until(lambda: unread_bytes(process.stdin) == 0 and is_asleep(process.pid),
                   "it has read all there is")
        process.send_signal(number)
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            self.fail(f"no end within 5 s of signal {number}")
        log = process.stderr.read().decode()
        process.stderr.close()
        split = self.finished(code, 128 + number, datadir, log)
        self.assert_flows(split, *(connection.packets for connection in connections))
        self.assertRegex(log, f"{signal.Signals(number).name}.*{len(packets)} packets")

    def test_sigint(self):
        self.stop(signal.SIGINT)

    def test_sigterm(self):
        self.stop(signal.SIGTERM)


def is_asleep(pid):
    """Whether the main thread of a process waits for something."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"


@unittest.skipUnless(os.geteuid() == 0, "runs without root as it is")
@needs_tool("setpriv")
class Unprivileged(ReadTest):

    def test_without_root_and_without_capabilities(self):
        os.chmod(self.folder, 0o777)
        program = os.path.join(self.folder, "packet-headers")
        shutil.copy(BINARY, program)
        connection = Connection().whole()
        path = self.write(pcap_bytes(connection.packets))
        datadir = os.path.join(self.folder, "data")
        done = subprocess.run([*rights_of(), program, f"-datadir={datadir}", "-read", path],
                              env=ENVIRONMENT, capture_output=True, text=True, timeout=20,
                              check=False)
        split = self.finished(done.returncode, 0, datadir, done.stderr)
        self.assert_flows(split, connection.packets)
        self.assertEqual(os.stat(os.path.join(datadir, split.paths()[0])).st_uid, 65534)


def read_terminal(terminal):
    """All that is written to a terminal until nobody has it open."""
    drawn = b""
    with contextlib.suppress(OSError):  # EIO is its end
        while piece := os.read(terminal, 65536):
            drawn += piece
    return drawn.decode()


class Progress(ReadTest):

    def test_a_line_on_a_terminal(self):
        """With per cent, rate and time left, taken away at the end."""
        path = self.new_path("waves.pcap")
        Waves(6).write(path)  # a second of 7 million packets, and a second has five lines
        terminal, ours = pty.openpty()
        self.addCleanup(os.close, terminal)
        process, _ = self.start("-read", path, stderr=ours, stdin=subprocess.DEVNULL)
        os.close(ours)
        drawn = read_terminal(terminal)
        self.assertEqual(process.wait(10), 0, drawn)
        lines = re.findall(r"\r\x1b\[K(\d+ %[^\r]*)", drawn)
        self.assertGreater(len(lines), 0, drawn)
        size = f"{os.path.getsize(path) / 1e6:.0f} MB"
        for line in lines:
            self.assertRegex(
                line, rf"^\d+ %  \S+ [kM]?B of {size}  \S+ [kM]?\s*packets/s(  \d+ (s|min|h) left)?$")
            self.assertLess(len(line), 80)
        self.assertIn(" left", lines[0])
        shares = [int(line.split(" %")[0]) for line in lines]
        self.assertEqual(shares, sorted(shares))
        self.assertNotIn("packets/s", drawn.rsplit("\x1b[K", 1)[1], "it is taken away")


class MoreThanMemory(ReadTest):
    """1.1 GB of packets, of which 930 MB are to be saved, with 64 MB of memory."""

    BUDGET = 64_000_000
    # What is not for flows: the program itself and its libraries, files on their way to the disk,
    # what the allocator keeps.
    BESIDES = 24_000_000

    def test_splits_within_its_budget(self):
        waves = Waves(11)
        path = self.new_path("waves.pcap")
        waves.write(path)
        self.assertGreater(os.path.getsize(path), 1_000_000_000)
        begun = time.monotonic()
        process, datadir = self.start(
            "-read", path, f"-maxheap={self.BUDGET // 1_000_000}MB", stdin=subprocess.DEVNULL)
        peak = peak_memory(process)
        _, log = process.communicate()
        print(f"\n  {waves.packets} packets of {waves.flows} flows in "
              f"{time.monotonic() - begun:.1f} s, peak {peak / 1e6:.1f} MB", flush=True)
        log = log.decode()
        split = self.finished(process.returncode, 0, datadir, log)
        self.assertEqual(split.books["seen"], waves.packets, log)
        self.assertEqual(split.books["saved"], waves.packets, log)
        self.assertLess(peak, self.BUDGET + self.BESIDES)
        paths = split.paths()
        self.assertEqual(len(paths), waves.flows)
        sizes = {os.path.getsize(os.path.join(datadir, name)) for name in paths}
        self.assertEqual(sizes, {24 + waves.packets_of_flow * waves.RECORD})
        for name in paths[::997]:
            content = self.assert_header_exact(os.path.join(datadir, name))
            self.assertEqual(len(content.records), waves.packets_of_flow)
            self.assertEqual({r.wire_bytes for r in content.records[3:-3]}, {waves.WIRE_BYTES})


if __name__ == "__main__":
    unittest.main()
