"""What people see of a running daemon: the status page, /flows and -flows."""

import contextlib
import fcntl
import http.server
import json
import mimetypes
import os
import re
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import termios
import threading
import time
import unittest
import zlib

from harness import (BINARY, ENVIRONMENT, HERE, HOST4, HOST6, METRICS_PORT, PEER4, CaptureTest,
                     end_process, needs_daemon, wait_until)
from peers import connect, cookie_of, exchange, fork, listen
from test_http import get
from test_limits import CROWD, Crowd
import judge

PUBLIC = ("/metrics", "/healthz", "/readyz")
PRIVATE = ("/", "/status.css", "/status.js", "/status", "/flows")
MANY = 100_000
PAGE = 1000
FIN = 1
CTRL_S, CTRL_Q = b"\x13", b"\x11"
USUAL_S = 1  # half of all answers take no longer; others run on the same processors
NO_SOCKETS = sys.executable, os.path.join(HERE, "without_call.py"), "socket"
BROWSER = shutil.which("chromium")


class StatusTest(CaptureTest):

    def get(self, path, space=None, host="127.0.0.1", name=b"localhost"):
        """(status, body)"""
        with (space or self.host).entered():
            return get((host, METRICS_PORT), path.encode(), name)

    def ask(self, path):
        """What a path tells in JSON."""
        status, text = self.get(path)
        self.assertEqual(status, 200, text)
        return json.loads(text)

    def connected(self, size=2000, address=PEER4):
        client, accepted = connect(self, self.peer, address, self.listener)
        exchange(client, accepted, size)
        return client, accepted

    def setUp(self):
        super().setUp()
        self.listener = listen(self, self.host, HOST4)

    def show_flows(self, *words, space=None, host="", code=0):
        """stdout and stderr of -flows, asked by nobody in particular, behind these words."""
        done = subprocess.run(
            ["ip", "netns", "exec", (space or self.host).name, "setpriv", "--reuid=65534",
             "--regid=65534", "--clear-groups", "--bounding-set=-all", *words, BINARY, "-flows",
             f"-prometheusx.listen-address={host}:{METRICS_PORT}"],
            env=ENVIRONMENT, text=True, capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr


@needs_daemon
class Access(StatusTest):

    def statuses(self, paths, **where):
        return [self.get(path, **where)[0] for path in paths]

    def test_this_host_alone(self):
        daemon = self.start_daemon(f"-prometheusx.listen-address=:{METRICS_PORT}")
        for host in ("127.0.0.1", "::1", HOST4, HOST6):
            self.assertEqual(self.statuses(PUBLIC + PRIVATE, host=host), [200] * 8)
        for host in (HOST4, HOST6):
            self.assertEqual(self.statuses(PUBLIC, space=self.peer, host=host), [200] * 3)
            for path in PRIVATE:
                status, text = self.get(path, space=self.peer, host=host)
                self.assertEqual(status, 403, path)
                self.assertIn("-http.expose=all", text)
        self.finish(daemon)

    def test_no_page_of_others(self):
        """A name of theirs that leads here (DNS rebinding) is of no use to them."""
        daemon = self.start_daemon()
        for name in (b"127.0.0.1:9990", b"[::1]:9990", b"LOCALHOST", b"localhost:1"):
            self.assertEqual(self.statuses(PRIVATE, name=name), [200] * 5)
        for name in (b"rebound.example.com", b"127.0.0.1.example.com:9990", b"", b"[::1"):
            self.assertEqual(self.statuses(PRIVATE, name=name), [403] * 5)
            self.assertEqual(self.statuses(PUBLIC, name=name), [200] * 3)
        self.finish(daemon)

    def test_everybody(self):
        daemon = self.start_daemon(f"-prometheusx.listen-address=:{METRICS_PORT}",
                                   "-http.expose=all")
        self.assertEqual(
            self.statuses(PUBLIC + PRIVATE, space=self.peer, host=HOST4, name=b"monitored.example"),
            [200] * 8)
        self.finish(daemon)

    def test_any_name_of_an_interface(self):
        """Linux takes almost any bytes; who reads of it gets UTF-8, and no code of terminals."""
        self.host.link_to(self.peer, os.fsdecode(b"\xff\xfe\x1b"), "peer1", [], [])
        shown = r"\xff\xfe\x1b"
        daemon = self.start_daemon("-log.format=json", interface=None)
        self.assertEqual(self.statuses(PUBLIC + PRIVATE), [200] * 8)
        self.assertIn(shown, [one["name"] for one in self.ask("/status")["interfaces"]])
        self.assertIn(r'interface="\\xff\\xfe\\x1b"', self.get("/metrics")[1])
        self.assertIn(f"attached to {shown} (ifindex ",
                      "".join(json.loads(line)["message"] for line in daemon.log.splitlines()))
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0, daemon.log)


@needs_daemon
class Flows(StatusTest):

    def wait_for_flows(self, count, path="/flows"):
        return wait_until(lambda: len(rows := self.ask(path)["flows"]) == count and rows,
                          lambda: f"{count} flows: {self.ask(path)}")

    def test_what_is_told_of_a_flow(self):
        """The same as its file tells when it is there."""
        daemon = self.start_daemon("-flowtimeout=1h")
        client, accepted = self.connected(50_000)
        flow, = self.wait_for_flows(1)
        self.assertEqual(
            {name: flow[name] for name in ("uuid", "state", "local", "local_port", "remote",
                                           "remote_port")},
            {"uuid": judge.uuid_of(cookie_of(accepted)), "state": "open", "local": HOST4,
             "local_port": 7000, "remote": PEER4, "remote_port": client.getsockname()[1]})
        silent, = wait_until(
            lambda: [f for f in self.ask("/flows")["flows"] if f["idle_seconds"] > 1], "silence")
        self.assertGreaterEqual(silent["age_seconds"], silent["idle_seconds"])
        client.close()
        wait_until(lambda: self.ask("/flows")["flows"][0]["state"] == "closing", "one side closed")
        accepted.close()
        wait_until(lambda: self.ask("/flows")["flows"][0]["state"] == "closed", "both closed")
        records = self.finish(daemon)[flow["uuid"]].records
        before = next(i for i, record in enumerate(records) if record.tcp.flags & FIN)
        self.assertEqual(silent["packets"], before)
        self.assertEqual(silent["bytes"], sum(record.wire_bytes for record in records[:before]))

    def test_hidden_addresses_stay_hidden(self):
        daemon = self.start_daemon("-anonymize.ip=netblock")
        self.connected()
        flow, = self.wait_for_flows(1)
        self.assertEqual((flow["local"], flow["remote"]), (HOST4, "10.9.0.0"))
        for path in PUBLIC + PRIVATE:
            self.assertNotIn(PEER4, self.get(path)[1], path)
        self.assertNotIn(PEER4, self.show_flows()[0])
        self.finish(daemon)

    def test_the_largest(self):
        daemon = self.start_daemon("-shards=3")
        sizes = {}
        for size in (1000, 60_000, 5000, 30_000, 100):
            client, _ = self.connected(size)
            sizes[client.getsockname()[1]] = size
        largest = sorted(sizes, key=sizes.get, reverse=True)
        self.wait_for_flows(5)
        for limit in (5, 2):
            rows = self.ask(f"/flows?sort=bytes&limit={limit}")["flows"]
            self.assertEqual([row["remote_port"] for row in rows], largest[:limit])
        rows = self.ask("/flows?sort=packets")["flows"]
        self.assertEqual([r["packets"] for r in rows],
                         sorted((r["packets"] for r in rows), reverse=True))
        self.finish(daemon)

    def test_what_makes_no_sense_is_refused(self):
        daemon = self.start_daemon()
        for words in ("limit=0", "limit=1001", "limit=x", "limit=", "sort=port", "after=-1",
                      "after=1&sort=bytes", "page=2", "limit=" + "9" * 400):
            status, text = self.get(f"/flows?{words}")
            self.assertEqual(status, 400, words)
            self.assertEqual(text.count("\n"), 1, text)
        self.finish(daemon)

    @unittest.skipUnless(os.access(CROWD, os.X_OK), f"no program at {CROWD}")
    def test_pages_of_many(self):
        """Each flow is on one page; whoever asks, all are answered, and metrics wait for none."""
        daemon = self.start_daemon("-captureduration=10m", "-flowtimeout=10m", "-shards=2")
        began = time.monotonic()
        crowd = Crowd(self, reset=False, backlog=2 * MANY)
        self.assertEqual(crowd.connect(MANY, seconds=60)(), MANY)
        wait_until(lambda: daemon.metric("flows", state="capturing") == MANY, "all are open", 30)
        made = time.monotonic() - began
        uuids, path, took = set(), f"/flows?limit={PAGE}", []
        while path:
            asked = time.monotonic()
            page = self.ask(path)
            took.append(time.monotonic() - asked)
            uuids |= {flow["uuid"] for flow in page["flows"]}
            path = page["next"] and f"/flows?limit={PAGE}&after={page['next']}"
        self.assertEqual(len(uuids), MANY)
        largest, scrapes = [], []
        asking = fork(self, self.host, ask_again_and_again, 3)
        until = time.monotonic() + 3
        while time.monotonic() < until:
            asked = time.monotonic()
            self.ask("/flows?sort=bytes&limit=10")
            largest.append(time.monotonic() - asked)
            asked = time.monotonic()
            daemon.metrics()
            scrapes.append(time.monotonic() - asked)
        others = asking()
        print(f"\n  {MANY} flows in {made:.1f} s; {len(took)} pages: longest "
              f"{max(took) * 1e3:.0f} ms; the largest of all: longest {max(largest) * 1e3:.0f} ms "
              f"beside {others} other queries; longest scrape {max(scrapes) * 1e3:.0f} ms",
              flush=True)
        for each in (took, largest, scrapes):
            self.assertLess(statistics.median(each), USUAL_S)
        daemon.send_signal(signal.SIGKILL)
        daemon.wait_for_exit(10)


def ask_again_and_again(seconds):
    """Queries that all differ; how many were answered."""
    until, asked = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        status, _ = get(("127.0.0.1", METRICS_PORT), b"/flows?after=%d&limit=1000" % (asked + 1),
                        b"localhost")
        if status != 200:
            raise AssertionError(status)
        asked += 1
    return asked


def read_terminal(screen, until=None):
    """What is shown until then, or until nobody has the terminal any more."""
    shown = b""

    def is_there():
        nonlocal shown
        if select.select([screen], [], [], 0)[0]:
            try:
                shown += os.read(screen, 1 << 16)
            except OSError:
                return until is None
        return until is not None and until in shown
    wait_until(is_there, lambda: f"{until} on the terminal, on which there is {shown}")
    return shown


def look_at(path):
    """The size of a PNG, and the red, green and blue of its first pixel."""
    with open(path, "rb") as file:
        image = file.read()
    bytes_of = {b"IDAT": b""}
    at = 8
    while at < len(image):
        length, = struct.unpack_from(">I", image, at)
        kind = image[at + 4:at + 8]
        bytes_of[kind] = bytes_of.get(kind, b"") + image[at + 8:at + 8 + length]
        at += 12 + length
    return (struct.unpack_from(">II", bytes_of[b"IHDR"]),
            tuple(zlib.decompress(bytes_of[b"IDAT"])[1:4]))


@needs_daemon
class Log(StatusTest):

    def test_json(self):
        """Each line is an object, from the first to the last."""
        daemon = self.start_daemon("-log.format=json", "-flowtimeout=1s")
        self.connected()
        daemon.wait_for_files(1)
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0)
        lines = [json.loads(line) for line in daemon.log.splitlines()]
        for line in lines:
            self.assertEqual(list(line), ["time", "level", "message"])
        messages = [line["message"] for line in lines]
        self.assertRegex(messages[1], "^packet-headers .* -log.format=json")
        self.assertRegex(messages[-2], r"^the books close: (\d+) packets seen = \d+ saved \+ ")
        self.assertEqual(messages[-1], "saved 1 files, 0 failed")

    def on_terminal(self, *words, **options):
        """The daemon, started by these words, and the other end of the terminal that it is on."""
        screen, terminal = os.openpty()
        self.addCleanup(os.close, screen)
        process = self.host.popen(*words, BINARY, "-interface=host0", "-sigtermwait=0s",
                                  f"-datadir={self.folder}/data", stdin=terminal, stderr=terminal,
                                  **options)
        os.close(terminal)
        self.addCleanup(end_process, process)
        return process, screen

    def wait_for_samples(self):
        """Until the daemon would have drawn its line a few times."""
        before = len(self.ask("/status")["history"])
        wait_until(lambda: len(self.ask("/status")["history"]) > before + 1, "it goes on")

    def test_terminal(self):
        """One line stays below the log, and is gone at the end."""
        process, screen = self.on_terminal()
        shown = read_terminal(screen, b" packets/s  saved ")
        os.write(screen, CTRL_S)
        self.wait_for_samples()
        os.write(screen, CTRL_Q)
        process.send_signal(signal.SIGTERM)
        shown += read_terminal(screen)
        self.assertEqual(process.wait(10), 0)
        lines = shown.decode().split("\r\n")
        self.assertIn("the books close: ", lines[-3])
        self.assertNotIn("packets/s", "".join(lines[-3:]))
        # Nothing is left of it before a line of the log.
        for line in lines:
            self.assertNotIn("packets/s", line.split("\r\x1b[K")[-1])

    def test_terminal_of_another_job(self):
        """In the background there is the log alone."""
        shell, screen = self.on_terminal("setsid", "--ctty", "sh", "-c",
                                         'set -m; "$@" & echo $!; wait', "sh",
                                         stdout=subprocess.PIPE)
        self.addCleanup(shell.stdout.close)
        daemon = os.pidfd_open(int(shell.stdout.readline()))
        self.addCleanup(os.close, daemon)

        def end(number):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(daemon, number)
        self.addCleanup(end, signal.SIGKILL)
        shown = read_terminal(screen, b" ready: ")
        self.wait_for_samples()
        end(signal.SIGTERM)
        shown += read_terminal(screen)
        self.assertIn(b"the books close: ", shown)
        self.assertNotIn(b"packets/s", shown)


@needs_daemon
class Command(StatusTest):

    def test_a_table(self):
        daemon = self.start_daemon()
        _, accepted = self.connected()
        wait_until(lambda: self.ask("/flows")["flows"], "it is open")
        head, row, *rest = self.show_flows()[0].splitlines()
        self.assertEqual(head.split(), ["State", "Packets", "Bytes", "Age", "Local", "Remote",
                                        "UUID"])
        self.assertEqual(row.split()[0], "open")
        self.assertIn(f" {HOST4}:7000 ", row)
        self.assertTrue(row.endswith(judge.uuid_of(cookie_of(accepted))), row)
        self.assertEqual(rest, [])
        self.finish(daemon)

    def test_more_than_a_page(self):
        daemon = self.start_daemon()
        pairs = [self.connected(10) for _ in range(PAGE + 50)]
        wait_until(lambda: daemon.metric("flows", state="capturing") == len(pairs), "all are open")
        rows = self.show_flows()[0].splitlines()[1:]
        self.assertEqual(len({row.split()[-1] for row in rows}), len(pairs))
        self.finish(daemon)

    def test_at_one_address(self):
        """Who is refused is told why."""
        daemon = self.start_daemon(f"-prometheusx.listen-address={HOST4}:{METRICS_PORT}")
        self.assertTrue(self.show_flows(host=HOST4)[0].startswith("State "))
        _, error = self.show_flows(space=self.peer, host=HOST4, code=1)
        self.assertRegex(error, "it answers 403 Forbidden: .* -http.expose=all")
        self.finish(daemon)

    def test_nobody_there(self):
        _, error = self.show_flows(code=1)
        self.assertRegex(error, r"localhost:9990: Connection refused .*"
                                r"-prometheusx\.listen-address")
        _, error = self.show_flows(*NO_SOCKETS, code=1)
        self.assertIn("localhost:9990: Function not implemented", error)

    def test_somebody_else_there(self):
        """What is not a daemon's answer, or does not come, is an error and not shown."""
        with self.host.entered():
            fake = socket.create_server(("127.0.0.1", METRICS_PORT))
        self.addCleanup(fake.close)
        for answer in (b"SSH-2.0-x\r\n", b"HTTP/1.0 200 OK\r\n\r\n{\"flows\":[3]}",
                       b"HTTP/1.0 200 OK\r\n\r\n[[[[\x1b[2J",
                       b"HTTP/1.0 404 \x1b[2J\r\n\r\n\x1b[2J" + bytes(1 << 20),
                       b"HTTP/1.\r\n\r\n", b""):
            asking = fork(self, self.host, lambda: subprocess.run(
                [BINARY, "-flows"], env=ENVIRONMENT, capture_output=True, timeout=30, check=False))
            accepted, _ = fake.accept()
            accepted.recv(1 << 16)
            accepted.sendall(answer)
            accepted.close()
            done = asking()
            self.assertEqual(done.returncode, 1, answer)
            self.assertNotIn(b"\x1b[2J", done.stdout + done.stderr)

    def test_web_server_there(self):
        """Its page is not for terminals."""
        with self.host.entered():
            server = http.server.HTTPServer(("127.0.0.1", METRICS_PORT),
                                            http.server.SimpleHTTPRequestHandler)
        self.addCleanup(server.server_close)
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.handle_request, daemon=True).start()
        _, error = self.show_flows(code=1)
        self.assertRegex(error, r"it answers 404 [^<]*\(is packet-headers running, ")

    def watched(self, columns, rows, until):
        """The lines that -watch shows first on a screen of that size, of which this is the last."""
        screen, terminal = os.openpty()
        self.addCleanup(os.close, screen)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        watching = self.host.popen(BINARY, "-flows", "-watch", stdout=terminal)
        os.close(terminal)
        self.addCleanup(end_process, watching)
        shown = read_terminal(screen, f"{until}\r\n".encode()).decode()
        self.assertTrue(shown.startswith("\x1b[H\x1b[J"))
        lines = shown.removeprefix("\x1b[H\x1b[J").split("\r\n")
        self.assertLessEqual(len(lines), rows)
        self.assertLessEqual(max(map(len, lines)), columns)
        return lines[:-1]

    def test_watch_on_a_screen(self):
        """The UUID stays whole where columns can make room; what is not shown is told."""
        daemon = self.start_daemon()
        sockets = [self.connected(10 * (i + 1)) for i in range(12)]
        wait_until(lambda: daemon.metric("flows", state="capturing") == 12, "all are open")
        smallest, *_, largest = (judge.uuid_of(cookie_of(accepted)) for _, accepted in sockets)
        wide = self.watched(200, 30, smallest)
        self.assertEqual(wide[0].split()[0], "State")
        self.assertEqual(len(wide), 1 + 12)
        narrow = self.watched(len(largest) + 25, 10, "and 5 more")
        self.assertEqual(narrow[0].split(), ["Bytes", "Remote", "UUID"])
        self.assertTrue(narrow[1].endswith(f"  {largest}"), narrow)
        self.assertEqual(len(narrow), 1 + 7 + 1)
        self.watched(20, 10, "and 5 more")
        self.finish(daemon)

    def test_watch(self):
        """It goes on, with what is new."""
        daemon = self.start_daemon()
        watching = self.host.popen(BINARY, "-flows", "-watch", stdout=subprocess.PIPE, text=True)
        self.addCleanup(watching.stdout.close)
        self.addCleanup(end_process, watching)
        self.assertIn("State", watching.stdout.readline())
        _, accepted = self.connected()
        for line in watching.stdout:
            if judge.uuid_of(cookie_of(accepted)) in line:
                break
        watching.send_signal(signal.SIGINT)
        watching.wait(10)
        self.finish(daemon)


@needs_daemon
@unittest.skipUnless(BROWSER, "chromium isn't installed")
class Page(StatusTest):

    def browse(self, *arguments):
        """What headless Chromium says of the page; seconds of its time pass at once."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.host.name, BROWSER, "--headless", "--no-sandbox",
             "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={self.folder}/browser",
             "--virtual-time-budget=5000", *arguments, f"http://127.0.0.1:{METRICS_PORT}/"],
            env={**ENVIRONMENT, "HOME": self.folder}, text=True, capture_output=True, timeout=60,
            check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_what_it_shows(self):
        daemon = self.start_daemon("-flowtimeout=5m")
        client, accepted = self.connected()
        client.close()
        accepted.close()
        file, = daemon.wait_for_files(1)
        _, still_open = self.connected(40_000)
        wait_until(lambda: self.ask("/status")["history"][1:], "there is something to draw")
        done = self.browse("--dump-dom", "--enable-logging=stderr")
        # Errors of scripts, and what the content security policy refuses.
        self.assertNotIn("CONSOLE", done.stderr)
        text = re.sub(r"<[^>]*>", " ", done.stdout)
        for shown in ("capturing on 1 interface(s)", f"{socket.gethostname()}, version ",
                      f"{socket.gethostname()} \u2013 packet-headers", "host0", "Largest flows",
                      judge.uuid_of(cookie_of(still_open)), os.path.basename(file),
                      "packets that passed the hooks"):
            self.assertIn(shown, text)
        self.assertRegex(done.stdout, r'<path class="curve" d="M[\d.]+ [\d.]+L')
        self.assertNotRegex(done.stdout, "NaN|undefined|null")
        # Also where addresses look as if they were code.
        self.assertEqual(set(re.findall(r'(?:src|href)="([^"]+)"', done.stdout)) - {
            "data:,", "status.css", "status.js", "metrics", "flows", "status", "healthz",
            "readyz"}, set())
        self.finish(daemon)

    def test_without_flows(self):
        """Where they alone are refused the rest is shown, and why they are not."""
        daemon = self.start_daemon()
        answers = {path: self.get(path) for path in PRIVATE}
        self.finish(daemon)
        answers["/flows"] = 503, "the shards don't answer"

        class Fake(http.server.BaseHTTPRequestHandler):

            def do_GET(self):
                status, text = answers.get(self.path.partition("?")[0], (404, ""))
                self.send_response(status)
                self.send_header("Content-Type", mimetypes.guess_type(self.path)[0] or "text/html")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass
        with self.host.entered():
            server = http.server.ThreadingHTTPServer(("127.0.0.1", METRICS_PORT), Fake)
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        shown = self.browse("--dump-dom").stdout
        self.assertIn("capturing on 1 interface(s)", shown)
        self.assertIn("the shards don't answer", shown)

    def test_light_dark_wide_narrow(self):
        """It follows the scheme of the screen, on any width of it."""
        daemon = self.start_daemon()
        self.connected()
        wait_until(lambda: self.ask("/flows")["flows"], "it is open")
        path = os.path.join(self.folder, "screen.png")
        for scheme, shades in ((0, range(0, 64)), (1, range(192, 256))):  # dark, light
            for width in (500, 1600):
                self.browse(f"--screenshot={path}", f"--window-size={width},1200",
                            f"--blink-settings=preferredColorScheme={scheme}")
                size, corner = look_at(path)
                self.assertEqual(size, (width, 1200))
                self.assertTrue(all(shade in shades for shade in corner), corner)
        self.finish(daemon)


if __name__ == "__main__":
    unittest.main()
