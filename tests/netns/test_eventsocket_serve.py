"""-eventsocket.serve: other programs hear of every connection at once, as from tcp-info."""

import calendar
import contextlib
import itertools
import os
import signal
import socket
import stat
import subprocess
import time
import unittest

import judge
from harness import (BINARY, ENVIRONMENT, HOST4, HOST6, PEER4, PEER6, CaptureTest, needs_daemon,
                     needs_tcx, needs_tool, wait_until)
from peers import RESET_ON_CLOSE, Storm, connect, cookie_of, endpoint, flow_of, fork, listen
from tcpinfo import EventClient

LATE_SECONDS = 2  # no connection is announced later; how late they are is printed
OTHER_PREFIX = "second-daemon"
OTHER_METRICS_PORT = 9991


def unix_seconds(timestamp):
    """Of a time as Go writes it in UTC."""
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


class ServeTest(CaptureTest):

    def setUp(self):
        super().setUp()
        # In a folder of its own, where root may remove it from its sandbox.
        os.mkdir(os.path.join(self.folder, "served"))
        self.path = os.path.join(self.folder, "served", "events.sock")

    def serve(self, *flags, **options):
        return self.start_daemon(f"-eventsocket.serve={self.path}", *flags, **options)

    def refused(self, *command):
        """Runs a daemon that can't serve; its log."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.host.name, *command, BINARY, "-interface=host0",
             f"-datadir={self.folder}/refused", f"-eventsocket.serve={self.path}",
             f"-prometheusx.listen-address=127.0.0.1:{OTHER_METRICS_PORT}"],
            env=ENVIRONMENT, text=True, capture_output=True, timeout=20, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        return done.stderr


@needs_daemon
class Announcements(ServeTest):

    def test_each_connection_opens_and_closes(self):
        """Inbound and outbound, IPv4 and IPv6; not those of local addresses."""
        self.host.ip("addr", "add", "169.254.9.1/16", "dev", "host0")
        self.peer.ip("addr", "add", "169.254.9.2/16", "dev", "peer0")
        daemon = self.serve()
        EventClient(self, self.path).close()
        client = EventClient(self, self.path)
        for port, (space, near, far) in enumerate((
                (self.host, "127.0.0.1", "127.0.0.1"), (self.host, "::1", "::1"),
                (self.host, HOST4, "127.0.0.1"), (self.peer, "169.254.9.2", "169.254.9.1")), 7100):
            for sock in connect(self, space, near, listen(self, self.host, far, port)):
                sock.close()
        called, began = {}, time.time()
        ways = [(self.peer, PEER4, listen(self, self.host, HOST4)),
                (self.peer, PEER6, listen(self, self.host, HOST6)),
                (self.host, HOST4, listen(self, self.peer, PEER4)),
                (self.host, HOST6, listen(self, self.peer, PEER6))]
        for way in itertools.islice(itertools.cycle(ways), 200):
            before = time.monotonic()
            caller, accepted = connect(self, *way)
            own = caller if way[0] is self.host else accepted
            near = endpoint(*own.getsockname()[:2])
            called[judge.uuid_of(cookie_of(own))] = before, cookie_of(own), near, flow_of(own)
            caller.close()
            accepted.close()
        # A connection to itself has two sockets, and its address is none of a local kind.
        own = connect(self, self.host, HOST4, listen(self, self.host, HOST4, 7001))
        itself = {judge.uuid_of(cookie_of(sock)) for sock in own}
        client.wait_for(2 * len(called) + len(itself))
        for sock in own:
            sock.close()
        client.wait_for(2 * len(called) + 2 * len(itself))
        events, ended = client.close(), time.time()
        opens = {event.uuid: event for event in events if event.is_open}
        self.assertEqual(opens.keys(), called.keys() | itself)
        closes = {event.uuid: event for event in events if not event.is_open}
        self.assertEqual(closes.keys(), opens.keys())
        self.assertEqual(len(events), 2 * len(opens), "each once")
        latencies = []
        for uuid, (before, cookie, near, flow) in called.items():
            event = opens[uuid]
            self.assertEqual((event.cookie, event.source, event.flow), (cookie, near, flow))
            self.assertLess(events.index(event), events.index(closes[uuid]))
            times = [began, unix_seconds(event.timestamp), unix_seconds(closes[uuid].timestamp),
                     ended]
            for earlier, later in zip(times, times[1:]):
                self.assertLess(earlier, later + 0.1, times)
            latencies.append(event.at - before)
        latencies.sort()
        print(f"\n  from connect() to the line: median {latencies[len(latencies) // 2] * 1e3:.2f}, "
              f"90 % {latencies[len(latencies) * 9 // 10] * 1e3:.2f}, max "
              f"{latencies[-1] * 1e3:.2f} ms", flush=True)
        self.assertLess(latencies[-1], LATE_SECONDS)
        self.assertEqual(daemon.metric("eventserver_events_total", event="open"), len(opens))
        self.finish(daemon)
        self.assertFalse(os.path.exists(self.path))

    def test_a_client_that_never_reads_is_dropped(self):
        """And holds up nobody: the other one gets everything."""
        connections = 18_000
        self.host.link_to(self.peer, "host1", "peer1", ["10.9.1.1/24"], ["10.9.1.2/24"])
        prefix = "x" * 110  # long lines fill the buffers sooner
        daemon = self.serve(prefix=prefix)
        client = EventClient(self, self.path)
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(self.path)
            wait_until(lambda: daemon.metric("eventserver_clients") == 2, "two clients")
            listener = listen(self, self.host, "10.9.1.1")
            server = fork(self, self.host, take_calls, listener, connections)
            callers = [fork(self, self.peer, call, "10.9.1.2", listener.getsockname(),
                            20_000 * (1 + half), connections // 2) for half in range(2)]
            for done in (server, *callers):
                done()
            client.wait_for(2 * connections)
            wait_until(lambda: daemon.metric("eventserver_clients_dropped_total") == 1,
                       "the deaf one is dropped")
            self.assertEqual(daemon.metric("eventserver_clients"), 1)
        self.assertEqual(daemon.metric("eventserver_events_lost_total"), 0)
        events = client.close()
        opens = [event.uuid for event in events if event.is_open]
        self.assertEqual([len(opens), len(set(opens))], [connections, connections])
        self.assertEqual(sorted(event.uuid for event in events if not event.is_open), sorted(opens))
        self.assertRegex(daemon.log, rf"dropped pid {os.getpid()}, uid 0, gid 0: it reads too slowly")
        self.finish(daemon)


def take_calls(listener, count):
    """Says a word to each caller, and waits until it has reset the connection."""
    for _ in range(count):
        with listener.accept()[0] as sock, contextlib.suppress(ConnectionResetError):
            sock.send(b".")
            sock.recv(1)


def call(address, remote, first_port, count):
    """Connects and resets once it was accepted, so often, each time from a port of its own."""
    for port in range(first_port, first_port + count):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            sock.bind((address, port))
            sock.connect(remote)
            sock.recv(1)


@needs_daemon
class TwoDaemons(ServeTest):

    @needs_tcx
    def test_one_serves_the_other(self):
        """Each of 2,000 short connections is announced, and has the same name with both."""
        connections = 2000
        first = self.serve("-capture.hook=tcx")
        second = self.start_daemon(
            "-capture.hook=tcx", f"-tcpinfo.eventsocket={self.path}", "-uuid.source=tcpinfo",
            prefix=OTHER_PREFIX, metrics_port=OTHER_METRICS_PORT)
        second.wait_for_log("connected to pid ")
        tcpdump = self.start_tcpdump()
        _, owners = Storm(self.peer, PEER4, self.host, HOST4, connections).run(self)
        for daemon in (first, second):
            wait_until(lambda daemon=daemon: daemon.metric("files_published_total") == connections,
                       lambda daemon=daemon: f"every connection is published\n{daemon.log}", 20)
        self.assertEqual(first.metric("eventserver_events_lost_total"), 0)
        for event in ("open", "close"):
            self.assertEqual(first.metric("eventserver_events_total", event=event), connections)
            self.assertEqual(second.metric("tcpinfo_events_total", event=event), connections)
        self.assertEqual(second.metric("missed_uuids_total", "pcap"), 0)
        self.assertEqual(second.metric("tcpinfo_uuids_disagreeing_total"), 0)
        captured = tcpdump.stop()
        for daemon in (second, first):
            judge.assert_flows(self, self.finish(daemon), captured, owners)
        self.assertFalse(os.path.exists(self.path))


@needs_daemon
class Socket(ServeTest):

    def test_stale_and_live(self):
        """A killed daemon's socket is replaced; one that somebody serves, or a file, is not."""
        killed = self.serve()
        killed.send_signal(signal.SIGKILL)
        killed.wait_for_exit(5)
        self.assertTrue(os.path.exists(self.path))
        daemon = self.serve()
        self.assertRegex(self.refused(),
                         rf" error -eventsocket.serve: listen on {self.path}: .* serves it")
        client = EventClient(self, self.path)
        for sock in connect(self, self.peer, PEER4, listen(self, self.host, HOST4)):
            sock.close()
        client.wait_for(2)
        client.close()
        self.finish(daemon)
        self.assertFalse(os.path.exists(self.path))
        with open(self.path, "w", encoding="ascii") as file:
            file.write("precious")
        self.assertRegex(self.refused(),
                         rf" error -eventsocket.serve: listen on {self.path}: .* no socket")
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), "precious")

    def test_permissions(self):
        """Exactly those asked for, and so who may connect."""
        for mode, flags in ((0o660, ()), (0o606, ("-eventsocket.mode=0606",))):
            daemon = self.serve(*flags)
            self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), mode)
            self.finish(daemon)

    @needs_tool("setpriv")
    def test_without_the_privilege(self):
        log = self.refused("setpriv", "--bounding-set=-all,+bpf,+net_admin")
        self.assertRegex(log, r" error .*CAP_PERFMON")
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    unittest.main()
