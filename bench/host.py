"""What a capture costs its host by its process, and within its hooks or its packet socket."""

import operator
import os
import re
from typing import NamedTuple

from bulk import PEERS, figures, row
from harness import run
from row import met
from testbed import Testbed, alternate, contenders, require

SAMPLES_A_SECOND = 1999  # of each processor

# What runs within these is done for the capture, whichever process it interrupts.
HOOKS = re.compile(r"^bpf_prog_[0-9a-f]+_ph_(tc|xdp)_")
PACKET_SOCKET = re.compile(r"^(tpacket_rcv|packet_rcv|dev_queue_xmit_nit)$")
# What interrupts a process is none of its own doing.
INTERRUPT = re.compile(r"^(handle_softirqs|__do_softirq)$")


class Cost(NamedTuple):
    """µs of CPU a packet."""
    process: float
    kernel: float

    @property
    def whole(self):
        return self.process + self.kernel


def stacks(path):
    """(Process id, functions from the innermost outwards) of each sample of a recording."""
    for sample in run("perf", "script", "--no-inline", "-i", path, "-F", "pid,ip,sym").split("\n\n"):
        head, *frames = sample.strip().splitlines() or [""]
        if head:
            yield int(head), [frame.split(maxsplit=1)[-1] for frame in frames]


def samples_of(path, pid, of_kernel):
    """How many were taken in the process, and in its part of the kernel's way of a packet."""
    process = kernel = 0
    for who, functions in stacks(path):
        if any(of_kernel.search(name) for name in functions):
            kernel += 1
        elif who == pid and not any(INTERRUPT.search(name) for name in functions):
            process += 1
    return process, kernel


def cost(name, seconds, streams):
    """Of a transfer beside the capture of this name, for each packet that it saves."""
    with Testbed() as bed:
        capture = bed.capture(name)
        path = os.path.join(bed.folder, "perf.data")
        bed.iperf(seconds, streams, under=(
            "perf", "record", "-q", "-a", "-g", "--no-buildid", "--no-buildid-cache",
            "-e", "cpu-clock", "-F", str(SAMPLES_A_SECOND), "-o", path, "--"))
        process, kernel = samples_of(path, capture.pid, HOOKS if name == "ours" else PACKET_SOCKET)
        if kernel == 0:
            raise RuntimeError(f"perf names nothing that the kernel did for {name}")
        saved = capture.stop().saved
        return Cost(*(samples * 1e6 / SAMPLES_A_SECOND / saved for samples in (process, kernel)))


def host(quick):
    """At the highest rate that TCP gets."""
    require("perf")
    seconds, rounds = (1, 1) if quick else (6, 5)
    how = (f"iperf3 into the host for {seconds} s, offloads off, by turns beside each capture, "
           f"{rounds} rounds; {SAMPLES_A_SECOND} samples a second of each processor by perf: those "
           "in the process, and those under our hooks or under the packet socket")
    names = [name for name in contenders(*PEERS) if name != "none"]
    rows = []
    for streams in (1,) if quick else (1, 16):
        runs = alternate(rounds, names, lambda name, n=streams: cost(name, seconds, n))
        which = f"{streams} stream{'s' * (streams > 1)}: "
        rows += [
            row(which + "CPU of the kernel's part a packet", how,
                figures(runs, lambda one: one.kernel, "µs")),
            row(which + "CPU of process and kernel's part a packet", how,
                figures(runs, lambda one: one.whole, "µs"), "≤ tcpdump",
                lambda ours, others: met(ours, operator.le, others.get("tcpdump")))]
    return rows


MEASURES = {"host": host}
