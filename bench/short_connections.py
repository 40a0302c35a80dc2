"""Connections that end at once: a file for each, and what it costs beside the connection itself."""

import subprocess
import time
from typing import NamedTuple

import pcap
from harness import HOST4, end_process, wait_until
from row import Row, figure
from testbed import MachineClock, Outcome, Testbed, alternate, helper

CLIENTS, FIRST_PORT = 8, 7000
SIZE = 2000  # bytes of each, as in short.c
JUDGED_FILES = 200


class Run(NamedTuple):
    connections: int
    seconds: float
    kernel_s: float  # of all processors while connections were made
    outcome: Outcome
    files: int


def storm(bed, seconds):
    """So many connections from the peer to the host, as fast as they go."""
    # Ports are taken again a second after their connection has ended.
    bed.peer.run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1",
                 "net.ipv4.ip_local_port_range=1024 65535")
    program = helper("short")
    server = bed.host.popen(program, "serve", HOST4, str(FIRST_PORT), str(CLIENTS),
                            stdout=subprocess.PIPE, text=True)
    bed.addCleanup(server.stdout.close)
    bed.addCleanup(end_process, server)
    server.stdout.readline()
    clock, begin = MachineClock(), time.monotonic()
    made = int(bed.peer.run(program, "call", HOST4, str(FIRST_PORT), str(CLIENTS), str(seconds)))
    return made, time.monotonic() - begin, clock.kernel()


def assert_whole(bed, path):
    """From the first SYN to both FINs, with every byte between."""
    records = pcap.read(path).records
    flags = [record.tcp.flags for record in records]
    bed.assertTrue(flags[0] & pcap.SYN, path)
    bed.assertEqual(len({r.tcp.source for r in records if r.tcp.flags & pcap.FIN}), 2, path)
    sent = {r.tcp.seq: r.payload_bytes for r in records if r.payload_bytes}
    bed.assertEqual(sum(sent.values()), SIZE, path)


def once(name, seconds):
    with Testbed() as bed:
        capture = bed.capture(name)
        connections, took, kernel_s = storm(bed, seconds)
        if name != "ours":
            return Run(connections, took, kernel_s, capture.stop(), 0)
        daemon = capture.daemon
        wait_until(lambda: daemon.metric("files_waiting") == 0
                   and daemon.metric("flows", state="capturing") == 0, "all is published", 60)
        outcome = capture.stop()
        files = daemon.files()
        for path in files[::max(1, len(files) // JUDGED_FILES)]:
            assert_whole(bed, path)
        return Run(connections, took, kernel_s, outcome, len(files))


def short(quick):
    """Compared with the same connections without a capture."""
    seconds, rounds = (2, 1) if quick else (20, 3)
    runs = alternate(rounds, ["none", "ours"], lambda name: once(name, seconds))
    ours, none = runs["ours"], runs["none"]
    how = (f"{CLIENTS} clients that connect, send {SIZE} bytes and close, as fast as they can for "
           f"{seconds} s, {rounds} rounds; files in memory")
    cost = figure([run.outcome.cpu_s * 1e6 / run.connections for run in ours], "µs")
    kernel = figure([run.kernel_s * 1e6 / run.connections for run in none], "µs")
    return [
        Row("short connections without a file", how,
            figure([run.connections - run.files for run in ours], "connections"), {}, "0",
            all(run.files == run.connections for run in ours)),
        Row("short connections: packets not saved", how,
            figure([run.outcome.lost for run in ours], "packets"), {}, "0",
            all(run.outcome.lost == 0 for run in ours)),
        Row("short connections: CPU of the daemon for each", how, cost,
            {"kernel, to make it": kernel}, "≤ kernel", cost.median <= kernel.median),
        Row("short connections: rate", how,
            figure([run.connections / run.seconds for run in ours], "connections/s"),
            {"none": figure([run.connections / run.seconds for run in none], "connections/s")},
            "", None)]


MEASURES = {"short": short}
