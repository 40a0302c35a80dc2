"""The index: a line for each file, as its schema says, with the figures that others find in it."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

try:
    import jsonschema
except ImportError:
    jsonschema = None

import captures
import flow_picture
import index
import pcap
from captures import Connection, merged, pcap_bytes
from harness import (BINARY, ENVIRONMENT, HERE, HOST4, HOST6, PEER4, PEER6, CaptureTest, Namespace,
                     needs_daemon, needs_tool)
from pcap import ACK, PSH, SYN
from peers import (RESET_ON_CLOSE, RawPeer, connect, endpoint, exchange, listen, payload,
                   receive)

DOCS = os.path.join(HERE, "..", "..", "docs")
SCHEMA = os.path.join(DOCS, "index.schema.json")
GHOST4 = "10.9.0.77"  # nobody's


def needs_jsonschema(test):
    return unittest.skipUnless(jsonschema, "python3-jsonschema isn't installed")(test)


class IndexTest(CaptureTest):
    maxDiff = None

    def lines(self, datadir):
        """[(line, path of its file)], each as the schema says."""
        with open(SCHEMA, encoding="utf-8") as file:
            schema = json.load(file)
        jsonschema.Draft7Validator.check_schema(schema)
        validator = jsonschema.Draft7Validator(
            schema, format_checker=jsonschema.FormatChecker())
        found = []
        for name, line in sorted(index.read(datadir).items()):
            self.assertEqual([error.message for error in validator.iter_errors(line)], [], line)
            found.append((line, os.path.join(datadir, name)))
        return found

    def assert_tells(self, line, path, **known):
        """What the line says is in the file, and is `known`."""
        local = endpoint(line["local_ip"], line["local_port"])
        expected = {**index.expected(pcap.read(path), local), **known}
        self.assertEqual({name: line[name] for name in expected}, expected, path)

    def tshark(self, path, *fields):
        """These fields of each packet of a file, as text; empty where there is none."""
        arguments = [word for field in fields for word in ("-e", field)]
        done = subprocess.run(
            ["tshark", "-n", "-r", path, "-T", "fields", *arguments],
            env={**ENVIRONMENT, "HOME": self.folder, "XDG_RUNTIME_DIR": self.folder},
            capture_output=True, text=True, check=True, timeout=60)
        return [dict(zip(fields, line.split("\t"))) for line in done.stdout.splitlines()]

    def assert_tshark_agrees(self, line, path):
        packets = self.tshark(path, "tcp.srcport", "tcp.len", "tcp.options.mss_val",
                              "tcp.options.wscale.shift", "tcp.analysis.retransmission",
                              "tcp.analysis.out_of_order", "tcp.analysis.initial_rtt")
        for prefix, end in (("sent", "local"), ("received", "remote")):
            sent = [packet for packet in packets
                    if int(packet["tcp.srcport"]) == line[f"{end}_port"]]
            # Which of the two it is, tshark says by the time between.
            again = [packet for packet in sent if packet["tcp.analysis.retransmission"]
                     or packet["tcp.analysis.out_of_order"]]
            self.assertEqual(line[f"{prefix}_retransmitted"] + line[f"{prefix}_out_of_order"],
                             len(again), path)
            self.assertEqual(line[f"{prefix}_payload_bytes"],
                             sum(int(packet["tcp.len"]) for packet in sent), path)
            for name, field in (("mss", "mss_val"), ("window_scale", "wscale.shift")):
                told = line[f"{end}_{name}"]
                self.assertEqual("" if told is None else str(told),
                                 sent[0][f"tcp.options.{field}"], path)
        round_trip = next(filter(None, (p["tcp.analysis.initial_rtt"] for p in packets)))
        self.assertAlmostEqual(line["handshake_ns"] / 1e9, float(round_trip), 9, path)


@needs_daemon
@needs_tool("tshark")
@needs_jsonschema
class RealConnections(IndexTest):

    def test_each_has_a_line(self):
        """Inbound and outbound, over both IPs, small and in aggregates, and ended in each way."""
        daemon, ends = self.start_daemon(), {}
        for server, server_address, client, client_address in (
                (self.host, HOST4, self.peer, PEER4), (self.host, HOST6, self.peer, PEER6),
                (self.peer, PEER4, self.host, HOST4), (self.peer, PEER6, self.host, HOST6)):
            listener = listen(self, server, server_address)
            for size, end in ((100, "fin"), (300_000, "rst"), (20_000, "shutdown")):
                one, other = connect(self, client, client_address, listener)
                exchange(one, other, size)
                port = one.getsockname()[1]
                ends[client_address, port] = end, size, "local" if client is self.host else "remote"
                if end == "rst":
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                if end != "shutdown":
                    one.close()
                    other.close()
        daemon.wait_for_files(8)
        self.finish(daemon)
        hooks = {"interface": "host0"}
        attached = daemon.log.split("attached to host0")[1].splitlines()[0]
        for direction in ("ingress", "egress"):
            hooks[f"{direction}_hook"] = attached.split(f"{direction} ")[1].split(",")[0]
        aggregates = 0
        for line, path in self.lines(daemon.datadir):
            opener = line["opened_by"]
            end, size, by = ends.pop((line[f"{opener}_ip"], line[f"{opener}_port"]))
            self.assert_tells(line, path, ended_by=end, opened_by=by, received_payload_bytes=size,
                              **hooks)
            self.assert_tshark_agrees(line, path)
            aggregates += line["sent_aggregates"] + line["received_aggregates"]
        self.assertEqual(ends, {}, "all have a line")
        self.assertGreater(aggregates, 0)
        self.assertEqual(len(index.paths(daemon.datadir)), 1)

    def test_what_is_sent_again(self):
        """
        A peer of bare frames sends data twice, leaves a gap and fills it, leaves another, and
        acknowledges nothing, so that the host sends again, too.
        """
        daemon = self.start_daemon("-captureduration=3s", "-uuidwaitduration=1s")
        listener = listen(self, self.host, HOST4)
        self.host.ip("neigh", "add", GHOST4, "lladdr", "02:00:00:00:00:02", "dev", "host0")
        peer = RawPeer(self, self.peer, (GHOST4, 40000), listener.getsockname())
        peer.handshake()
        accepted, _ = listener.accept()
        self.addCleanup(accepted.close)
        for seq in (1001, 1001, 1201, 1101, 1401):
            peer.send(PSH | ACK, payload(100), seq=seq)
        peer.send(ACK, b"x", seq=1500)  # a keepalive of old
        accepted.sendall(payload(500))
        daemon.wait_for_files(1)
        self.finish(daemon)
        (line, path), = self.lines(daemon.datadir)
        self.assert_tells(line, path, ended_by="duration", opened_by="remote",
                          received_retransmitted=1, received_out_of_order=1,
                          received_unseen_bytes=100, received_repeated_bytes=100,
                          received_payload_bytes=501)
        self.assertGreater(line["sent_retransmitted"], 1)
        self.assertEqual(line["sent_repeated_bytes"], 500 * line["sent_retransmitted"])
        self.assert_tshark_agrees(line, path)

    def test_idle_and_another_connection(self):
        daemon = self.start_daemon("-flowtimeout=1s", "-uuidwaitduration=1s")
        listener = listen(self, self.peer, PEER4)
        one, other = connect(self, self.host, HOST4, listener)
        exchange(one, other)
        daemon.wait_for_files(1)
        self.finish(daemon)
        (line, path), = self.lines(daemon.datadir)
        self.assert_tells(line, path, ended_by="idle")


@needs_daemon
@needs_jsonschema
class Flags(IndexTest):

    def one_flow(self, daemon):
        listener = listen(self, self.host, HOST4)
        one, other = connect(self, self.peer, PEER4, listener)
        exchange(one, other)
        for sock in (one, other, listener):
            sock.close()
        daemon.wait_for_files(1)

    def test_off(self):
        daemon = self.start_daemon("-index=false")
        self.one_flow(daemon)
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0, daemon.log)
        self.assertEqual(index.paths(daemon.datadir), [])

    def test_hidden_addresses_are_hidden(self):
        daemon = self.start_daemon("-anonymize.ip=netblock")
        self.one_flow(daemon)
        self.finish(daemon)
        (line, path), = self.lines(daemon.datadir)
        self.assertEqual((line["local_ip"], line["remote_ip"]), (HOST4, "10.9.0.0"))
        self.assert_tells(line, path)

    def test_streams_and_compressed_files(self):
        daemon = self.start_daemon("-stream", "-compress=gzip", "-capture.engine=pcap")
        self.one_flow(daemon)
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0, daemon.log)
        (line, _), = self.lines(daemon.datadir)
        self.assertEqual(index.packets(line), daemon.booked("saved"))
        self.assertEqual((line["ingress_hook"], line["egress_hook"]), ("pcap", "pcap"))
        self.assertRegex(line["file"], r"\.pcap\.gz$")


@needs_daemon
@needs_jsonschema
class Loss(IndexTest):
    """Behind the peer a slow link with a short queue, which drops what comes too fast."""

    SINK4, ROUTER4 = "10.9.1.2", "10.9.1.1"
    SIZE = 2_000_000

    def setUp(self):
        super().setUp()
        self.sink = Namespace(self, "C")
        self.peer.link_to(self.sink, "slow0", "sink0", [f"{self.ROUTER4}/24"], [f"{self.SINK4}/24"])
        self.peer.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.peer.run("tc", "qdisc", "add", "dev", "slow0", "root", "tbf", "rate", "20mbit",
                      "burst", "16kb", "limit", "40kb")
        self.host.ip("route", "add", self.SINK4, "via", PEER4)
        self.sink.ip("route", "add", HOST4, "via", self.ROUTER4)
        # A packet is a segment, and what is sent again holds nothing new.
        self.host.ip("link", "set", "host0", "gso_max_segs", "1")
        self.host.run("sysctl", "-qw", "net.ipv4.tcp_retrans_collapse=0")

    def test_the_socket_knows_what_it_sent_again(self):
        daemon = self.start_daemon()
        listener = listen(self, self.sink, self.SINK4)
        one, other = connect(self, self.host, HOST4, listener)
        received = threading.Thread(target=receive, args=(other, self.SIZE))
        received.start()
        one.sendall(payload(self.SIZE))
        received.join()
        one.shutdown(socket.SHUT_WR)
        other.close()
        self.assertEqual(one.recv(1), b"")
        told, = struct.unpack_from("=I", one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104),
                                   100)
        one.close()
        daemon.wait_for_files(1)
        self.finish(daemon)
        (line, path), = self.lines(daemon.datadir)
        self.assert_tells(line, path, sent_retransmitted=told, sent_payload_bytes=line[
            "sent_repeated_bytes"] + self.SIZE, sent_unseen_bytes=0, sent_aggregates=0)
        self.assertGreater(told, 10)
        if folder := os.environ.get("PICTURES"):
            shutil.copy(path, folder)
            flow_picture.draw(path, folder)


@unittest.skipUnless(os.access(BINARY, os.X_OK), f"no program at {BINARY}")
class Analysis(unittest.TestCase):
    """What docs/analysis.md says, done as it stands there with the lines of two hosts."""

    DAY_NS = 1_795_305_600 * captures.SECOND  # 2026-11-22
    ROUND_TRIP_MS = {"amsterdam": 1, "zurich": 5}

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="packet-headers-analysis-")
        self.addCleanup(shutil.rmtree, self.folder)
        with open(os.path.join(DOCS, "analysis.md"), encoding="utf-8") as file:
            self.document = file.read()
        for host, round_trip_ms in self.ROUND_TRIP_MS.items():
            path = os.path.join(self.folder, f"{host}.pcap")
            with open(path, "wb") as file:
                file.write(pcap_bytes(self.day(round_trip_ms * captures.MILLISECOND)))
            subprocess.run([BINARY, f"-datadir={self.folder}/{host}", "-write.all", "-read", path],
                           env={**ENVIRONMENT, "POD_NAME": host}, check=True, capture_output=True)

    def day(self, step_ns):
        """Two whole connections, in one of which the server sends again, and an attempt."""
        again = Connection(start_ns=self.DAY_NS, step_ns=step_ns).open().talk(10).close()
        sent = [packet for packet in again.packets if len(packet.data) > 100][1]
        again.packets.append(sent._replace(time_ns=sent.time_ns + 1))
        later = self.DAY_NS + 3600 * captures.SECOND
        whole = Connection(("203.0.113.78", 40000), start_ns=later, step_ns=step_ns).whole()
        attempt = Connection(("192.0.2.7", 40000), start_ns=later, step_ns=step_ns).client(SYN)
        return merged(again, whole, attempt)

    def blocks(self, language):
        return re.findall(rf"^```{language}\n(.*?)^```$", self.document, re.M | re.S)

    def test_load_and_ask(self):
        load, = self.blocks("python")
        subprocess.run([sys.executable, "-c", load], cwd=self.folder, check=True)
        database = sqlite3.connect(os.path.join(self.folder, "flows.db"))
        self.addCleanup(database.close)
        _, *queries = self.blocks("sql")
        day, trips, lost, ends, attempts, peers, aggregates, whole = (
            database.execute(query).fetchall() for query in queries)
        hosts = sorted(self.ROUND_TRIP_MS)
        self.assertEqual([(host, flows, gaps) for host, flows, _, _, gaps in day],
                         [(host, 3, 0) for host in hosts])
        self.assertEqual(trips, [(host, 2, *[self.ROUND_TRIP_MS[host]] * 3) for host in hosts])
        self.assertEqual(sorted((host, packets) for host, _, _, packets, _, _ in lost),
                         [(host, 13) for host in hosts])
        self.assertEqual(sorted(ends), [("2026-11-22T00", "fin", 2), ("2026-11-22T01", "fin", 2),
                                        ("2026-11-22T01", "shutdown", 2)])
        self.assertEqual(attempts, [("198.51.100.9", 443, 2, 2)])
        self.assertEqual([flows for _, flows, *_ in peers], [4])
        self.assertEqual([host for host, *_ in aggregates], hosts)
        self.assertEqual(len(whole), 4)
        for host, file in whole:
            self.assertTrue(os.path.exists(os.path.join(self.folder, host, file)))

    def test_table_is_as_the_schema(self):
        create, *_ = self.blocks("sql")
        with open(SCHEMA, encoding="utf-8") as file:
            properties = json.load(file)["properties"]
        kinds = {"string": "STRING", "integer": "BIGINT", "boolean": "BOOLEAN"}
        columns = []
        for name, of in properties.items():
            kind = of.get("type", "string")  # an enumeration is of texts
            columns.append((name, kinds[kind if isinstance(kind, str) else kind[0]]))
        self.assertEqual(re.findall(r"(\w+) (STRING|BIGINT|BOOLEAN)", create), columns)
        sqlite3.connect(":memory:").execute(create)


if __name__ == "__main__":
    unittest.main()
