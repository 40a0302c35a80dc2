"""What the parts cost, each alone: runs kernel_bench and user_bench and says what they measured.

A figure is the median of all rounds and the lowest and highest of them. quick=True takes a few
seconds in all and only proves that it runs.
"""

import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import types
from pathlib import Path

from faults import Ext4
from harness import BINARY
from row import Figure, Row, figure
from testbed import MEMORY, Unmeasurable, memory_folder, require

BUILD = Path(BINARY).resolve().parent
REPETITIONS = 5


def run(command, **environment):
    if not os.access(command[0], os.X_OK):
        raise Unmeasurable(f"no program at {command[0]}")
    done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


# --- kernel ---

HOOKS = {
    "ph_tc_in_eth": "TC ingress",
    "ph_tc_out_eth": "TC egress",
    "ph_tc_in_ip": "TC ingress, no Ethernet",
    "ph_tc_out_ip": "TC egress, no Ethernet",
    "ph_xdp_in_eth": "XDP",
}


def kernel(quick):
    if os.geteuid() != 0:
        raise Unmeasurable("only root loads BPF programs")
    rounds, packets = (3, 5000) if quick else (25, 100_000)
    result = run([BUILD / "bench/kernel_bench", str(rounds), str(packets)])
    gross = {(it["program"], it["packet"]): it["ns"] for it in result["alone"]}
    how = (f"BPF_PROG_TEST_RUN, {rounds} alternating rounds of {packets} packets with 1448 bytes "
           "of data, less a program that returns at once; records drained every 3 ms")

    def net(program, packet="any"):
        kind = "xdp" if "xdp" in program else "tc"
        idle = gross[f"bare_{kind}_return", "any"]
        return [ns - none for ns, none in zip(gross[program, packet], idle)]

    rows = []
    for hook, name in HOOKS.items():
        bare = "bare_xdp_" if "xdp" in hook else "bare_tc_"
        for family in ("ipv4", "ipv6"):
            ring = net(bare + "ring_" + family)
            look_up = net(bare + "look_up")
            for packet, label, peer_name, peer, times, most in (
                    ("captured", "captured", "bare reserve and submit", ring, 4, 90),
                    ("captured_beside_settled", "captured, other flows settled",
                     "bare reserve and submit", ring, None, None),
                    ("settled", "settled", "bare look-up", look_up, 1.3, None),
                    ("not_tcp", "not TCP", None, None, None, None)):
                ours = figure(net(hook, f"{packet}_{family}"), "ns")
                peers = {peer_name: figure(peer, "ns")} if peer else {}
                goal = f"≤ {times} × {peer_name}" if times else ""
                met = ours.median <= times * statistics.median(peer) if times else None
                if most:
                    goal += f", ≤ {most} ns"
                    met = met and ours.median <= most
                rows.append(Row(f"{name}, {family.replace('ip', 'IP')}: {label}", how, ours, peers,
                                goal, met))
    idle = {kind: figure(gross[f"bare_{kind}_return", "any"], "ns") for kind in ("tc", "xdp")}
    rows.append(Row("a program that returns at once", "the same, gross", idle["tc"],
                    {"XDP": idle["xdp"]}, "", None))
    return rows + together(result["together"], idle["tc"].median, rounds)


def together(runs, idle_ns, rounds):
    ns = {(it["program"], it["cpus"]): [value - idle_ns for value in it["ns"]] for it in runs}
    return [
        Row(f"TC ingress, IPv4: captured on {cpus} CPUs into one ring",
            f"BPF_PROG_TEST_RUN on each at once, {rounds} rounds, less a program that returns at "
            "once", figure(values, "ns"),
            {"bare reserve and submit": figure(ns["bare_tc_ring_ipv4", cpus], "ns")}, "", None)
        for (program, cpus), values in ns.items() if program == "ph_tc_in_eth"
    ]


# --- user space ---


def google(names, quick, min_time=None, repetitions=REPETITIONS, **environment):
    """Runs of the benchmarks that the expression names, by name, in alternation."""
    result = run([
        BUILD / "bench/user_bench", "--benchmark_format=json", f"--benchmark_filter={names}",
        f"--benchmark_min_time={0.05 if quick else 0.5}" if min_time is None else
        f"--benchmark_min_time={min_time}",
        f"--benchmark_repetitions={1 if quick else repetitions}",
        "--benchmark_enable_random_interleaving=true"], **environment)
    runs = {}
    for it in result["benchmarks"]:
        if it["run_type"] != "iteration":
            continue
        if it.get("error_occurred"):
            raise RuntimeError(f"{it['name']}: {it['error_message']}")
        runs.setdefault(it["run_name"].removesuffix("/manual_time"), []).append(it)
    return runs


def of(runs, counter, scale, unit):
    return figure([it[counter] / scale for it in runs], unit)


def user(quick):
    runs = google("^(OnRecord|Decode|Encode|PutInOrder|SumUp)", quick)
    rates = {name: of(of_name, "items_per_second", 1e6, "M/s") for name, of_name in runs.items()}
    parts = {"decode alone": rates["Decode"], "encode alone": rates["Encode"]}
    how = "FlowTable::OnRecords, one core, 66-byte headers out of 32 MB in order; files not made"
    rows = []
    for name, label, least in (("64_round_robin", "64 flows in turn", 10),
                               ("64_bursts", "64 flows in bursts of 32", 10),
                               ("10000_random", "10,000 flows at random", None),
                               ("100000_random", "100,000 flows at random", 5)):
        ours = rates["OnRecords/" + name]
        rows.append(Row(f"records: {label}", how, ours, parts, f"≥ {least} M/s" if least else "",
                        ours.median >= least if least else None))
    rows.append(Row("records: encoded alone", "RecordEncoder, the same stream", rates["Encode"],
                    {"decode alone": rates["Decode"]}, "", None))
    rows.append(Row("records: summed up for the index", "half a megabyte of a flow, in order",
                    rates["SumUp"], {"found in order": rates["PutInOrder"]}, "", None))
    return rows


# --- compression ---


def converse(port, total):
    """A connection that asks for `total` bytes in pieces of any size."""
    with socket.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        client.connect(("127.0.0.1", port))
        while total > 0:
            piece = min(total, random.randint(1, 60_000))
            client.sendall(piece.to_bytes(4, "big"))
            left = piece
            while left > 0:
                left -= len(client.recv(left))
            total -= piece


def serve(listener):
    """Sends on each connection as many bytes as it asks for."""
    def answer(connection):
        with connection:
            while asked := connection.recv(4):
                connection.sendall(bytes(int.from_bytes(asked, "big")))
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def record_headers(folder, quick):
    """Puts into the folder what the daemon saves of real connections over loopback."""
    daemon = subprocess.Popen(
        [BUILD / "packet-headers", "-interface=lo", f"-datadir={folder}", "-sigtermwait=0s",
         "-prometheusx.listen-address=127.0.0.1:0", "-captureduration=5m"],
        stderr=subprocess.PIPE, text=True)
    for line in daemon.stderr:
        if "ready:" in line:
            break
    log = threading.Thread(target=daemon.stderr.read)
    log.start()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        random.seed(1)
        for _ in range(20 if quick else 300):
            converse(port, random.randint(1000, 300_000))
        for _ in range(1 if quick else 6):
            converse(port, 50_000_000)
        listener.shutdown(socket.SHUT_RDWR)
    daemon.send_signal(signal.SIGINT)
    log.join()
    if daemon.wait() != 0:
        raise RuntimeError(f"the daemon ended with {daemon.returncode}")


def compress(quick):
    with tempfile.TemporaryDirectory() as folder:
        record_headers(folder, quick)
        runs = google("^CompressFiles", quick, BENCH_HEADERS=folder)
    rows = []
    for size, label in (("short", "short files"), ("long", "long files")):
        def speed(kind):
            return of(runs[f"CompressFiles/{kind}_{size}"], "bytes_per_second", 1e6, "MB/s")

        def share(kind):
            it = runs[f"CompressFiles/{kind}_{size}"][0]
            value = 100 * it["compressed"] / it["plain"]
            return Figure(value, value, value, "%")

        first = runs[f"CompressFiles/gzip_{size}"][0]
        files, plain = first["files"], first["plain"]
        how = (f"{files:.0f} files of {plain / files:.0f} bytes that the daemon saved of loopback, "
               "one member each, one core")
        peers = ("gzip -1", "zlib1"), ("zstd", "zstd")
        gzip = speed("gzip")
        rows.append(Row(f"gzip: speed, {label}", how, gzip,
                        {name: speed(kind) for name, kind in peers}, "≥ 400 MB/s",
                        gzip.median >= 400))
        rows.append(Row(f"gzip: size, {label}", how, share("gzip"),
                        {name: share(kind) for name, kind in peers}, "≤ gzip -1",
                        share("gzip").median <= share("zlib1").median))
    return rows


# --- publishing ---


def file_system(folder):
    found = subprocess.run(["findmnt", "-no", "FSTYPE", "-T", folder], capture_output=True,
                           text=True, check=False)
    return found.stdout.strip() or "unknown file system"


def publish(quick):
    folder = os.environ.get("BENCH_DIRECTORY", str(BUILD / "bench"))
    return publish_in(folder, file_system(folder), quick)


def publish_in_memory(quick):
    """What is slow there is no disk."""
    require("mkfs.ext4")
    if os.geteuid() != 0:
        raise Unmeasurable("only root mounts a file system")
    if memory_folder() != MEMORY:
        raise Unmeasurable(f"{MEMORY} has no room")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY))
        case = types.SimpleNamespace(folder=folder, addCleanup=stack.callback)
        return publish_in(Ext4(case, mib=2048).path, "ext4 in memory", quick)


def publish_in(folder, where, quick):
    files = 1000 if quick else 20_000
    # One group of so many files a repetition.
    runs = google(f"^Publish.*/{files}/", quick, min_time=0, BENCH_DIRECTORY=folder)
    rows = []
    for durability, least in (("rename", 10_000), ("sync", 3000)):
        ours, bare = (of(runs[f"{kind}/{durability}/{files}"], "items_per_second", 1, "files/s")
                      for kind in ("Publish", "PublishBare"))
        rows.append(Row(f"publish: -durability={durability}, {where}",
                        f"{files} flows of 12 packets that end together, {where}",
                        ours, {"the same files in a plain loop, one sync at the end"
                               if durability == "sync" else "the same files in a plain loop": bare},
                        f"≥ {least} files/s", ours.median >= least))
    return rows


# --- memory ---


def memory(quick):
    rows = []
    for kind, label, most in (("three_packets", "flow of three packets", 256),
                              ("embryonic", "embryonic flow", 64)):
        for flows in (10_000,) if quick else (10_000, 100_000, 1_000_000):
            # Each in a process of its own, whose memory nobody has used.
            runs = [google(f"^Memory/{kind}/{flows}/", quick, repetitions=1)
                    for _ in range(1 if quick else 3)]
            it = [run[f"Memory/{kind}/{flows}/iterations:1"][0] for run in runs]
            ours = of(it, "resident", 1, "B")
            headers = it[0]["headers"]
            limit = most + headers
            goal = f"≤ {most} B" + (f" + {headers:.0f} B of headers" if headers else "")
            rows.append(Row(f"memory: {label}, of {flows:,}", "resident memory for each", ours,
                            {"as -maxheap counts": of(it, "budget", 1, "B")}, goal,
                            ours.median <= limit))
    return rows


MEASURES = {
    "kernel": kernel,
    "user": user,
    "compress": compress,
    "publish": publish,
    "publish_in_memory": publish_in_memory,
    "memory": memory,
}
