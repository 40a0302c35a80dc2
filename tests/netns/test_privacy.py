"""
Not one byte that is no header on disk: payloads, paddings and all that no end reads are filled with
a marker, and whatever the daemon writes is searched for any four bytes of it.
"""

import os
import signal
import socket
import unittest

import test_read
from captures import MILLISECOND, START_NS, Packet, pcap_bytes
from frames import DESTINATION, HOP_BY_HOP, URG, extension, frame, inject
from harness import (HOST4, HOST6, HOST_MAC, PEER4, PEER6, PEER_MAC, CaptureTest, left_behind,
                     needs_daemon, needs_tool, wait_until)
from outputs import outputs, written
from pcap import ACK, FIN, PSH, RST, SYN
from peers import connect, listen, receive

# As options these are longer than any header.
MARKER = bytes.fromhex("f3a9d7e5c1b9fb8de7d3abf19fcdb5e3")
WINDOWS = {(MARKER * 2)[at:at + 4] for at in range(len(MARKER))}
MACS = bytes.fromhex((HOST_MAC + PEER_MAC).replace(":", ""))
MSG_FASTOPEN, TCP_FASTOPEN = 0x20000000, 23
FAST_OPEN_WITHOUT_COOKIE = "0x607"


def marked(size):
    return (MARKER * (size // len(MARKER) + 1))[:size]


def saved_variants(is_ipv6):
    """Packets whose headers are saved, as arguments of frames.frame."""
    everywhere = [
        {"data": marked(1)},  # a keep-alive, say
        {"data": marked(1400)},
        {"flags": URG | PSH | ACK, "urgent": 50, "data": marked(100)},
        {"flags": FIN | ACK, "data": marked(100)},
        {"trailer": marked(6)},  # Ethernet's padding
        {"data": marked(10), "trailer": marked(200)},
        {"options": b"\x01\x01\x00" + marked(37)},  # behind the end of the list
        {"options": b"\x01\x01" + marked(38)},  # of a length that can't be
        {"options": b"\x03\x03\x07\x00" + marked(4), "data": marked(9), "trailer": marked(9)},
        {"ip_length": 0, "data_offset": 15, "trailer": marked(40)},
        {"ip_length": 0, "data_offset": 6, "trailer": marked(1000)},
    ]
    if is_ipv6:
        everywhere += [{"extensions": [(kind, extension(header))], "data": marked(50)}
                       for kind in (HOP_BY_HOP, DESTINATION)
                       for header in (b"\x01\x14" + marked(20), b"\x00\x00" + marked(20),
                                      b"\x01\x01" + marked(19))]
    else:
        everywhere += [{"ip_options": b"\x01\x00" + marked(38), "data": marked(50)},
                       {"ip_options": b"\x01" + marked(39), "trailer": marked(50)},
                       {"fragment": 0x2000, "data": marked(48)}]
    return everywhere + [{"flags": RST, "seq": 0x01020304, "data": marked(50)}]


def lost_variants(is_ipv6):
    """Packets that are counted, and not saved."""
    everywhere = [
        {"data_offset": 15, "trailer": marked(100)},  # beyond what IP says
        {"data_offset": 15, "data": marked(39)},
        {"data_offset": 15, "ip_length": 0, "trailer": marked(30)},  # beyond the frame
        {"data_offset": 4, "data": marked(100)},
        {"protocol": 17, "data": marked(100)},
    ]
    return everywhere + [] if is_ipv6 else everywhere + [{"fragment": 1, "data": marked(100)}]


class Searching(unittest.TestCase):

    def assert_no_marker(self, found):
        for place, data in found.items():
            for window in WINDOWS:
                at = data.find(window)
                self.assertEqual(at, -1, f"{place}: {data[max(0, at - 60):at + 20].hex(' ')}")


@needs_daemon
class Live(CaptureTest, Searching):

    def talk(self, daemon):
        """Two connections full of markers, and both kinds of odd packets on their tuples."""
        for host, peer in ((HOST4, PEER4), (HOST6, PEER6)):
            is_ipv6 = ":" in host
            listener = listen(self, self.host, host, 0)
            client, accepted = connect(self, self.peer, peer, listener)
            for sender, receiver in ((client, accepted), (accepted, client)):
                sender.sendall(marked(3000))
                receive(receiver, 3000)
            client.send(MARKER[:1], socket.MSG_OOB)
            ends = client.getsockname()[:2], accepted.getsockname()[:2]
            before = daemon.metric("packets_seen_total", direction="ingress")
            odd = [frame(*ends, **variant, macs=MACS)
                   for variant in lost_variants(is_ipv6) + saved_variants(is_ipv6)]
            odd.append(MACS + b"\x88\xb5" + marked(100))
            inject(self, self.peer, "peer0", odd)
            wait_until(lambda: daemon.metric("packets_seen_total", direction="ingress")
                       >= before + len(odd), "all odd packets were seen")
            for sock in (client, accepted, listener):
                sock.close()
        return sum(len(saved_variants(is_ipv6)) for is_ipv6 in (False, True))

    def run_daemon(self, *flags):
        daemon = self.start_daemon(*flags)
        odd = self.talk(daemon)
        self.assert_no_marker(outputs(daemon))
        daemon.send_signal(signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(10), 0, daemon.log)
        self.assert_no_marker(outputs(daemon))
        self.assert_books_close(daemon)
        self.assertGreater(daemon.booked("saved"), odd + 20, daemon.log)

    def test_bpf(self):
        self.run_daemon("-capture.engine=bpf")

    def test_bpf_gzip(self):
        self.run_daemon("-capture.engine=bpf", "-compress=gzip", "-anonymize.ip=netblock")

    @needs_tool("zstd")
    def test_bpf_zstd(self):
        self.run_daemon("-capture.engine=bpf", "-compress=zstd", "-maxheadersize=70")

    def test_libpcap(self):
        self.run_daemon("-capture.engine=pcap")

    def test_libpcap_gzip(self):
        self.run_daemon("-capture.engine=pcap", "-compress=gzip")

    @needs_tool("zstd")
    def test_libpcap_zstd(self):
        self.run_daemon("-capture.engine=pcap", "-compress=zstd", "-stream")

    def test_fast_open(self):
        """Data in a SYN, and in the SYN-ACK's company."""
        for namespace in (self.host, self.peer):
            namespace.run("sysctl", "-q", "-w",
                          f"net.ipv4.tcp_fastopen={FAST_OPEN_WITHOUT_COOKIE}")
        daemon, tcpdump = self.start_daemon(), self.start_tcpdump()
        with self.host.entered():
            listener = socket.create_server((HOST4, 7000))
        self.addCleanup(listener.close)
        listener.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        with self.peer.entered():
            client = socket.socket()
        self.addCleanup(client.close)
        client.sendto(marked(500), MSG_FASTOPEN, (HOST4, 7000))
        accepted, _ = listener.accept()
        self.addCleanup(accepted.close)
        receive(accepted, 500)
        self.assertTrue(any(record.tcp.flags & SYN and record.payload_bytes == 500
                            for record in tcpdump.stop()), "data in the SYN")
        self.finish(daemon)
        self.assert_no_marker(outputs(daemon))

    def test_unfinished_files(self):
        """What lies on disk while the daemon writes, and after kill -9."""
        for compress in ("none", "gzip", "zstd"):
            with self.subTest(compress=compress):
                daemon = self.start_daemon("-stream", f"-compress={compress}")
                listener = listen(self, self.host, HOST4, 0)
                client, accepted = connect(self, self.peer, PEER4, listener)
                ends = client.getsockname()[:2], accepted.getsockname()[:2]
                # A RST would end the flow, and so its hidden file.
                inject(self, self.peer, "peer0",
                       [frame(*ends, **variant, macs=MACS) for variant in saved_variants(False)[:-1]
                        if not variant.get("flags", 0) & FIN])
                client.sendall(marked(3000))
                receive(accepted, 3000)

                def part():
                    return [data for path, data in written(daemon.datadir).items()
                            if path.endswith(".part unpacked") and len(data) > 1000]
                wait_until(part, "a hidden file with packets in it")
                self.assert_no_marker(outputs(daemon))
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.wait_for_exit(10)
                self.assertTrue(part(), "the hidden file stayed")
                self.assert_no_marker(outputs(daemon))
                self.assertEqual(left_behind(self.host), [])


class Offline(test_read.ReadTest, Searching):
    """The same of a capture that holds everything, payloads included."""

    def capture(self):
        packets = []

        def add(*arguments, **fields):
            packets.append(Packet(START_NS + len(packets) * MILLISECOND,
                                  frame(*arguments, **fields)))
        for client, server in ((("203.0.113.77", 40000), ("198.51.100.9", 443)),
                               (("2001:db8:5:6::77", 40000), ("2001:db8:1:2::9", 443))):
            add(client, server, SYN, seq=1000, data=marked(100))
            add(server, client, SYN | ACK, seq=9000, ack=1001, data=marked(100))
            add(client, server, ACK, seq=1101, ack=9101, data=marked(500))
            for variant in lost_variants(":" in client[0]) + saved_variants(":" in client[0]):
                add(client, server, **variant)
                add(server, client, **variant)
        return self.write(pcap_bytes(packets))

    def run_mode(self, *flags):
        path = self.capture()
        with open(path, "rb") as file:
            self.assertIn(MARKER, file.read())
        split = self.split("-read", path, *flags)
        self.assertEqual(len(split.paths()), 2, split.log)
        expected = 6 + 2 * sum(len(saved_variants(is_ipv6)) for is_ipv6 in (False, True))
        self.assertEqual(split.books["saved"], expected, split.log)
        self.assert_no_marker({**written(split.datadir), "log": split.log.encode()})

    def test_plain(self):
        self.run_mode()

    def test_streaming(self):
        self.run_mode("-stream")

    def test_gzip(self):
        self.run_mode("-compress=gzip")

    @needs_tool("zstd")
    def test_zstd(self):
        self.run_mode("-compress=zstd")

    def test_anonymized_and_cut(self):
        for size in (1, 20, 40, 60, 75):
            self.run_mode("-anonymize.ip=netblock", f"-maxheadersize={size}")


if __name__ == "__main__":
    unittest.main()
