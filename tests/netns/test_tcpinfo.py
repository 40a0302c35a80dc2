"""Names from tcp-info, however it behaves: it is read at once, and no packet is lost by it."""

import collections
import os
import socket
import time
import unittest

import judge
import pcap
from harness import (HOST4, HOST6, PEER4, PEER6, CaptureTest, memory_bytes, needs_daemon,
                     needs_tool, run, wait_until)
from peers import Storm, connect, cookie_of, exchange, flow_of, listen
from tcpinfo import TcpInfo, close_event, line, open_event

LEARNED = "tcpinfo.example.com_1553815964"  # the prefix of this tcp-info
LEARNED_NAMES = rf"{LEARNED}_[0-9A-F]{{16}}"
# As written, and the folder: of the second and the third, UTC's date is another.
TIMES = (("2024-02-29T12:00:00Z", "2024/02/29"),
         ("2025-03-01T01:29:59.5+05:30", "2025/03/01"),
         ("2024-12-31T23:30:00.000000001-08:00", "2024/12/31"))
WHEN, FOLDER = TIMES[1]
MIB = 1 << 20


def learned(cookie):
    """The name that tcp-info gives to a socket."""
    return f"{LEARNED}_{cookie:016X}"


def folders_of(daemon):
    """{uuid: date folder} of all published files."""
    return {os.path.basename(path).removesuffix(".pcap"):
            os.path.relpath(os.path.dirname(path), daemon.datadir) for path in daemon.files()}


def today():
    return time.strftime("%Y/%m/%d", time.gmtime())


class TcpInfoTest(CaptureTest):
    """A daemon in host that listens to a fake tcp-info; connections come from peer."""

    def setUp(self):
        super().setUp()
        self.tcpinfo = TcpInfo(self)
        self.listener = listen(self, self.host, HOST4)

    def start(self, *flags, **options):
        """Starts tcp-info and a daemon that is connected to it."""
        self.tcpinfo.listen()
        daemon = self.start_daemon(f"-tcpinfo.eventsocket={self.tcpinfo.path}", *flags, **options)
        self.tcpinfo.accept()
        return daemon

    def short_connection(self):
        """The (cookie, flow key) of a connection that came and went."""
        address = PEER6 if self.listener.family == socket.AF_INET6 else PEER4
        client, accepted = connect(self, self.peer, address, self.listener)
        exchange(client, accepted, size=200)
        owner = cookie_of(accepted), flow_of(accepted)
        client.close()
        accepted.close()
        return owner

    def announce(self, owner, uuid=None, **spelling):
        """As tcp-info does; returns {uuid: flow key}."""
        cookie, flow = owner
        uuid = uuid or learned(cookie)
        self.tcpinfo.say(open_event(uuid, cookie, *flow, **spelling))
        return {uuid: flow}

    def announced_connection(self):
        return self.announce(self.short_connection())

    def wait_for_names(self, daemon, opens, unnamed=0):
        """Until so many opens have come and only so many flows have no name from them."""
        wait_until(lambda: daemon.metric("tcpinfo_events_total", event="open") == opens,
                   lambda: f"{opens} opens are read\n{daemon.log}")
        wait_until(lambda: daemon.metric("saver_states", "pcap", state="uuidwait") == unnamed,
                   lambda: f"{unnamed} flows have no name\n{daemon.log}")

    def bad_events(self, daemon):
        """{reason: count} of those that there were."""
        return {dict(labels)["reason"]: value for (name, labels), value in daemon.metrics().items()
                if name == "pcap_tcpinfohandler_bad_events_total" and value}

    def settle(self, daemon, tcpdump, expected, names=LEARNED_NAMES):
        """Ends both and compares; expected is {uuid: flow key}."""
        captured = tcpdump.stop()
        judge.assert_named_flows(self, self.finish(daemon, names=names), captured, expected)
        print(f"  longest send: {self.tcpinfo.longest_send_s * 1e3:.1f} ms", flush=True)


@needs_daemon
class Names(TcpInfoTest):

    def test_every_connection_of_a_storm_as_announced(self):
        """Either end first, plain and mapped, once and twice; the date is that of the event."""
        daemon, tcpdump = self.start("-uuidwaitduration=20s"), self.start_tcpdump()
        self.listener.close()
        _, owners = Storm(self.peer, PEER4, self.host, HOST4, 320).run(self)
        expected, folders = {}, {}
        for number, (cookie, flow) in enumerate(owners.items()):
            when, folder = TIMES[number % len(TIMES)]
            ends = sorted(flow, reverse=number % 2 == 1)
            event = open_event(learned(cookie), cookie, *ends, when, mapped=number % 4 > 1)
            self.tcpinfo.say(*[event] * (1 + number % 5 // 4), close_event(learned(cookie)))
            expected[learned(cookie)], folders[learned(cookie)] = flow, folder
        self.wait_for_names(daemon, opens=len(owners) + len(owners) // 5)
        self.assertEqual(self.bad_events(daemon), {})
        self.assertEqual(daemon.metric("missed_uuids_total", "pcap"), 0)
        self.assertEqual(daemon.metric("tcpinfo_uuids_disagreeing_total"), 0)
        self.settle(daemon, tcpdump, expected)
        self.assertEqual(folders_of(daemon), folders)

    def test_complete_where_tcpinfo_is_not(self):
        """
        Who isn't announced gets the learned prefix when uuidwaitduration ends. An open names a
        flow that has ended until then, and later nothing.
        """
        daemon = self.start(datadir=self.folder_in_memory())  # uuidwaitduration is 5 s
        tcpdump = self.start_tcpdump()
        first_day = today()
        ended, *others = (self.short_connection() for _ in range(101))
        announced, unannounced = others[::10], [o for n, o in enumerate(others) if n % 10]
        for owner in announced:
            self.announce(owner, when=WHEN)
        # The flow that ended first is then over, too.
        daemon.wait_for_files(len(announced))
        self.announce(ended, when=WHEN)
        daemon.wait_for_files(len(announced) + 1)
        of_event = {learned(cookie) for cookie, _ in [ended, *announced]}
        self.assertEqual(folders_of(daemon), dict.fromkeys(of_event, FOLDER))
        daemon.wait_for_files(len(others) + 1)
        folders, expected = folders_of(daemon), {learned(c): flow for c, flow in [ended, *others]}
        self.assertEqual(folders.keys(), expected.keys())
        for uuid in folders.keys() - of_event:
            self.assertIn(folders[uuid], (first_day, today()))

        self.announce(unannounced[0], when=WHEN)
        self.wait_for_names(daemon, opens=len(of_event) + 1)
        self.settle(daemon, tcpdump, expected)
        self.assertEqual(folders_of(daemon), folders)

    def test_only_announced_flows_with_source_tcpinfo(self):
        self.listener = listen(self, self.host, HOST6, 7001)
        daemon = self.start("-uuid.source=tcpinfo", "-uuidwaitduration=2s")
        tcpdump, expected, unannounced = self.start_tcpdump(), {}, []
        for _ in range(40):
            expected |= self.announced_connection()
            unannounced.append(self.short_connection())
        wait_until(lambda: daemon.metric("saver_errors_total", "pcap",
                                         reason="uuidtimedout") == len(unannounced),
                   "the unannounced time out")
        daemon.wait_for_files(len(expected))
        captured = tcpdump.stop()
        judge.assert_named_flows(self, self.finish(daemon, names=LEARNED_NAMES), captured, expected)
        flows = pcap.by_flow(captured)
        self.assertEqual(daemon.booked("unannounced"),
                         sum(len(flows[flow]) for _, flow in unannounced), daemon.log)

    def test_source_socket(self):
        self.tcpinfo.listen()
        daemon = self.start_daemon(f"-tcpinfo.eventsocket={self.tcpinfo.path}",
                                   "-uuid.source=socket")
        tcpdump = self.start_tcpdump()
        owners = dict(self.short_connection() for _ in range(10))
        judge.assert_flows(self, self.finish(daemon), tcpdump.stop(), owners)
        self.assertRegex(daemon.log, r" warning -tcpinfo\.eventsocket=\S+ is not used")
        self.assertFalse(self.tcpinfo.has_caller())


@needs_daemon
class ComesAndGoes(TcpInfoTest):

    def test_absent(self):
        daemon = self.start_daemon(f"-tcpinfo.eventsocket={self.tcpinfo.path}",
                                   "-uuidwaitduration=1s")
        tcpdump = self.start_tcpdump()
        owners = dict(self.short_connection() for _ in range(20))
        daemon.wait_for_files(len(owners))
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured, owners)
        self.assertIn(f"event socket {self.tcpinfo.path}: connect: No such file", daemon.log)

    def test_late(self):
        """First there is the socket of one that was killed, then none, then tcp-info."""
        self.tcpinfo.listen()
        self.tcpinfo.stop(leave_file=True)
        daemon = self.start_daemon(f"-tcpinfo.eventsocket={self.tcpinfo.path}",
                                   "-uuidwaitduration=20s")
        tcpdump = self.start_tcpdump()
        owners = [self.short_connection() for _ in range(20)]
        daemon.wait_for_log("Connection refused")
        os.unlink(self.tcpinfo.path)
        owners += [self.short_connection() for _ in range(20)]
        self.assertEqual(daemon.metric("tcpinfo_connected"), 0)
        self.tcpinfo.start()
        daemon.wait_for_log(f"connected to pid {os.getpid()}, uid 0, gid 0")
        expected = {learned(cookie): flow for cookie, flow in owners}
        for owner in owners[::2]:
            self.announce(owner)
        expected |= self.announced_connection()
        self.wait_for_names(daemon, opens=len(owners) // 2 + 1, unnamed=len(owners) // 2)
        self.assertEqual(daemon.metric("tcpinfo_connected"), 1)
        self.settle(daemon, tcpdump, expected)

    def test_a_hundred_restarts(self):
        """Some in the middle of a line, some behind a line but for its newline."""
        daemon, tcpdump = self.start("-uuidwaitduration=25s"), self.start_tcpdump()
        expected, torn = {}, 0
        for restart in range(100):
            if restart > 0:
                self.tcpinfo.start()
            expected |= self.announced_connection()
            cookie, flow = self.short_connection()
            expected[learned(cookie)] = flow
            text = line(open_event(learned(cookie), cookie, *flow))
            self.tcpinfo.send((text, text[:-1], text[:len(text) // 2])[restart % 3])
            torn += restart % 3 == 2
            self.tcpinfo.stop()
        wait_until(lambda: self.bad_events(daemon) == {"malformed": torn},
                   lambda: f"{torn} torn lines: {self.bad_events(daemon)}")
        self.tcpinfo.start()
        expected |= self.announced_connection()
        self.wait_for_names(daemon, opens=len(expected) - torn, unnamed=torn)
        self.assertEqual(daemon.metric("tcpinfo_connects_total"), 101)
        self.settle(daemon, tcpdump, expected)


def bad_lines(owner, folder):
    """
    (reason, line) of lines that would name the owner's flow if they were good, and some of them
    by a path that leads to folder.
    """
    cookie, flow = owner
    good = open_event(learned(cookie), cookie, *flow)
    for uuid in ("../../../../escaped", f"{folder}/escaped", "a/b", "..", ".", "", "nul\0",
                 "x" * 129, "<&>", "läcke", "new\nline", f"{learned(cookie)} "):
        yield "baduuid", line({**good, "UUID": uuid})
    yield "nilid", line({**good, "ID": None})
    for address in ("", "10.9.0", "10.9.0.1.", "::ffff:10.9.0.256", "10.9.0.1\0", "localhost"):
        yield "badip", line({**good, "ID": {**good["ID"], "SrcIP": address}})
    for number in (2, -1, 1 << 40):
        yield "unknownevent", line({**good, "Event": number})
    for garbage in (b"garbage\n", b"{\n", b"\xff\xfe\n", b"[]\n", b"nul\0nul\n", b'{"Event":0.5}\n',
                    bytes(range(128, 256)) + b"\n", line(good)[:-2] + b"\n",
                    line(good)[:-1] + line(good)):
        yield "malformed", garbage
    for when in ("", "yesterday", "2026-13-01T00:00:00Z", "2026-11-21T12:00:00", "9999-01-01"):
        yield "malformed", line({**good, "Timestamp": when})
    for name, value in (("SPort", 65536), ("SPort", -1), ("Cookie", 1 << 63), ("Cookie", "1")):
        yield "malformed", line({**good, "ID": {**good["ID"], name: value}})
    yield "oversized", line({**good, "Padding": "x" * (1 << 16)})


@needs_daemon
class Hostile(TcpInfoTest):

    def test_bad_lines_are_counted_and_change_nothing(self):
        daemon, tcpdump = self.start("-uuidwaitduration=25s"), self.start_tcpdump()
        entries = sorted(os.listdir(self.folder))
        victim = cookie, flow = self.short_connection()
        # A UUID that disagrees with the cookie is a name, too, but teaches no prefix.
        expected, counted = self.announce(self.short_connection(), "x" * 128), collections.Counter()
        self.wait_for_names(daemon, opens=1, unnamed=1)
        self.assertEqual(daemon.metric("tcpinfo_uuids_disagreeing_total"), 1)
        self.assertNotIn("UUIDs begin with", daemon.log)
        for reason, text in bad_lines(victim, self.folder):
            self.tcpinfo.send(text)
            counted[reason] += 1
            wait_until(lambda: self.bad_events(daemon) == counted,
                       lambda: f"{text[:300]!r}: {counted}, not {self.bad_events(daemon)}")
            expected |= self.announced_connection()

        # Those that are odd, but not bad: of other sockets on the tuple, blank, in small pieces.
        for other in (7, 2**64 - 5):
            self.tcpinfo.say(open_event(learned(other), other, *flow))
        self.tcpinfo.send(b"\n \r\n")
        cookie, flow = self.short_connection()
        text = line({"New": [{"Event": 1}, None]} | open_event(learned(cookie), cookie, *flow))
        text = text.replace(b'"ID"', b'"iD"').replace(b'"UUID"', b'"uuid"')
        for number in range(len(text)):
            self.tcpinfo.send(text[number:number + 1])
        expected[learned(cookie)] = flow
        self.wait_for_names(daemon, opens=len(expected) + 2, unnamed=1)
        self.assertEqual(self.bad_events(daemon), counted)
        self.assertEqual(daemon.metric("tcpinfo_uuids_disagreeing_total"), 1)
        self.assertIn(f"UUIDs begin with {LEARNED}: ", daemon.log)
        expected[learned(victim[0])] = victim[1]
        self.settle(daemon, tcpdump, expected, names=rf"{LEARNED_NAMES}|x{{128}}")
        self.assertEqual(sorted(os.listdir(self.folder)), entries, "written outside")

    def test_a_flood(self):
        """1 GB without a newline, and 50,000 events as fast as they are read."""
        daemon, tcpdump = self.start("-uuidwaitduration=25s"), self.start_tcpdump()
        expected = self.announced_connection()
        self.wait_for_names(daemon, opens=1)
        resident = memory_bytes(daemon.pid)
        began = time.monotonic()
        chunk, unnamed = b'{"Event":0,' * 90_000, []
        while len(unnamed) < 100:
            for _ in range(11):
                self.tcpinfo.send(chunk)
            unnamed.append(self.short_connection())
        took = time.monotonic() - began
        grown = memory_bytes(daemon.pid) - resident
        print(f"\n  1 GB read in {took:.2f} s, resident grew by {grown / MIB:.2f} MiB", flush=True)
        self.assertLess(grown, 8 * MIB)
        self.tcpinfo.send(b"\n")
        expected |= self.announced_connection()
        self.wait_for_names(daemon, opens=2, unnamed=len(unnamed))
        self.assertEqual(self.bad_events(daemon), {"oversized": 1})

        strangers = [b"".join(self.stranger(batch, number) for number in range(250))
                     for batch in range(100)]
        began = time.monotonic()
        for lines in strangers:
            self.tcpinfo.send(lines)
            expected |= self.announced_connection()
        self.wait_for_names(daemon, opens=25_102, unnamed=len(unnamed))
        took = time.monotonic() - began
        print(f"  50,000 events and 100 connections in {took:.2f} s", flush=True)
        wait_until(lambda: daemon.metric("tcpinfo_events_total", event="close") == 25_000,
                   "every close is read")
        self.assertEqual(daemon.metric("missed_uuids_total", "pcap"), 0)
        expected |= {learned(cookie): flow for cookie, flow in unnamed}
        self.settle(daemon, tcpdump, expected)

    def stranger(self, batch, number):
        """The two events of a connection that this host doesn't see."""
        cookie = 1 << 40 | batch << 8 | number
        opened = open_event(learned(cookie), cookie, (b"\xc0\0\2\1", 1 + batch),
                            (b"\xc0\0\2\2", 1 + number))
        return line(opened) + line(close_event(learned(cookie)))


@needs_daemon
class WhateverTheDiskDoes(TcpInfoTest):
    EVENTS = 20_000

    def mount(self, *arguments):
        """Mounts a small file system for the data; returns its path."""
        path = os.path.join(self.folder, "disk")
        os.mkdir(path)
        run("mount", *arguments, path)
        self.addCleanup(run, "umount", path)
        return path

    def flood(self, daemon):
        """Many more events than the kernel buffers; all are read."""
        before = daemon.metric("tcpinfo_events_total", event="close")
        self.tcpinfo.send(line(close_event()) * self.EVENTS)
        wait_until(lambda: daemon.metric("tcpinfo_events_total", event="close") == (
            before + self.EVENTS), "all events are read")

    def test_full(self):
        """What finds room is whole, the rest is tried until the end, and counted."""
        disk = self.mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
        daemon = self.start("-uuidwaitduration=20s", datadir=os.path.join(disk, "data"))
        tcpdump = self.start_tcpdump()
        flows = {}
        for _ in range(400):
            flows |= self.announced_connection()
        wait_until(lambda: daemon.metric("file_errors_total") > 0, "the disk is full")
        self.flood(daemon)
        captured = tcpdump.stop()
        files = self.finish(daemon, names=LEARNED_NAMES, within=20, code=1)
        self.assertLess(len(files), len(flows))
        kept = {uuid: flow for uuid, flow in flows.items() if uuid in files}
        judge.assert_named_flows(self, files, captured, kept)
        self.assertEqual(daemon.booked("write_error"),
                         len(captured) - daemon.booked("saved"), daemon.log)

    @needs_tool("mkfs.ext4")
    @needs_tool("fsfreeze")
    def test_hung(self):
        """Writing stands still until the file system thaws; then all is saved."""
        image = os.path.join(self.folder, "image")
        with open(image, "wb") as file:
            file.truncate(16 * MIB)
        run("mkfs.ext4", "-q", image)
        disk = self.mount("-o", "loop", image)
        daemon = self.start("-uuidwaitduration=20s", datadir=os.path.join(disk, "data"))
        tcpdump = self.start_tcpdump()
        run("fsfreeze", "-f", disk)
        self.addCleanup(run, "fsfreeze", "-u", disk, check=False)
        expected = {}
        for _ in range(20):
            expected |= self.announced_connection()
        wait_until(lambda: daemon.metric("saver_stops_total", "pcap") == len(expected),
                   "every flow has ended")
        self.flood(daemon)
        expected |= self.announced_connection()
        self.wait_for_names(daemon, opens=len(expected))
        self.assertEqual(daemon.files(), [])
        self.assertEqual(daemon.metric("files_published_total"), 0)
        run("fsfreeze", "-u", disk)
        self.settle(daemon, tcpdump, expected)


if __name__ == "__main__":
    unittest.main()
