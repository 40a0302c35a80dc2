"""
A real Prometheus, with our configuration, looks at the real daemon: each query of dashboard and
rules finds something, and each alert fires when what it tells of happens.
"""

import errno
import http.client
import json
import os
import re
import signal
import subprocess
import unittest
import urllib.parse

import yaml

import archive
import index
from faults import FailingCalls, needs_failing_calls, tmpfs
from harness import (ENVIRONMENT, HERE, HOST4, METRICS_PORT, PEER4, CaptureTest, end_process,
                     needs_daemon, needs_tcx, run, wait_until)
from peers import Load, connect, exchange, listen
from tcpinfo import TcpInfo
from test_health import HealthTest
from test_http import get

ROOT = os.path.join(HERE, "..", "..")
PROMETHEUS = os.path.join(ROOT, "deploy", "prometheus")
RULES = os.path.join(PROMETHEUS, "packet-headers.rules.yml")
RULES_TEST = os.path.join(PROMETHEUS, "packet-headers.test.yml")
DASHBOARD = os.path.join(ROOT, "deploy", "grafana", "packet-headers.json")
OPERATIONS = os.path.join(ROOT, "docs", "operations.md")
EXPECTED_EMPTY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "expected_empty.txt")

PORT = 9090
SMALL_HEAP = 4 << 20
CLSACT = "-capture.hook=clsact"  # the one hook that a second daemon takes from the first
OTHER_METRICS_PORT = 9991


def text_of(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def tool(name):
    """
    The path of prometheus or promtool. Installed, the package would start a service, and bring
    220 MB that only its web pages need.
    """
    return archive.tool("prometheus", name)


def rules():
    """All rules, each a mapping with the key record or alert."""
    return [rule for group in yaml.safe_load(text_of(RULES))["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def reasons_in(queries):
    """Why packets are not saved, as far as the queries choose by it."""
    return {reason for query in queries for chosen in re.findall(r'reason=~?\s*"(.*?)"', query)
            for reason in chosen.split("|")}


def dashboard_queries():
    """What the dashboard asks for, with the variables that Grafana fills in."""
    dashboard = json.loads(text_of(DASHBOARD))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    return [query.replace("$instance", ".*").replace("$__rate_interval", "1m") for query in asked]


class Prometheus:
    """One that scrapes and judges twice a second; no alert waits for how long it is so."""

    def __init__(self, case, namespace):
        self._namespace = namespace
        folder = os.path.join(case.folder, "prometheus")
        os.mkdir(folder)
        config = yaml.safe_load(text_of(os.path.join(PROMETHEUS, "prometheus.yml")))
        config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms",
                            "evaluation_interval": "500ms"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{METRICS_PORT}"]
        self._write(folder, "prometheus.yml", yaml.safe_dump(config))
        at_once, waiting = re.subn(r"(?m)^( *for:).*$", r"\1 0s", text_of(RULES))
        case.assertGreater(waiting, 0)
        self._write(folder, os.path.basename(RULES), at_once)
        with open(os.path.join(folder, "log"), "wb") as log:
            process = namespace.popen(
                tool("prometheus"), f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{PORT}",
                stdout=log, stderr=log)
        case.addCleanup(end_process, process)
        wait_until(lambda: "ready to receive" in text_of(log.name), lambda: text_of(log.name), 30)

    @staticmethod
    def _write(folder, name, text):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def query(self, expression):
        """What it finds: (labels, value) of each series."""
        with self._namespace.entered():
            connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
            connection.connect()
        connection.request("GET", "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        if answer["status"] != "success":
            raise AssertionError(f"{expression}: {answer['error']}")
        return [(series["metric"], float(series["value"][1]))
                for series in answer["data"]["result"]]

    def firing(self):
        """The names of the alerts that fire."""
        return {labels["alertname"] for labels, _ in self.query('ALERTS{alertstate="firing"}')}


class Files(unittest.TestCase):
    """What can be told without a daemon."""

    def test_promtool_is_content(self):
        run(tool("promtool"), "check", "config", os.path.join(PROMETHEUS, "prometheus.yml"))
        run(tool("promtool"), "test", "rules", RULES_TEST)

    def test_each_alert_is_explained_and_tested(self):
        headings = re.findall(r"(?m)^### (PacketHeaders\w+)$", text_of(OPERATIONS))
        self.assertEqual(sorted(headings), sorted(alerts()))
        for name, rule in alerts().items():
            self.assertEqual(rule["annotations"]["runbook_url"],
                             f"docs/operations.md#{name.lower()}")
            self.assertIn(name, text_of(RULES_TEST))


@needs_daemon
class Healthy(CaptureTest):

    @needs_tcx
    def test_every_query_finds_something(self):
        tcpinfo = TcpInfo(self)
        tcpinfo.listen()
        daemon = self.start_daemon(f"-tcpinfo.eventsocket={tcpinfo.path}", "-captureduration=1s",
                                   "-uuidwaitduration=100ms")
        tcpinfo.accept()
        prometheus = Prometheus(self, self.host)
        Load(self, self.peer, self.host, HOST4)
        wait_until(lambda: daemon.metric("files_published_total") > 200, "there is a load", 30)
        with self.host.entered():
            _, metrics = get(("127.0.0.1", METRICS_PORT))
        checked = subprocess.run([tool("promtool"), "check", "metrics"], input=metrics, text=True,
                                 env=ENVIRONMENT, capture_output=True, check=False)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))

        asked = dashboard_queries() + [rule["expr"] for rule in rules() if "record" in rule]
        self.assertGreater(len(asked), 40)
        empty_names = [line.split()[0] for line in text_of(EXPECTED_EMPTY).splitlines()
                       if not line.startswith("#")]
        expected = {query for query in asked if any(name in query for name in empty_names)}

        def empty():
            return {query for query in asked if not prometheus.query(query)}
        wait_until(lambda: empty() <= expected, lambda: f"data for {empty() - expected}")
        self.assertEqual(empty(), expected, "these find something now: mend expected_empty.txt")
        (_, completeness), = prometheus.query("instance:packet_headers_completeness:ratio_rate5m")
        self.assertEqual(completeness, 1)
        self.assertEqual(prometheus.firing(), set())


@needs_daemon
class Loss(CaptureTest):

    def test_all_mean_the_same(self):
        self.start_daemon()
        with self.host.entered():
            _, status = get(("127.0.0.1", METRICS_PORT), b"/status", b"localhost")
        losses = {row["reason"] for row in json.loads(status)["books"]["not_saved"]
                  if row["is_loss"]}
        self.assertEqual(reasons_in(rule["expr"] for rule in rules()), losses)
        # The dashboard asks for what the rules record.
        self.assertEqual(reasons_in(dashboard_queries()) & losses, set())
        explained = text_of(OPERATIONS).split("### PacketHeadersLosingPackets")[1].split("###")[0]
        self.assertEqual(set(re.findall(r"(?m)^\| `(\w+)` \|", explained)), losses)


@needs_daemon
class Restarts(CaptureTest):

    def test_alert_fires(self):
        prometheus = Prometheus(self, self.host)
        for _ in range(4):
            self.assertNotIn("PacketHeadersRestarting", prometheus.firing())
            daemon = self.start_daemon()
            began = daemon.metric("start_time_seconds", family="process")
            wait_until(lambda: prometheus.query(f"process_start_time_seconds == {began!r}"),
                       "it is scraped")
            daemon.send_signal(signal.SIGKILL)
            daemon.wait_for_exit(10)
        wait_until(lambda: "PacketHeadersRestarting" in prometheus.firing(), "the alert fires")


@needs_daemon
@needs_failing_calls
class Faults(HealthTest):

    def setUp(self):
        CaptureTest.setUp(self)
        self.fired = set()

    def flows(self, count):
        for _ in range(count):
            client, accepted = connect(self, self.peer, PEER4, self.listener)
            exchange(client, accepted, size=200)
            client.close()
            accepted.close()

    def expect(self, *names, meanwhile=lambda: None):
        """These fire now, beside those that did."""
        self.fired |= set(names)

        def fire():
            meanwhile()
            return self.fired <= self.prometheus.firing()
        wait_until(fire, lambda: f"{self.fired - self.prometheus.firing()} fires\n"
                                 f"{self.daemon.log}", 30)
        self.assertEqual(self.prometheus.firing(), self.fired)

    def end(self, *names):
        """These fire no more, soon."""
        self.fired -= set(names)
        wait_until(lambda: self.prometheus.firing() == self.fired,
                   lambda: f"{names} end, {self.prometheus.firing()} fire", 30)

    def loses_a_file(self):
        """Makes another flow until the daemon has."""
        if self.daemon.metric("files_failed_total") > 0:
            return True
        self.flows(1)
        return False

    def test_each_alert_fires(self):
        disk, calls, tcpinfo = tmpfs(self, "size=64m"), FailingCalls(self, True), TcpInfo(self)
        tcpinfo.listen()
        self.daemon = self.start_daemon(
            "-stream", "-sandbox=off", f"-maxheap={SMALL_HEAP}", "-captureduration=1s", CLSACT,
            "-uuidwaitduration=100ms", f"-tcpinfo.eventsocket={tcpinfo.path}",
            datadir=os.path.join(disk.path, "data"), rights=calls.wrapper)
        tcpinfo.accept()
        self.listener = listen(self, self.host, HOST4)
        self.prometheus = Prometheus(self, self.host)
        self.flows(5)
        self.expect("PacketHeadersSandboxNotInForce")

        other = self.start_daemon(CLSACT, metrics_port=OTHER_METRICS_PORT)
        self.expect("PacketHeadersInterfaceNotCaptured", "PacketHeadersNotAttached")
        other.send_signal(signal.SIGTERM)
        self.assertEqual(other.wait_for_exit(10), 0)
        self.end("PacketHeadersInterfaceNotCaptured", "PacketHeadersNotAttached")

        wait_until(lambda: self.daemon.metric("index_lines_total") == 5, "all have their lines")
        path = index.paths(self.daemon.datadir)[-1]
        os.unlink(path)
        os.mkdir(path)
        self.flows(1)
        self.expect("PacketHeadersIndexFailing")
        os.rmdir(path)

        tcpinfo.stop()
        self.expect("PacketHeadersEventSocketGone")

        filling = disk.fill(self)
        self.expect("PacketHeadersDiskFailing", meanwhile=lambda: self.flows(1))
        self.expect("PacketHeadersMemoryNearLimit", "PacketHeadersLosingPackets",
                    meanwhile=lambda: self.flows(100))
        os.unlink(filling)
        # Until then the memory in use may come near its limit again.
        wait_until(lambda: self.daemon.metric("files_waiting") == 0, "what waited is written", 30)
        self.end("PacketHeadersMemoryNearLimit")

        # A stream whose sync failed is given up: nobody knows what of it is on the disk.
        calls.fail(errno.EIO, "fsync", "fdatasync", "syncfs")
        wait_until(self.loses_a_file, "a file is lost", 30)
        self.expect("PacketHeadersFilesLost")
        calls.heal()
        # What a held shard has in memory stays there.
        wait_until(lambda: self.daemon.metric("files_waiting") == 0, "what waited is written", 30)
        self.end()

        with self.holding(self.threads()["shard 0"]):
            self.expect("PacketHeadersThreadHung")
        self.end("PacketHeadersThreadHung")

        self.peer.ip("link", "del", "peer0")
        self.expect("PacketHeadersInterfaceNotCaptured", "PacketHeadersNotAttached")

        self.daemon.send_signal(signal.SIGSTOP)
        # What it last said of itself is forgotten, but for what was counted in the last minutes.
        self.fired = {"PacketHeadersDiskFailing", "PacketHeadersFilesLost",
                      "PacketHeadersIndexFailing", "PacketHeadersLosingPackets",
                      "PacketHeadersDown"}
        self.end("all others")


if __name__ == "__main__":
    unittest.main()
