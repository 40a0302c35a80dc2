"""Splitting captures that exist: packets a second, and memory."""

import contextlib
import multiprocessing
import os
import re
import shutil
import subprocess
import tempfile
import time
from typing import NamedTuple

from captures import Waves
from harness import BINARY, ENVIRONMENT, end_process, peak_memory
from row import Row, figure
from testbed import alternate, cpu_clock, installed, memory_folder

MB = 1_000_000
BUDGET_MB = 256
MOST_GROWTH = 1.1
LEAST_SPEEDUP = 10
COPY = "tcpdump -r -w"


class Run(NamedTuple):
    packets_s: float
    cpu_us: float  # a packet
    peak_mb: float


@contextlib.contextmanager
def written(waves):
    """A folder with the capture. A process of its own makes it, and takes its memory with it."""
    folder = tempfile.mkdtemp(prefix="packet-headers-bench-", dir=memory_folder())
    try:
        writer = multiprocessing.get_context("fork").Process(
            target=waves.write, args=(os.path.join(folder, "capture.pcap"),))
        writer.start()
        writer.join()
        if writer.exitcode != 0:
            raise RuntimeError("the capture could not be written; its trace is above")
        yield folder
    finally:
        shutil.rmtree(folder)


def once(name, folder, waves, *flags):
    """Reads the capture once by the program of this name; what that writes is deleted."""
    capture, output = (os.path.join(folder, path) for path in ("capture.pcap", "output"))
    os.mkdir(output)
    command = {
        "ours": [BINARY, "-read", capture, f"-datadir={output}", *flags],
        "PcapSplitter": ["PcapSplitter", "-f", capture, "-o", output, "-m", "connection"],
        COPY: ["tcpdump", "-Z", "root", "-r", capture, "-w",
                          os.path.join(output, "copy.pcap")],
    }[name]
    with tempfile.TemporaryFile("w+") as log:
        begin = time.monotonic()
        process = subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=log)
        try:
            peak_bytes = peak_memory(process)
            seconds, cpu_s = time.monotonic() - begin, cpu_clock(process.pid)
            process.wait()
        finally:
            end_process(process)
        log.seek(0)
        told = log.read()
    if process.returncode != 0 or name == "ours" and not is_complete(told, waves):
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}: {told}")
    shutil.rmtree(output)
    return Run(waves.packets / seconds, cpu_s * 1e6 / waves.packets, peak_bytes / MB)


def is_complete(told, waves):
    """Every packet is saved, every flow has its file."""
    return (re.search(rf"seen={waves.packets} saved={waves.packets} unaccounted=0", told)
            and f"saved {waves.flows} files, 0 failed" in told)


def speed(what, waves, rounds):
    """PcapSplitter does less than we do; a copy by tcpdump is less than any splitting."""
    peer = "PcapSplitter" if installed("PcapSplitter") else COPY
    names = ["ours"] + ([peer] if installed(peer.split()[0]) else [])
    with written(waves) as folder:
        size = os.path.getsize(os.path.join(folder, "capture.pcap")) / MB
        runs = alternate(rounds, names, lambda name: once(name, folder, waves))
    how = (f"-read of {waves.packets:,} packets in {waves.flows:,} flows, {size:,.0f} MB, "
           f"{rounds} rounds; files in memory")
    speeds = {name: figure([run.packets_s for run in those], "packets/s")
              for name, those in runs.items()}
    costs = {name: figure([run.cpu_us for run in those], "µs") for name, those in runs.items()}
    return [
        Row(f"split {what}: speed", how, ours := speeds.pop("ours"), speeds,
            f"≥ {LEAST_SPEEDUP} × PcapSplitter", is_fast_enough(ours, speeds)),
        Row(f"split {what}: CPU a packet", how, costs.pop("ours"), costs, "", None)]


def is_fast_enough(ours, peers):
    """What is so much faster than a copy is so than PcapSplitter; else only that can tell."""
    for name, peer in peers.items():
        fast = ours.median >= LEAST_SPEEDUP * peer.median
        if fast or name == "PcapSplitter":
            return fast
    return None


def memory(make, rounds):
    """The peak for a capture, beside that of one of half the length."""
    half, full = make(1), make(2)
    peaks = {}
    for name, waves in (("half as long", half), ("ours", full)):
        with written(waves) as folder:
            peaks[name] = figure([once("ours", folder, waves, f"-maxheap={BUDGET_MB}MB").peak_mb
                                  for _ in range(rounds)], "MB")
    ours, half_as_long = peaks["ours"], peaks["half as long"]
    return Row("split headers: peak memory",
               f"-read -maxheap={BUDGET_MB}MB of {full.packets:,} packets, {rounds} rounds", ours,
               {"half as long": half_as_long}, f"≤ {MOST_GROWTH} × half as long",
               ours.median <= MOST_GROWTH * half_as_long.median)


def read(quick):
    """Everything in memory, files too."""
    if quick:
        return [*speed("headers", Waves(1, flows=100, rounds=20), 1),
                memory(lambda waves: Waves(waves, flows=500, rounds=20), 1)]
    return [*speed("headers", Waves(1, flows=20_000, rounds=24), 3),
            *speed("whole packets", Waves(36, flows=16, rounds=200, whole=True), 3),
            memory(lambda waves: Waves(6 * waves), 3)]


MEASURES = {"read": read}
