"""Frames at rising rates, made by the kernel itself: from which rate on packets are lost."""

import os
import re
import statistics

from harness import HOST4, HOST_MAC, PEER4
from peers import connect, listen
from row import Row, figure
from testbed import Testbed, Unmeasurable, alternate, contenders, helper

PORT = 7000
NOBODY4 = "10.9.0.99"  # what comes for it costs the host least
FLOOD_CPU = 0
RATES = (200_000, 400_000, 600_000, 800_000, 1_000_000, 1_200_000, 1_600_000, 2_000_000, 3_000_000,
         0)  # 0: as fast as can be
REACHED = 0.95
KINDS = {
    "segment": "packets of 1 connection",
    "syn": "SYNs, each a new flow",
}


class OnOtherProcessors:
    """For the length of a `with`, this process and all that it starts leave one to the flood."""

    def __enter__(self):
        self._before = os.sched_getaffinity(0)
        others = self._before - {FLOOD_CPU}
        if not others or FLOOD_CPU not in self._before:
            raise Unmeasurable("a flood needs a processor, and what captures it another one")
        os.sched_setaffinity(0, others)

    def __exit__(self, *_):
        os.sched_setaffinity(0, self._before)


def once(name, kind, rate, seconds, flags=()):
    """(Packets a second that came, share of them that was lost)."""
    program = helper("flood")
    with Testbed() as bed:
        capture = bed.capture(name, *flags)
        destination, source = NOBODY4, ()
        if kind == "segment":
            client, _ = connect(bed, bed.peer, PEER4, listen(bed, bed.host, HOST4, PORT))
            destination, source = HOST4, (PEER4, str(client.getsockname()[1]))
        told = bed.host.run("taskset", "-c", str(FLOOD_CPU), program, kind, "host0", HOST_MAC,
                            destination, str(PORT), str(seconds), str(rate), *source)
        sent, took = re.fullmatch(r"(\d+) packets in ([\d.]+) s\n", told).groups()
        return int(sent) / float(took), capture.stop(int(sent)).missed / int(sent)


def loss_by_rate(kind, rates, seconds, rounds):
    """A row for each rate that could be made, and one for the highest without loss."""
    rows, best = [], {}
    how = (f"live frames into the host's device for {seconds} s, {rounds} rounds; the processor that "
           "makes them does nothing else")
    names = [name for name in contenders("tcpdump") if name != "none"]
    for rate in rates:
        runs = alternate(rounds, names, lambda name, r=rate: once(name, kind, r, seconds))
        losses = {name: figure([100 * lost for _, lost in those], "%")
                  for name, those in runs.items()}
        for name, those in runs.items():
            rate_of = figure([came for came, _ in those], "packets/s")
            if losses[name].high == 0 and (name not in best
                                           or rate_of.median > best[name].median):
                best[name] = rate_of
        came = round(statistics.mean(came for came, _ in runs["ours"]), -4)
        if came >= REACHED * rate:
            rows.append(Row(f"{KINDS[kind]}, {came:,.0f} a second{', the most' * (not rate)}: lost",
                            how, losses.pop("ours"), losses, "", None))
    nothing = figure([0], "packets/s")
    rows.append(Row(f"{KINDS[kind]}: highest rate without loss", how, best.pop("ours", nothing),
                    best, "", None))
    return rows


def flood(quick):
    """What is lost is what the ring had no room for, or shed while it was nearly full."""
    with OnOtherProcessors():
        rates, seconds, rounds = ((400_000,), 0.5, 1) if quick else (RATES, 2, 2)
        return [row for kind in KINDS for row in loss_by_rate(kind, rates, seconds, rounds)]


MEASURES = {"flood": flood}
