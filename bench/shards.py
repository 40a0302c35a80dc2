"""What more shards bring: each is a ring and a thread."""

import os

import bulk
import flood
from row import Row, figure
from testbed import Unmeasurable, alternate


def shards(quick):
    """The same traffic for each number of shards, by turns."""
    if (os.cpu_count() or 1) < 2:
        raise Unmeasurable("more than one shard needs more than one processor")
    counts = [str(count) for count in range(1, os.cpu_count() + 1)]
    return streams(counts, quick) + floods(counts, quick)


def compared(measure, how, figures, counts):
    """A row for the most shards; the others are its peers."""
    by_count = dict(zip(counts, figures))
    ours = by_count.pop(counts[-1])
    return Row(f"{measure}, -shards={counts[-1]}", how, ours,
               {f"-shards={count}": one for count, one in by_count.items()}, "", None)


def streams(counts, quick):
    seconds, rounds = (1, 1) if quick else (10, 3)
    runs = alternate(rounds, counts, lambda count: bulk.transfer(
        "ours", "off", seconds, 16, flags=(f"-shards={count}",)))
    return [compared(f"16 streams: {what}", f"iperf3 for {seconds} s, offloads off, {rounds} rounds",
                     [figure([value(run) for run in runs[count]], unit) for count in counts],
                     counts)
            for what, value, unit in (
                ("throughput", lambda run: run.gbit_s, "Gbit/s"),
                ("CPU of the daemon a packet", lambda run: run.cpu_us, "µs"),
                ("packets not saved", lambda run: run.outcome.lost, "packets"))]


def floods(counts, quick):
    """SYNs, since one connection is always one shard's."""
    seconds, rounds = (0.5, 1) if quick else (3, 2)
    with flood.OnOtherProcessors():
        runs = alternate(rounds, counts, lambda count: flood.once(
            "ours", "syn", 0, seconds, flags=(f"-shards={count}",)))
    return [compared("SYNs as fast as can be: lost",
                     f"live frames for {seconds} s from one processor, the shards on the others",
                     [figure([100 * lost for _, lost in runs[count]], "%") for count in counts],
                     counts)]


MEASURES = {"shards": shards}
