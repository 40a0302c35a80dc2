"""Whatever clients do, Prometheus gets its metrics at once, and capture does not notice."""

import contextlib
import multiprocessing
import random
import selectors
import signal
import socket
import time
import unittest

import judge
from harness import (HOST4, HOST6, METRICS_PORT, PEER4, PEER6, CaptureTest, memory_bytes,
                     needs_daemon, needs_tool, wait_until)
from peers import RESET_ON_CLOSE, Pace, connect, cookie_of, exchange, flow_of, fork, listen

SEED = 4711
MIB = 1 << 20
SLOWEST_S = 1  # no good scrape takes longer
GET = b"GET /metrics HTTP/1.1\r\nHost: host\r\n\r\n"
AT_ONCE = 1000
ATTACK_S = 8
SCRAPES_A_SECOND = 400  # at most: memory grows with what is remembered of the flow beside each


def get(address=("127.0.0.1", METRICS_PORT), path=b"/metrics", host=b"host"):
    """(status, body) of one request; fails unless the answer is whole."""
    with socket.create_connection(address, timeout=20) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host))
        answer = b""
        while data := sock.recv(1 << 20):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n")
                  if line.lower().startswith(b"content-length:"))
    if len(body) != length:
        raise AssertionError(f"{len(body)} of {length} bytes")
    return int(head.split()[1]), body.decode()


def drip(address, stop):
    """
    AT_ONCE clients that never finish their request, and every fourth does not begin it; each is
    replaced when it is closed.
    """
    clients, made, closed = selectors.DefaultSelector(), 0, 0
    while not stop.is_set():
        while len(clients.get_map()) < AT_ONCE:
            sock = socket.socket()
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
            made += 1
            clients.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if made % 4 else 0),
                             data=0)  # when it last sent something
        for key, events in clients.select(0.1):
            try:
                if events & selectors.EVENT_WRITE:
                    key.fileobj.send(b"y" if key.data else b"GET /metrics HTTP/1.1\r\nX: y")
                    clients.modify(key.fileobj, selectors.EVENT_READ, data=time.monotonic())
                if events & selectors.EVENT_READ and not key.fileobj.recv(4096):
                    raise ConnectionResetError
            except OSError:
                clients.unregister(key.fileobj)
                key.fileobj.close()
                closed += 1
        for key in list(clients.get_map().values()):
            if key.data and time.monotonic() > key.data + 0.5:
                clients.modify(key.fileobj, selectors.EVENT_READ | selectors.EVENT_WRITE, key.data)
    for key in list(clients.get_map().values()):
        key.fileobj.close()
    clients.close()
    return closed


def be_rude(address, stop):
    """One after the other: what is too long, no HTTP, half closed, pipelined, or never read."""
    made = random.Random(SEED)
    turns = 0

    def too_long(sock):
        sock.sendall(b"GET /metrics HTTP/1.1\r\n" + b"X: " + b"y" * (4 * MIB))

    def no_http(sock):
        sock.sendall(made.randbytes(made.randrange(1, 3000)) + b"\r\n\r\n")

    def half_closed(sock):
        sock.sendall(GET[:made.randrange(len(GET) + 1)])
        sock.shutdown(socket.SHUT_WR)

    def pipelined(sock):
        sock.sendall(GET * 50)
        while sock.recv(1 << 16):
            pass

    def never_read(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.sendall(GET)

    def reset(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        sock.sendall(GET)

    kept = []
    while not stop.is_set():
        for rudeness in (too_long, no_http, half_closed, pipelined, never_read, reset):
            sock = socket.socket()
            sock.settimeout(1)
            with contextlib.suppress(OSError):
                sock.connect(address)
                rudeness(sock)
            kept.append(sock)
            turns += 1
        while len(kept) > 200:
            kept.pop(0).close()
    for sock in kept:
        sock.close()
    return turns


class HttpTest(CaptureTest):

    def get(self, *arguments, space=None):
        with (space or self.host).entered():
            return get(*arguments)

    def timed_scrape(self):
        """The seconds that a whole scrape took."""
        began = time.monotonic()
        status, text = self.get()
        took = time.monotonic() - began
        self.assertEqual(status, 200)
        self.assertIn("\npacket_headers_build_info{", text)
        self.assertTrue(text.endswith("\n"))
        return took

    def attack(self, *attackers):
        """Starts them; call what is returned to end them, for the list of their results."""
        stop = multiprocessing.get_context("fork").Event()
        self.addCleanup(stop.set)
        results = [fork(self, self.host, attacker, ("127.0.0.1", METRICS_PORT), stop)
                   for attacker in attackers]

        def end():
            stop.set()
            return [result() for result in results]
        return end


@needs_daemon
class Hostile(HttpTest):

    def test_a_thousand_at_once(self):
        print(f"\n  seed {SEED}", flush=True)
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        listener = listen(self, self.host, HOST4)
        self.timed_scrape()
        resident = memory_bytes(daemon.pid)
        end = self.attack(drip, be_rude)
        owners, took = {}, []
        until = time.monotonic() + ATTACK_S
        pace = Pace(SCRAPES_A_SECOND)
        while time.monotonic() < until:
            pace.wait()
            took.append(self.timed_scrape())
            client, accepted = connect(self, self.peer, PEER4, listener)
            exchange(client, accepted)
            owners[cookie_of(accepted)] = flow_of(accepted)
            client.close()
            accepted.close()
        grown = memory_bytes(daemon.pid) - resident
        closed, turns = end()
        took.sort()
        print(f"  {len(took)} scrapes: median {took[len(took) // 2] * 1e3:.1f}, "
              f"99 % {took[len(took) * 99 // 100] * 1e3:.1f}, longest {took[-1] * 1e3:.1f} ms; "
              f"{closed} slow clients closed, {turns} rude ones; "
              f"resident grew by {grown / MIB:.2f} MiB", flush=True)
        self.assertGreater(closed, AT_ONCE)
        self.assertLess(took[-1], SLOWEST_S)
        self.assertLess(grown, 8 * MIB)
        self.assertLess(self.timed_scrape(), SLOWEST_S)
        wait_until(lambda: daemon.metric("files_published_total") == len(owners),
                   "every flow is saved")
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured, owners)

    @needs_tool("prlimit")
    def test_with_64_descriptors(self):
        daemon = self.start_daemon(rights=("prlimit", "--nofile=64:64"))
        tcpdump = self.start_tcpdump()
        end, owners = self.attack(drip), {}
        listener = listen(self, self.host, HOST4)
        for _ in range(50):
            self.assertLess(self.timed_scrape(), SLOWEST_S)
            client, accepted = connect(self, self.peer, PEER4, listener)
            owners[cookie_of(accepted)] = flow_of(accepted)
            exchange(client, accepted)
            client.close()
            accepted.close()
        wait_until(lambda: daemon.metric("files_published_total") == len(owners),
                   "every flow is saved")
        end()
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured, owners)


@needs_daemon
class Served(HttpTest):

    def test_on_every_address_and_nothing_else(self):
        daemon = self.start_daemon(f"-prometheusx.listen-address=:{METRICS_PORT}")
        listener = listen(self, self.host, HOST4)
        client, accepted = connect(self, self.peer, PEER4, listener)
        exchange(client, accepted)
        for space, address in ((self.peer, HOST4), (self.peer, HOST6), (self.host, "::1")):
            status, text = self.get((address, METRICS_PORT), space=space)
            self.assertEqual(status, 200)
            for secret in (HOST4, PEER4, HOST6, PEER6, judge.uuid_of(cookie_of(accepted))):
                self.assertNotIn(secret, text)
        self.assertEqual(self.get(("::1", METRICS_PORT), b"/healthz"), (200, "ok\n"))
        self.assertEqual(self.get(("::1", METRICS_PORT), b"/metrics/")[0], 404)
        self.finish(daemon)

    def test_the_end(self):
        """At once behind the last line, with clients that wait; the port is free then."""
        for _ in range(2):
            daemon = self.start_daemon()
            with self.host.entered():
                waiting = socket.create_connection(("127.0.0.1", METRICS_PORT))
            with waiting:
                waiting.sendall(GET[:5])
                self.get()
                daemon.send_signal(signal.SIGTERM)
                daemon.wait_for_log(" files, 0 failed")
                last_line = time.monotonic()
                self.assertEqual(daemon.wait_for_exit(10), 0)
                took = time.monotonic() - last_line
                print(f"\n  exit {took * 1e3:.0f} ms after the last line", flush=True)
                self.assertLess(took, 0.5)


if __name__ == "__main__":
    unittest.main()
