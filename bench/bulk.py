"""Few connections at full rate: what a packet costs, and what is left of the throughput."""

import operator
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from row import Row, figure, met
from testbed import (BUFFER_MIB, MachineClock, Outcome, Testbed, alternate, contenders,
                     cpu_clock)

PEERS = "tcpdump", "dumpcap"


class Run(NamedTuple):
    """One transfer beside one capture."""
    gbit_s: float
    outcome: Outcome
    machine_s: float  # of all processors while data flowed
    packets: int

    @property
    def cpu_us(self):
        return self.outcome.cpu_s * 1e6 / max(self.outcome.saved, 1)

    @property
    def machine_us(self):
        return self.machine_s * 1e6 / self.packets


def transfer(name, offloads, seconds, streams, flags=()):
    """iperf3 beside the capture of this name."""
    with Testbed(offloads) as bed:
        capture = bed.capture(name, *flags)
        before, clock = sum(bed.packets()), MachineClock()
        rate = bed.iperf(seconds, streams)
        machine_s, packets = clock.busy(), sum(bed.packets()) - before
        return Run(rate / 1e9, capture.stop(), machine_s, packets)


def figures(runs, value, unit):
    """{name: figure}, without those of whom there is nothing to tell."""
    return {name: figure([value(run) for run in those], unit) for name, those in runs.items()}


def row(measure, how, by_name, goal="", limit=lambda *_: None):
    """limit(ours, {name: figure}) tells whether the goal is met."""
    ours = by_name.pop("ours")
    return Row(measure, how, ours, by_name, goal, limit(ours, by_name))


def captured(by_name):
    return {name: one for name, one in by_name.items() if name != "none"}


def full_rate(quick, offloads, shapes, throughput_goal, throughput_limit):
    """At the highest rate that TCP gets, for each number of streams."""
    seconds, rounds = (1, 1) if quick else (10, 3)
    how = (f"iperf3 into the host for {seconds} s, by turns beside each capture, {rounds} rounds; "
           f"tcpdump and dumpcap write 96 bytes of each packet to one file, with {BUFFER_MIB} MiB of "
           "buffer; files in memory")
    rows = []
    for streams in shapes:
        runs = alternate(rounds, contenders(*PEERS),
                         lambda name, n=streams: transfer(name, offloads, seconds, n))
        which = f"{streams} stream{'s' * (streams > 1)}, offloads {offloads}: "
        rows += [
            row(which + "packets not saved", how,
                captured(figures(runs, lambda run: run.outcome.lost, "packets")),
                "0", lambda ours, _: ours.high == 0),
            row(which + "CPU of the capturing process a packet", how,
                captured(figures(runs, lambda run: run.cpu_us, "µs")), "≤ tcpdump, aim half",
                lambda ours, others: met(ours, operator.le, others.get("tcpdump"))),
            row(which + "CPU of the whole machine a packet", how,
                figures(runs, lambda run: run.machine_us, "µs")),
            row(which + "throughput", how, figures(runs, lambda run: run.gbit_s, "Gbit/s"),
                throughput_goal, throughput_limit)]
    return rows


def bulk(quick):
    """Packets of 1500 bytes."""
    return full_rate(quick, "off", (1,) if quick else (1, 16), "≥ tcpdump, aim 0.95 × none",
                     lambda ours, others: met(ours, operator.ge, others.get("tcpdump")))


def bulk_offloads(quick):
    """Packets of up to 64 KB, as hosts have them behind their offloads."""
    return full_rate(quick, "on", (1,) if quick else (1, 16), "≥ 0.98 × none",
                     lambda ours, others: ours.median >= 0.98 * others["none"].median)


def settled(quick):
    """One flow whose capture is over, and that goes on at full rate."""
    seconds, rounds = (2, 1) if quick else (10, 3)
    how = f"iperf3 into the host, 1 stream, offloads off; {seconds} s after -captureduration=1s"
    runs = alternate(rounds, ["none", "ours"], lambda name: settled_run(name, seconds))
    ours = runs["ours"]
    return [
        Row("settled flow: records", how, figure([run["records"] for run in ours], "records"), {},
            "0", all(run["records"] == 0 for run in ours)),
        Row("settled flow: CPU of the daemon", how,
            figure([run["cpu"] for run in ours], "% of a core"), {}, "≤ 1 %",
            all(run["cpu"] <= 1 for run in ours)),
        row("settled flow: throughput", how,
            {name: figure([run["gbit_s"] for run in those], "Gbit/s")
             for name, those in runs.items()})]


def settled_run(name, seconds):
    """What happens in so many seconds once the flow is settled."""
    with Testbed() as bed:
        if name == "none":
            return {"gbit_s": bed.iperf(seconds + 2) / 1e9}
        capture = bed.capture("ours", "-captureduration=1s", "-uuidwaitduration=1s")
        daemon, told = capture.daemon, {}

        def watch():
            """Beside the transfer, whose first two seconds are left out."""
            time.sleep(2.5)
            before, begin = daemon.metrics(), time.monotonic()
            spent = cpu_clock(daemon.pid)
            time.sleep(seconds - 1)
            told["cpu"] = 100 * (cpu_clock(daemon.pid) - spent) / (time.monotonic() - begin)
            told["records"] = recorded(daemon.metrics()) - recorded(before)

        with ThreadPoolExecutor() as pool:
            watching = pool.submit(watch)
            told["gbit_s"] = bed.iperf(seconds + 2) / 1e9
            watching.result()
        capture.stop()
        return told


def recorded(metrics):
    """
    Packets that user space is done with: each record of a flow whose file is finished is `late`.
    The kernel's own counters would do, were they all read at one moment.
    """
    return sum(value for (name, labels), value in metrics.items()
               if name == "packet_headers_packets_saved_total"
               or name == "packet_headers_packets_not_saved_total"
               and ("reason", "late") in labels)


MEASURES = {"bulk": bulk, "bulk_offloads": bulk_offloads, "settled": settled}
