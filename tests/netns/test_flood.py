"""Floods, as fast as this host can make them, beside connections that must lose nothing."""

import contextlib
import multiprocessing
import os
import re
import select
import signal
import socket
import struct
import subprocess
import time
import unittest

import judge
import pcap
from harness import (BINARY, HOST4, HOST6, HOST_MAC, PEER4, CaptureTest, end_process,
                     memory_bytes, needs_daemon, needs_tool, wait_until)
from peers import Pace, connect, cookie_of, endpoint, exchange, fork, listen, payload, receive

FLOOD = os.path.join(os.path.dirname(BINARY), "tests", "flood")
FLOOD_CPU, OTHER_CPU = 0, 1
FLOWS = 100
BULK = payload(100_000)
MESSAGE = payload(1000)  # one segment, so that records and segments can be compared
PORT, NEWCOMER_PORT, CLOSED_PORT = 7000, 7001, 7002
MOST_GROWTH_BYTES = 64 << 20
NEWCOMERS_A_SECOND = 1000  # at most: memory grows with what is remembered of each
LEAST_TUPLES = 1_000_000


def segments(sock):
    """(in, out) so far, by the kernel's own count."""
    info = sock.getsockopt(socket.SOL_TCP, socket.TCP_INFO, 256)
    out, received = struct.unpack_from("=II", info, 136)
    return received, out


class Echoes:
    """
    Connections from the peer to the host that send messages to and fro until they are told to stop,
    and stay open then.
    """

    def __init__(self, case, count):
        self._stop = multiprocessing.Event()
        case.addCleanup(self._stop.set)
        listener = listen(case, case.host, HOST4, PORT)
        pairs = [connect(case, case.peer, PEER4, listener) for _ in range(count)]
        clients, self._accepted = zip(*pairs)
        self._client = fork(case, case.peer, self._call, clients)
        self._server = fork(case, case.host, self._serve)

    def stop(self):
        """Ends the traffic; returns how many messages were answered."""
        self._stop.set()
        answered = self._client()
        self._server()
        return answered

    def segments(self):
        """{cookie: segments in and out} of the host's sockets."""
        return {cookie_of(sock): segments(sock) for sock in self._accepted}

    def _call(self, socks):
        answered = 0
        while not self._stop.is_set():
            for sock in socks:
                sock.sendall(MESSAGE)
            for sock in socks:
                receive(sock, len(MESSAGE))
            answered += len(socks)
        for sock in socks:
            sock.sendall(b"!")
        return answered

    def _serve(self):
        talking = {sock.fileno(): sock for sock in self._accepted}
        poll = select.epoll()
        for number in talking:
            poll.register(number, select.EPOLLIN)
        while talking:
            for number, _ in poll.poll():
                data = talking[number].recv(len(MESSAGE))
                if data == b"!":
                    poll.unregister(number)
                    del talking[number]
                else:
                    talking[number].sendall(data)


class Newcomers:
    """Connections from the peer to the host, one after the other, until they are told to stop."""

    def __init__(self, case, backlog):
        self._stop = multiprocessing.Event()
        case.addCleanup(self._stop.set)
        listener = listen(case, case.host, HOST4, NEWCOMER_PORT)
        listener.listen(backlog)
        self._server = fork(case, case.host, self._serve, listener)
        self._client = fork(case, case.peer, self._call)

    def stop(self):
        """Returns the cookies of the host's sockets, and how many attempts failed."""
        self._stop.set()
        return self._server(), self._client()

    def _call(self):
        failures = 0
        pace = Pace(NEWCOMERS_A_SECOND)
        while not self._stop.is_set():
            pace.wait()
            try:
                with socket.create_connection((HOST4, NEWCOMER_PORT), timeout=20) as sock:
                    sock.sendall(MESSAGE)
                    receive(sock, len(MESSAGE))
                    sock.recv(1)
            except OSError:
                failures += 1
        with contextlib.suppress(OSError):
            socket.create_connection((HOST4, NEWCOMER_PORT), timeout=20).close()  # the last
        return failures

    def _serve(self, listener):
        cookies = []
        while not self._stop.is_set():
            sock, _ = listener.accept()
            with sock:
                cookies.append(cookie_of(sock))
                receive(sock, len(MESSAGE))
                sock.sendall(MESSAGE)
        return cookies


@needs_daemon
@unittest.skipUnless(os.access(FLOOD, os.X_OK), f"no generator at {FLOOD}")
@unittest.skipUnless((os.cpu_count() or 1) > 1, "needs two processors")
class Flood(CaptureTest):

    def setUp(self):
        super().setUp()
        self.addCleanup(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, {OTHER_CPU})
        # What arrives is then what the flood and the connections send, and nothing else.
        self.peer.run("sysctl", "-qw", "net.ipv6.conf.peer0.disable_ipv6=1")

    @staticmethod
    def is_quiet(daemon):
        """No packet within a time in which a delayed acknowledgment would have come."""
        seen = daemon.metric("packets_seen_total")
        time.sleep(0.3)
        return daemon.metric("packets_seen_total") == seen

    def sent_by_peer(self):
        """Packets that the peer's device has sent so far."""
        with self.peer.entered(), open("/proc/thread-self/net/dev", encoding="ascii") as file:
            return int(re.search(r"peer0:(.*)", file.read())[1].split()[9])

    def begin_flood(self, kind, seconds, destination=HOST4, port=CLOSED_PORT):
        flood = self.host.popen("taskset", "-c", str(FLOOD_CPU), FLOOD, kind, "host0", HOST_MAC,
                                destination, str(port), str(seconds), stdout=subprocess.PIPE,
                                text=True)
        self.addCleanup(end_process, flood)
        self.addCleanup(flood.stdout.close)
        return flood

    def end_flood(self, flood, kind):
        """Waits for its end; returns how many packets it sent."""
        text, _ = flood.communicate(timeout=60)
        self.assertEqual(flood.returncode, 0)
        sent, seconds = re.fullmatch(r"(\d+) packets in ([\d.]+) s\n", text).groups()
        rate = int(sent) / float(seconds)
        print(f"\n  {self.id().split('.', 1)[-1]}: {kind}, {int(sent):,} packets, "
              f"{rate:,.0f} a second", flush=True)
        return int(sent)


    def assert_nothing_lost(self, files, counted):
        """Each segment that the host's sockets counted is in their files."""
        for cookie, (received, sent) in counted.items():
            sides = judge.directions(files[judge.uuid_of(cookie)].records)
            ours = sides.pop(endpoint(HOST4, PORT))
            theirs, = sides.values()
            self.assertEqual(len(ours), sent + 1)  # a SYN-ACK is the listener's
            # Between the hook and the socket a packet can get lost that was saved.
            self.assertGreaterEqual(len(theirs), received)

    def assert_whole(self, records):
        """A newcomer's file from its first record on: the message both ways, and the end."""
        sides = judge.directions(records)
        self.assertEqual(len(sides), 2)
        for side in sides.values():
            covered = {record.tcp.seq for record in side if record.payload_bytes == len(MESSAGE)}
            self.assertEqual(len(covered), 1)
            self.assertTrue(any(record.tcp.flags & pcap.FIN for record in side))

    def assert_normal(self, daemon):
        """The rings are drained, and a new connection is saved whole, within 5 s."""
        deadline = time.monotonic() + 5
        size = daemon.metric("ring_size_bytes")
        wait_until(lambda: daemon.metric("ring_used_bytes") < size / 100, "the rings are drained", 5)
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4, 7003))
        cookie = cookie_of(accepted)
        exchange(client, accepted)
        client.close()
        accepted.close()
        wait_until(lambda: any(judge.uuid_of(cookie) in path for path in daemon.files()),
                   "a new connection is saved", deadline - time.monotonic())
        self.whole.append(cookie)

    def memory(self, daemon):
        """(now, at most) in bytes."""
        return tuple(memory_bytes(daemon.pid, row) for row in ("VmRSS", "VmHWM"))

    def begin(self, flows=FLOWS):
        """Starts the daemon and connections that transfer data until self.end()."""
        # Files that are written at once: nothing of the daemon's growth is what was sent.
        datadir = self.folder_in_memory()
        self.sent_before = self.sent_by_peer()
        self.whole = []
        daemon = self.start_daemon("-captureduration=5m", "-stream", datadir=datadir)
        self.echoes = Echoes(self, flows)
        wait_until(lambda: daemon.metric("flows", state="capturing") == flows, "all are captured")
        return daemon

    def end(self, daemon, flooded):
        """
        Ends both; what arrived is what was sent, and counted. Returns the files, and the segments
        of the connections.
        """
        answered = self.echoes.stop()
        wait_until(lambda: self.is_quiet(daemon), "the last acknowledgment is sent")
        counted = self.echoes.segments()
        files = self.finish(daemon, within=30)
        books = daemon.books()["host0", "ingress"]
        print(f"  {answered:,} messages answered, {books}", flush=True)
        self.assertEqual(books["seen"], flooded + self.sent_by_peer() - self.sent_before)
        for cookie in self.whole:
            self.assertTrue(files[judge.uuid_of(cookie)].records[0].tcp.flags & pcap.SYN)
        return files, counted

    def withstand(self, kinds, seconds, destination=HOST4, port=CLOSED_PORT, backlog=128):
        """
        Floods a port beside connections that transfer data, and beside some that begin. Returns
        how many packets each kind had.
        """
        daemon = self.begin()
        before, _ = self.memory(daemon)
        newcomers = Newcomers(self, backlog)
        sent = [self.end_flood(self.begin_flood(kind, seconds, destination, port), kind)
                for kind in kinds]
        self.assert_normal(daemon)
        _, most = self.memory(daemon)
        cookies, failures = newcomers.stop()
        files, counted = self.end(daemon, sum(sent))
        print(f"  memory grew by {(most - before) >> 20} MiB", flush=True)
        self.assertEqual(daemon.booked("ring_full"), 0)
        self.assertLessEqual(most - before, MOST_GROWTH_BYTES)
        self.assert_nothing_lost(files, counted)
        self.assert_newcomers(files, cookies, failures)
        return sent

    def assert_newcomers(self, files, cookies, failures):
        """Each that was accepted has its file; but for the last, of which nobody waits for the end."""
        begun = 0
        for cookie in cookies:
            records = files[judge.uuid_of(cookie)].records
            begun += bool(records[0].tcp.flags & pcap.SYN)
        for cookie in cookies[:-1]:
            self.assert_whole(files[judge.uuid_of(cookie)].records)
        self.assertGreater(len(cookies), 1)
        print(f"  {len(cookies)} newcomers, {failures} failed, {len(cookies) - begun} without "
              f"their SYN", flush=True)

    def test_syn(self):
        sent, = self.withstand(["syn"], 10)
        self.assertGreaterEqual(sent, LEAST_TUPLES)

    def answer_everybody(self, cookies):
        """The host has a route to everywhere, and answers connection attempts."""
        self.host.ip("route", "add", "default", "via", PEER4)
        self.host.run("sysctl", "-qw", f"net.ipv4.tcp_syncookies={cookies}")

    def test_syn_cookies_always(self):
        self.answer_everybody(2)
        self.withstand(["syn"], 3, port=NEWCOMER_PORT, backlog=16)

    def test_syn_cookies_on_overflow(self):
        self.answer_everybody(1)
        self.withstand(["syn"], 3, port=NEWCOMER_PORT, backlog=16)

    def test_strays(self):
        """Of no connection here; to a port that listens, and to one that doesn't."""
        self.withstand(["ack", "rst", "synack"], 3)

    def test_strays_to_a_listener(self):
        self.withstand(["ack", "rst", "synack"], 2, port=NEWCOMER_PORT)

    def test_scan(self):
        self.withstand(["scan"], 3)

    def test_no_tcp(self):
        self.withstand(["udp", "fragment"], 3)

    def test_ipv6(self):
        self.withstand(["syn", "ack"], 2, HOST6)

    def test_stalled_reader(self):
        """Nothing reads the rings for 3 s: what they can't hold is counted, and then all is well."""
        daemon = self.begin()
        flood = self.begin_flood("syn", 5)
        wait_until(lambda: daemon.lost("shed_syn") + daemon.metric("ring_used_bytes") > 0,
                   "the flood is there")
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(3)
        daemon.send_signal(signal.SIGCONT)
        sent = self.end_flood(flood, "syn")
        self.assert_normal(daemon)
        self.end(daemon, sent)
        self.assertGreater(daemon.booked("shed_syn"), 0)

    @needs_tool("ethtool")
    def test_one_fast_flow(self):
        """Of many connections beside it none loses a packet, and neither does it."""
        for namespace, device in ((self.host, "host0"), (self.peer, "peer0")):
            namespace.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off")
        daemon = self.begin(flows=200)
        fast, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4, 7004))
        receiving = fork(self, self.host, receive, accepted, 1 << 62)
        deadline, sent = time.monotonic() + 3, 0
        while time.monotonic() < deadline:
            sent += fast.send(BULK)
        fast.shutdown(socket.SHUT_WR)
        receiving()
        files, counted = self.end(daemon, 0)
        print(f"  {sent:,} bytes of the fast flow", flush=True)
        self.assertEqual(daemon.booked("ring_full"), 0)
        self.assert_nothing_lost(files, counted)
        in_file = files[judge.uuid_of(cookie_of(accepted))].records
        from_peer = [record for record in in_file if record.tcp.source != endpoint(HOST4, 7004)]
        self.assertEqual(len(from_peer), segments(accepted)[0])


if __name__ == "__main__":
    unittest.main()
