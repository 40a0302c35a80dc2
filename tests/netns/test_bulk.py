"""One fast flow, 200 MB, with and without the offloads that make packets of up to 64 KB."""

import threading
import unittest

import judge
from harness import HOST4, PEER4, CaptureTest, needs_daemon, needs_tool
from peers import connect, cookie_of, endpoint, flow_of, listen, payload, receive

BULK_BYTES = 200_000_000
CHUNK = payload(100_000)


def send_bulk(sock):
    for _ in range(BULK_BYTES // len(CHUNK)):
        sock.sendall(CHUNK)


def runs_of_payload(records):
    """
    What of the stream these packets carry, as [first sequence number, bytes]; adjacent packets
    are one run however they were cut.
    """
    runs = []
    for record in records:
        if runs and sum(runs[-1]) & 0xFFFFFFFF == record.tcp.seq:
            runs[-1][1] += record.payload_bytes
        elif record.payload_bytes:
            runs.append([record.tcp.seq, record.payload_bytes])
    return runs


@needs_daemon
@needs_tool("ethtool")
class Bulk(CaptureTest):

    def bulk(self, outbound, offloads, *flags):
        """Sends the bulk one way; returns (files, tcpdump's packets, owners)."""
        for namespace, device in ((self.host, "host0"), (self.peer, "peer0")):
            namespace.run("ethtool", "-K", device, *(
                word for name in ("tso", "gso", "gro") for word in (name, offloads)))
        daemon = self.start_daemon("-capture.ringsize=128MB", *flags)
        tcpdump = self.start_tcpdump()
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        owners = {cookie_of(accepted): flow_of(accepted)}
        sender, receiver = (accepted, client) if outbound else (client, accepted)
        sending = threading.Thread(target=send_bulk, args=(sender,))
        sending.start()
        receive(receiver, BULK_BYTES)
        sending.join()
        sender.close()
        receive(receiver, 1)  # the end of the stream
        receiver.close()
        daemon.wait_for_files(1)
        return self.finish(daemon), tcpdump.stop(), owners

    def test_inbound_with_offloads(self):
        judge.assert_flows(self, *self.bulk(False, "on"))

    def test_inbound_without_offloads(self):
        judge.assert_flows(self, *self.bulk(False, "off"))

    def test_inbound_without_offloads_streamed(self):
        judge.assert_flows(self, *self.bulk(False, "off", "-stream"))

    def test_outbound_with_offloads(self):
        judge.assert_flows(self, *self.bulk(True, "on"))

    def test_outbound_without_offloads(self):
        """
        Without offloads the kernel cuts a large buffer into packets between the TC egress hook
        and tcpdump, so the file may hold fewer and larger packets: of the same stream.
        """
        files, captured, owners = self.bulk(True, "off")
        self.assertEqual(files.keys(), {judge.uuid_of(cookie) for cookie in owners})
        ours, theirs = (judge.directions(records) for records in (
            next(iter(files.values())).records, captured))
        sender = endpoint(HOST4, 7000)
        self.assertEqual(runs_of_payload(ours.pop(sender)), runs_of_payload(theirs.pop(sender)))
        times = judge.Times()
        self.assertEqual(len(theirs), 1)
        judge.assert_same_packets(self, *(sum(d.values(), []) for d in (ours, theirs)), times)
        times.assert_close(self)


if __name__ == "__main__":
    unittest.main()
