"""When a flow begins and when it ends: tuple reuse, capture duration, idle time, flow limit."""

import socket
import threading
import unittest

import judge
import pcap
from harness import HOST4, PEER4, CaptureTest, needs_daemon, wait_until
from peers import (RESET_ON_CLOSE, connect, cookie_of, exchange, flow_of, listen, payload)


def split_at_syns(records):
    """The connections that used one tuple one after the other. A SYN may be sent again."""
    connections, seqs = [], set()
    for record in records:
        if record.tcp.flags & (pcap.SYN | pcap.ACK) == pcap.SYN and record.tcp.seq not in seqs:
            seqs.add(record.tcp.seq)
            connections.append([])
        connections[-1].append(record)
    return connections


@needs_daemon
class TupleReuse(CaptureTest):
    """Two connections never share a file, however fast the second follows."""

    def reuse(self, end):
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        listener = listen(self, self.host, HOST4)
        cookies = []
        for _ in range(3):
            client, accepted = connect(self, self.peer, PEER4, listener, port=20000)
            cookies.append(cookie_of(accepted))
            exchange(client, accepted)
            end(client, accepted)
        daemon.wait_for_files(3)
        captured, files = tcpdump.stop(), self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie) for cookie in cookies})
        times = judge.Times()
        for cookie, expected in zip(cookies, split_at_syns(captured), strict=True):
            uuid = judge.uuid_of(cookie)
            judge.assert_same_packets(self, files[uuid].records, expected, times, uuid)
        times.assert_close(self)

    def test_after_a_reset(self):
        def reset(client, accepted):
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            client.close()
            with self.assertRaises(ConnectionResetError):
                accepted.recv(1)
            accepted.close()
        self.reuse(reset)

    def test_out_of_time_wait(self):
        def close(client, accepted):
            accepted.close()
            self.assertEqual(client.recv(1), b"")
            client.close()
        self.reuse(close)


@needs_daemon
class LongFlows(CaptureTest):

    def open(self):
        """A connection from the peer."""
        return connect(self, self.peer, PEER4, listen(self, self.host, HOST4))

    def test_only_the_first_captureduration_is_saved(self):
        """Then the kernel stops sending the flow: settled grows, saved doesn't, no second file."""
        daemon = self.start_daemon("-captureduration=2s", "-uuidwaitduration=1s")
        tcpdump = self.start_tcpdump()
        client, accepted = self.open()
        stop = threading.Event()

        def talk():
            while not stop.wait(0.002):  # paced: a steady flow, not a bulk
                exchange(client, accepted)

        talking = threading.Thread(target=talk)
        talking.start()
        self.addCleanup(talking.join)
        self.addCleanup(stop.set)
        wait_until(lambda: daemon.lost("settled") > 100, "the kernel settled the flow")
        wait_until(lambda: daemon.metric("packets_saved_total") > 0, "its file is saved")
        saved, settled = daemon.metric("packets_saved_total"), daemon.lost("settled")
        self.assertEqual(daemon.metric("settled_flows"), 1)
        wait_until(lambda: daemon.lost("settled") > settled + 500, "settled keeps growing")
        self.assertEqual(daemon.metric("packets_saved_total"), saved)
        stop.set()
        talking.join()
        captured, files = tcpdump.stop(), self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie_of(accepted))})
        records = next(iter(files.values())).records
        length_ns = records[-1].time_ns - records[0].time_ns
        self.assertLessEqual(length_ns, 2.0e9)
        captured.sort(key=lambda record: record.time_ns)
        times = judge.Times()
        judge.assert_same_packets(self, records, captured[:len(records)], times)
        times.assert_close(self)
        later_ns = captured[len(records)].time_ns - captured[0].time_ns
        self.assertGreater(later_ns, 2.0e9 - judge.TOLERANCE_NS)

    def test_idle_beyond_flowtimeout(self):
        """The file appears while the socket is open; what comes later never makes another."""
        daemon = self.start_daemon("-flowtimeout=1s", "-uuidwaitduration=1s")
        client, accepted = self.open()
        exchange(client, accepted)
        path, = daemon.wait_for_files(1)
        with open(path, "rb") as file:
            published = file.read()
        for count in range(1, 4):
            exchange(client, accepted)
            wait_until(lambda: daemon.lost("late") + daemon.lost("settled") >= 4 * count,
                       "later packets are counted")
        files = self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie_of(accepted))})
        with open(path, "rb") as file:
            self.assertEqual(file.read(), published)

    def test_a_closed_flow_is_published_at_once(self):
        """Two seconds after its last packet, however long flowtimeout is."""
        daemon = self.start_daemon("-flowtimeout=60s", "-captureduration=60s",
                                   datadir=self.folder_in_memory())
        tcpdump = self.start_tcpdump()
        client, accepted = self.open()
        owners = {cookie_of(accepted): flow_of(accepted)}
        exchange(client, accepted)
        client.close()
        accepted.close()
        daemon.wait_for_files(1, seconds=4)
        captured = tcpdump.stop()
        self.check_histograms(daemon, captured)
        judge.assert_flows(self, self.finish(daemon), captured, owners)

    def check_histograms(self, daemon, captured):
        """Those of a single flow, which has ended."""
        wait_until(lambda: daemon.metric("publish_latency_seconds_count") == 1, "it is counted")
        self.assertLess(daemon.metric("publish_latency_seconds_sum"), 2)
        self.assertEqual(daemon.metric("flow_packets_count"), 1)
        self.assertEqual(daemon.metric("flow_packets_sum"), len(captured))
        self.assertEqual(daemon.metric("flow_bytes_sum"),
                         sum(record.wire_bytes for record in captured))
        times = [record.time_ns for record in captured]
        self.assertAlmostEqual(daemon.metric("flow_duration_seconds_sum"),
                               (max(times) - min(times)) / 1e9, delta=judge.UNLUCKY_NS / 1e9)
        self.assertEqual(daemon.metric("capture_delay_seconds_count"), len(captured))
        self.assertGreater(daemon.metric("ring_fill_ratio_count"), 0)

    def test_maxflows(self):
        """Flows above the limit are refused whole and counted; the others lose nothing."""
        daemon, tcpdump = self.start_daemon("-maxflows=5"), self.start_tcpdump()
        listener = listen(self, self.host, HOST4)
        pairs = [connect(self, self.peer, PEER4, listener) for _ in range(8)]
        for _ in range(3):
            for client, accepted in pairs:
                exchange(client, accepted)
        wait_until(lambda: daemon.lost("flow_limit") > 0, "flow_limit is counted")
        captured, files = tcpdump.stop(), self.finish(daemon)
        owners = {cookie_of(accepted): flow_of(accepted) for _, accepted in pairs}
        kept = {cookie: flow for cookie, flow in owners.items() if judge.uuid_of(cookie) in files}
        self.assertEqual(len(kept), 5)
        judge.assert_flows(self, files, captured, kept)

    def test_many_flows_end_with_the_daemon(self):
        """SIGTERM publishes every open flow."""
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        listener = listen(self, self.host, HOST4)
        pairs = [connect(self, self.peer, PEER4, listener) for _ in range(50)]
        for client, accepted in pairs:
            client.sendall(payload(100))
            accepted.recv(100)
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured,
                           {cookie_of(accepted): flow_of(accepted) for _, accepted in pairs})


if __name__ == "__main__":
    unittest.main()
