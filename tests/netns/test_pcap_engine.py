"""-capture.engine=pcap: libpcap, for where BPF may not be loaded; and all three ways compared."""

import collections
import os
import signal
import subprocess
import threading
import unittest
from datetime import datetime, timezone

import index
import judge
import pcap
import test_flow_life
import test_interfaces
import test_ownership
import test_shutdown
from harness import (BINARY, ENVIRONMENT, HOST4, HOST6, HOST_MAC, METRICS_PORT, PEER4, PEER6,
                     PEER_MAC, CaptureTest, needs_daemon, needs_tool, rights_of, wait_until)
from peers import (Storm, TunPair, connect, cookie_of, endpoint, exchange, flow_of, listen,
                   payload, receive)
from tcpinfo import TcpInfo, open_event

ALL_THAT_IT_NEEDS = rights_of("net_raw")
NOT_TCP = "not_ip", "not_tcp"


class PcapEngine:
    """Makes a test's daemons capture through libpcap."""

    def start_daemon(self, *flags, **options):
        return super().start_daemon("-capture.engine=pcap", *flags, **options)

    def start_unprivileged(self, *flags):
        """A daemon of nobody's, with CAP_NET_RAW alone."""
        os.chmod(self.folder, 0o777)
        return self.start_daemon(*flags, rights=ALL_THAT_IT_NEEDS)


@needs_daemon
@needs_tool("setpriv")
class ShortConnections(PcapEngine, CaptureTest):

    def storm(self, connections, **options):
        return Storm(self.peer, PEER4, self.host, HOST4, connections, **options)

    def named_or_counted(self, during=None):
        """
        Two thousand of which every packet is saved or counted. What is saved is rightly named and
        packet for packet tcpdump's; `during` is done to the daemon before.
        """
        daemon, tcpdump = self.start_unprivileged(), self.start_tcpdump()
        if during:
            during(daemon)
        _, owners = self.storm(2000).run(self)
        self.assertEqual(len(owners), 2000)
        captured = tcpdump.stop()
        daemon.send_signal(signal.SIGCONT)
        files = self.finish(daemon)
        named = {cookie: flow for cookie, flow in owners.items() if judge.uuid_of(cookie) in files}
        print(f"\n  {len(named)} of {len(owners)} short connections were named", flush=True)
        # The server closes half of them first, and their sockets stay in TIME-WAIT.
        self.assertGreaterEqual(len(named), 1000)
        judge.assert_flows(self, files, captured, named)
        assert_all_accounted(self, daemon, captured)

    def test_two_thousand_unprivileged(self):
        """A name is missing where a socket was gone before it could be asked for."""
        self.named_or_counted()

    def test_two_thousand_while_asleep(self):
        """All sockets are gone then, and the kernel told of more than it keeps for us."""
        self.named_or_counted(during=put_to_sleep)

    def announced(self, connections, asleep=False):
        """A storm that tcp-info announces: as it goes on, or when all is over and we wake up."""
        tcpinfo = TcpInfo(self)
        tcpinfo.listen()
        os.chmod(tcpinfo.path, 0o777)
        daemon = self.start_unprivileged(f"-tcpinfo.eventsocket={tcpinfo.path}")
        tcpinfo.accept()
        tcpdump = self.start_tcpdump()
        if asleep:
            put_to_sleep(daemon)
            _, owners = self.storm(connections).run(self)
            tcpinfo.say(*(announcement(cookie, flow) for cookie, flow in owners.items()))
            daemon.send_signal(signal.SIGCONT)
        else:
            _, owners = self.storm(connections, on_accept=lambda sock: tcpinfo.say(
                announcement(cookie_of(sock), flow_of(sock)))).run(self)
        daemon.wait_for_files(connections)
        captured = tcpdump.stop()
        files = self.finish(daemon, names="announced_[0-9A-F]{16}")
        judge.assert_named_flows(self, files, captured, {
            announced_name(cookie): flow for cookie, flow in owners.items()})
        assert_all_accounted(self, daemon, captured)

    def test_two_thousand_announced(self):
        """All are saved under their announced names."""
        self.announced(2000)

    def test_announced_of_which_the_socket_is_gone(self):
        """The daemon sleeps through all their lives."""
        self.announced(200, asleep=True)  # as many as the socket holds


def announcement(cookie, flow):
    """What tcp-info says of a socket now."""
    return open_event(announced_name(cookie), cookie, *flow,
                      datetime.now(timezone.utc).isoformat())


def announced_name(cookie):
    return f"announced_{cookie:016X}"


def assert_all_accounted(case, daemon, captured):
    """The TCP packets that tcpdump saw = saved + counted under a reason why not."""
    totals = collections.Counter()
    for entry in daemon.books().values():
        totals.update(entry)
    seen = totals["seen"] - sum(totals[reason] for reason in NOT_TCP)
    case.assertEqual(seen, len(captured), daemon.log)
    counted = sum(count for name, count in totals.items()
                  if name not in ("seen", "unaccounted", *NOT_TCP))
    case.assertEqual(counted, len(captured), daemon.log)


def put_to_sleep(daemon):
    """Stops the daemon, until SIGCONT, and returns when none of its threads runs any more."""
    def sleeps():
        states = []
        for task in os.listdir(f"/proc/{daemon.pid}/task"):
            with open(f"/proc/{daemon.pid}/task/{task}/stat", encoding="ascii") as file:
                states.append(file.read().rsplit(")", 1)[1].split()[0])
        return set(states) == {"T"}

    daemon.send_signal(signal.SIGSTOP)
    wait_until(sleeps, "all threads are stopped")


@needs_daemon
@needs_tool("setpriv")
class Named(PcapEngine, CaptureTest):
    """What is certain: a socket that is there when the daemon asks gives its flow a name."""

    FLOWS = 20  # of each kind

    def pairs(self, outbound=False, host=HOST4, peer=PEER4):
        """Open connections as (host's socket, peer's socket)."""
        if outbound:
            listener = listen(self, self.peer, peer)
            return [connect(self, self.host, host, listener) for _ in range(self.FLOWS)]
        listener = listen(self, self.host, host)
        return [connect(self, self.peer, peer, listener)[::-1] for _ in range(self.FLOWS)]

    def pairs_of_all_kinds(self):
        return [pair for outbound in (False, True) for ends in ((HOST4, PEER4), (HOST6, PEER6))
                for pair in self.pairs(outbound, *ends)]

    def named(self, pairs, daemon, tcpdump):
        """Every flow that stays open until the daemon captures it is saved as far as it was seen."""
        for pair in pairs:
            exchange(*pair)
        wait_until(lambda: daemon.metric("flows", state="capturing") == len(pairs),
                   lambda: f"{len(pairs)} flows are captured\n{daemon.log}")
        owners = {cookie_of(ours): flow_of(ours) for ours, _ in pairs}
        for pair in pairs:
            exchange(*pair)
            for sock in pair:
                sock.close()
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured, owners)
        assert_all_accounted(self, daemon, captured)

    def test_from_the_start(self):
        """Inbound and outbound, of IPv4 and IPv6."""
        daemon, tcpdump = self.start_unprivileged(), self.start_tcpdump()
        self.named(self.pairs_of_all_kinds(), daemon, tcpdump)

    def test_open_before_the_start(self):
        """From their middle on."""
        pairs = self.pairs_of_all_kinds()
        self.named(pairs, self.start_unprivileged(), self.start_tcpdump())

    def closed_meanwhile(self, host_closes_first):
        """Connections of which the daemon sleeps through all; returns (daemon, packets, owners)."""
        daemon, tcpdump = self.start_unprivileged(), self.start_tcpdump()
        put_to_sleep(daemon)
        pairs = self.pairs()
        owners = {cookie_of(ours): flow_of(ours) for ours, _ in pairs}
        for pair in pairs:
            exchange(*pair)
            first, second = pair if host_closes_first else pair[::-1]
            first.close()
            receive(second, 1)  # the end of the stream
            second.close()
        captured = tcpdump.stop()
        daemon.send_signal(signal.SIGCONT)
        return daemon, captured, owners

    def asleep(self, host_closes_first):
        """All of these connections are over when the daemon wakes up, and yet all are named."""
        daemon, captured, owners = self.closed_meanwhile(host_closes_first)
        judge.assert_flows(self, self.finish(daemon), captured, owners)
        assert_all_accounted(self, daemon, captured)

    def test_in_time_wait(self):
        """The host closed first: its sockets are gone but for what TIME-WAIT keeps."""
        self.asleep(host_closes_first=True)

    def test_gone(self):
        """The peer closed first, so nothing is left but what the kernel told of their end."""
        self.asleep(host_closes_first=False)


@needs_daemon
@needs_tool("setpriv")
class ChoiceOfEngine(CaptureTest):

    def one_flow(self, *flags, rights=()):
        """Saves one flow; returns what the log says of the engine."""
        os.chmod(self.folder, 0o777)
        daemon, tcpdump = self.start_daemon(*flags, rights=rights), self.start_tcpdump()
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        wait_until(lambda: daemon.metric("flows", state="capturing") == 1, "it is captured")
        owners = {cookie_of(accepted): flow_of(accepted)}
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured, owners)
        line, = (line for line in daemon.log.splitlines() if "capture engine" in line)
        return line

    def test_auto_takes_bpf_where_it_may(self):
        self.assertRegex(self.one_flow(), "capture engine: bpf$")

    def test_auto_takes_libpcap_where_bpf_may_not_be_loaded(self):
        """And says why, in one line."""
        self.assertRegex(self.one_flow(rights=ALL_THAT_IT_NEEDS),
                         "capture engine: libpcap.*bpf.*CAP_BPF")


@needs_daemon
class Drops(PcapEngine, CaptureTest):

    def test_each_is_counted(self):
        """
        The kernel's buffers are small and the daemon sleeps through a burst: what tcpdump saw is
        saved or counted, in each direction.
        """
        for space, device in ((self.host, "host0"), (self.peer, "peer0")):
            # Nothing but TCP, for the kernel doesn't say what it dropped.
            space.run("sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1")
        self.host.ip("neigh", "add", PEER4, "lladdr", PEER_MAC, "dev", "host0")
        self.peer.ip("neigh", "add", HOST4, "lladdr", HOST_MAC, "dev", "peer0")
        tcpdump, daemon = self.start_tcpdump(), self.start_daemon("-capture.ringsize=64KB")
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        owners = {cookie_of(accepted): flow_of(accepted)}
        wait_until(lambda: daemon.metric("flows", state="capturing") == 1, "the flow is captured")
        put_to_sleep(daemon)
        for _ in range(1000):
            exchange(client, accepted, 100)
        daemon.send_signal(signal.SIGCONT)
        wait_until(lambda: daemon.lost("ring_full") > 0, "the drops are counted")
        for _ in range(10):
            exchange(client, accepted, 100)
        senders = (("ingress", endpoint(*client.getsockname())),
                   ("egress", endpoint(*accepted.getsockname())))
        client.close()  # no acknowledgment is still to come then
        accepted.close()
        captured = tcpdump.stop()
        files = self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie) for cookie in owners})
        records = next(iter(files.values())).records
        lost = daemon.booked("ring_full")
        self.assertGreater(lost, 1000)
        self.assertEqual(len(records) + lost, len(captured), daemon.log)
        assert_all_accounted(self, daemon, captured)
        theirs, ours = judge.directions(captured), judge.directions(records)
        for direction, sender in senders:
            entry = daemon.books()["host0", direction]
            self.assertEqual(entry["saved"], len(ours[sender]))
            self.assertEqual(entry["saved"] + entry["ring_full"], len(theirs[sender]), daemon.log)
            self.assertEqual(collections.Counter(r.header for r in ours[sender])
                             - collections.Counter(r.header for r in theirs[sender]), {})
            # What came after the drops were counted is captured again.
            self.assertEqual([r.header for r in ours[sender][-10:]],
                             [r.header for r in theirs[sender][-10:]])


@needs_daemon
class Interfaces(PcapEngine, CaptureTest):

    def open(self, host, peer, peer_in=None):
        """
        A connection that stays open; returns its two sockets. Nobody asks for metrics here: that
        would be traffic on lo.
        """
        client, accepted = connect(self, peer_in or self.peer, peer, listen(self, self.host, host))
        exchange(client, accepted, 1000)  # one segment: not every device can cut larger ones
        return client, accepted

    def test_loopback(self):
        """Both ends are sockets of this host: a file for each, and each packet once in each."""
        daemon, tcpdump = self.start_daemon(interface="lo"), self.start_tcpdump("lo")
        pair = self.open("127.0.0.1", "127.0.0.1", self.host)
        captured, files = tcpdump.stop(), self.finish(daemon)
        self.assertEqual(files.keys(), {judge.uuid_of(cookie_of(sock)) for sock in pair})
        times = judge.Times()
        for uuid, content in files.items():
            judge.assert_same_packets(self, content.records, captured, times, uuid)
        times.assert_close(self)

    def test_l3_device(self):
        """Link type RAW, and records that begin with IP."""
        TunPair(self, ((self.host, "tun0", "10.9.2.1/24"), (self.peer, "tun0", "10.9.2.2/24")))
        daemon, tcpdump = self.start_daemon(interface="tun0"), self.start_tcpdump("tun0")
        client, accepted = self.open("10.9.2.1", "10.9.2.2")
        owners = {cookie_of(accepted): flow_of(accepted)}
        client.close()
        accepted.close()
        daemon.wait_for_files(1)  # nothing is still on its way then
        captured, files = tcpdump.stop(), self.finish(daemon)
        judge.assert_flows(self, files, captured, owners)
        self.assertEqual({file.link_type for file in files.values()}, {pcap.LINK_RAW})

    def test_added_and_deleted_while_running(self):
        """Without -interface, the second time under the same name; with flows that are open."""
        daemon = self.start_daemon(interface=None)
        captured, owners = [], {}
        for count in (1, 2):
            self.host.link_to(self.peer, "extra0", "extra1", ["10.9.1.1/24"], ["10.9.1.2/24"])
            ifindex = self.host.run("cat", "/sys/class/net/extra0/ifindex").strip()
            daemon.wait_for_log(f"attached to extra0 (ifindex {ifindex})")
            tcpdump = self.start_tcpdump("extra0")
            client, accepted = connect(self, self.peer, "10.9.1.2",
                                       listen(self, self.host, "10.9.1.1", 7000 + count))
            exchange(client, accepted)
            owners[cookie_of(accepted)] = flow_of(accepted)
            captured += tcpdump.stop()
            self.host.ip("link", "del", "extra0")
            wait_until(lambda c=count: daemon.log.count("let go of extra0") == c,
                       lambda: daemon.log)
        judge.assert_flows(self, self.finish(daemon), captured, owners)


class Tagged(PcapEngine, test_interfaces.Tagged):
    """VLAN tags, which the kernel takes out of the frames, are back in the files."""
    test_vlan_clsact = test_qinq_xdp = None


class Inbound(PcapEngine, test_ownership.Inbound):
    """Attempts that come to nothing leave no file."""
    test_half_open = None


class Shutdown(PcapEngine, test_shutdown.Shutdown):
    """All is saved, as by the other engine."""
    test_sigint = test_second_sigint_exits_at_once = test_sigtermwait_keeps_capturing = None


def connections_of(records):
    """{(first packet's sender, receiver, sequence number): packets}; time decides the order."""
    connections = {}
    for flow in pcap.by_flow(sorted(records, key=lambda record: record.time_ns)).values():
        for connection in test_flow_life.split_at_syns(flow):
            tcp = connection[0].tcp
            connections[tcp.source, tcp.destination, tcp.seq] = connection
    return connections


@needs_daemon
@needs_tool("ethtool")
class ThreeWays(CaptureTest):
    """The same traffic through BPF, through libpcap, and by -read of what tcpdump recorded."""

    BULK_BYTES = 4_000_000

    def setUp(self):
        super().setUp()
        self.live = {engine: self.start_daemon(f"-capture.engine={engine}", metrics_port=port)
                     for engine, port in (("bpf", METRICS_PORT), ("pcap", METRICS_PORT + 1))}
        self.tcpdump = self.start_tcpdump()
        self.cookies = set()  # of the host's sockets

    def open(self, count, host, peer, outbound=False, port=0):
        """Connections that both daemons capture, as (client, accepted)."""
        if outbound:
            listener = listen(self, self.peer, peer)
            pairs = [connect(self, self.host, host, listener) for _ in range(count)]
        else:
            listener = listen(self, self.host, host)
            pairs = [connect(self, self.peer, peer, listener, port) for _ in range(count)]
        listener.close()
        for pair in pairs:
            exchange(*pair, 1000)  # one segment, also where the device doesn't cut
            self.cookies.add(cookie_of(pair[0 if outbound else 1]))
        for daemon in self.live.values():
            wait_until(lambda d=daemon: d.metric("saver_starts_total", "pcap") == len(self.cookies),
                       lambda d=daemon: f"{len(self.cookies)} flows are captured\n{d.log}")
        return pairs

    def close(self, pairs):
        """By turns the server and the client first."""
        for index, (client, accepted) in enumerate(pairs):
            first, second = (accepted, client) if index % 2 == 0 else (client, accepted)
            first.close()
            receive(second, 1)
            second.close()

    def bulk(self, sender, receiver):
        sending = threading.Thread(target=sender.sendall, args=(payload(self.BULK_BYTES),))
        sending.start()
        receive(receiver, self.BULK_BYTES)
        sending.join()

    def traffic(self):
        self.close(self.open(300, HOST4, PEER4))
        self.close(self.open(50, HOST4, PEER4, outbound=True))
        self.close(self.open(50, HOST6, PEER6))
        self.close(self.open(50, HOST6, PEER6, outbound=True))
        for _ in range(3):
            self.close(self.open(1, HOST4, PEER4, port=20000))
        pair, = self.open(1, HOST4, PEER4)
        self.bulk(*pair)
        self.bulk(*pair[::-1])
        self.close([pair])
        for space, device in ((self.host, "host0"), (self.peer, "peer0")):
            space.run("ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off")
        # Inbound only: outbound, the kernel cuts large packets behind the TC egress hook.
        pair, = self.open(1, HOST4, PEER4)
        self.bulk(*pair)
        self.close([pair])

    def read_back(self, path):
        """-read of a file; returns {path: packets} of what it became."""
        datadir = os.path.join(self.folder, "read")
        done = subprocess.run([BINARY, f"-datadir={datadir}", "-read", path], env=ENVIRONMENT,
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        files = [os.path.join(folder, name) for folder, _, names in os.walk(datadir)
                 for name in names if not index.is_index(name)]
        return {file: self.assert_header_exact(file).records for file in files}

    def test_same_flows_packets_and_order(self):
        self.traffic()
        captured = self.tcpdump.stop()
        expected = connections_of(captured)
        self.assertEqual(len(expected), len(self.cookies))
        for engine, daemon in self.live.items():
            files = self.finish(daemon)
            self.assertEqual(files.keys(), set(map(judge.uuid_of, self.cookies)), engine)
            times = judge.Times()
            seen = set()
            for uuid, content in files.items():
                (key, records), = connections_of(content.records).items()
                seen.add(key)
                judge.assert_same_packets(self, records, expected[key], times, f"{engine} {uuid}")
            self.assertEqual(seen, expected.keys(), engine)
            # Three captures at once on few processors: how close they are, others judge.
            print(f"\n  {engine}: {times}", flush=True)
            assert_all_accounted(self, daemon, captured)
        read = self.read_back(self.tcpdump.path)
        self.assertEqual(len(read), len(expected))
        for path, records in read.items():
            (key, records), = connections_of(records).items()
            theirs = judge.directions(expected.pop(key))
            for sender, ours in judge.directions(records).items():
                # All of it the same: times, lengths, headers, order.
                self.assertEqual(ours, [record._replace(caplen=record.tcp.end)
                                        for record in theirs[sender]], path)
        self.assertEqual(expected, {})


if __name__ == "__main__":
    unittest.main()
