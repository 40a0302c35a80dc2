"""Compares the daemon's files with what tcpdump saw."""

import statistics

import pcap
from harness import PREFIX

TOLERANCE_NS = 100_000
# Two clocks are read a few instructions apart, and yet a virtual machine may stand still between
# them, mostly when its processor was idle before. Two tcpdumps on the ends of a veth pair, with
# nothing else running, differed by more than the tolerance for 2 to 11 of 2,000 packets, and by up
# to 292 us, in a busy hour. So twenty may be so unlucky, but not more than one in a hundred, or one
# in a test of fewer; of many, where processors are not idle, one in a thousand. None may be by more
# than a scheduler's slice, and half of them are as close as ever.
# Where two processors handle packets of one flow at once, tcpdump's own file goes back in time: an
# order of packets closer together than the tolerance is anybody's.
UNLUCKY_SHARE, UNLUCKY_SHARE_OF_FEW, UNLUCKY_FEW = 0.001, 0.01, 20
UNLUCKY_NS = 10_000_000
USUAL_NS = 10_000
FEWEST_TO_BE_USUAL = 10


def uuid_of(cookie):
    """The name of a flow, from the kernel's cookie of its socket."""
    return f"{PREFIX}_{cookie:016X}"


class Times:
    """How far the same packets differ between the daemon and tcpdump, in time and in order."""

    def __init__(self):
        self._differences = []
        self._swaps = []  # by how much a packet is earlier, to tcpdump, than the one before it

    def add(self, ours, theirs):
        """Takes the two times of each packet of one direction, in our order."""
        self._differences += [one - other for one, other in zip(ours, theirs)]
        self._swaps += [earlier - later for earlier, later in zip(theirs, theirs[1:])
                        if earlier > later]

    def _beyond(self):
        return sum(abs(difference) > TOLERANCE_NS for difference in self._differences + self._swaps)

    def __str__(self):
        count = len(self._differences)
        size = sorted(map(abs, self._differences)) or [0]
        return (f"times of {count} packets: |difference| median {size[len(size) // 2]} ns, "
                f"99.9 percentile {size[int(len(size) * 0.999)]} ns, max {size[-1]} ns; "
                f"signed {min(self._differences, default=0)} to "
                f"{max(self._differences, default=0)} ns; "
                f"{len(self._swaps)} swapped, by up to {max(self._swaps, default=0)} ns; "
                f"{self._beyond()} beyond {TOLERANCE_NS} ns")

    def assert_close(self, case):
        """Prints the distribution, so that every run leaves it in the log, and judges it."""
        print(f"\n  {case.id().split('.', 1)[-1]}: {self}", flush=True)
        count = len(self._differences)
        unlucky = max(1, min(UNLUCKY_SHARE_OF_FEW * count, UNLUCKY_FEW), UNLUCKY_SHARE * count)
        case.assertLessEqual(self._beyond(), unlucky, str(self))
        case.assertLessEqual(max(map(abs, self._differences + self._swaps), default=0), UNLUCKY_NS,
                             str(self))
        if count >= FEWEST_TO_BE_USUAL:
            case.assertLessEqual(statistics.median(map(abs, self._differences)), USUAL_NS,
                                 str(self))


def directions(records):
    """Splits a flow's records by sender."""
    split = {}
    for record in records:
        split.setdefault(record.tcp.source, []).append(record)
    return split


def assert_same_packets(case, ours, theirs, times, label=""):
    """Exactly the same headers and true lengths in each direction; collects times and order."""
    ours, theirs = directions(ours), directions(theirs)
    case.assertEqual(ours.keys(), theirs.keys(), f"{label}: senders")
    for sender, expected in theirs.items():
        waiting = {}
        for record in sorted(expected, key=lambda record: record.time_ns):
            waiting.setdefault((record.header, record.wire_bytes), []).append(record.time_ns)
        their_times = []
        for index, record in enumerate(ours[sender]):
            found = waiting.get((record.header, record.wire_bytes))
            if not found:
                case.fail(f"{label}: tcpdump didn't see packet {index} of {len(ours[sender])} "
                          f"(it saw {len(expected)}) from port {sender[1]}:\n"
                          f"{record.wire_bytes} bytes {record.header.hex()}")
            their_times.append(found.pop(0))
        missing = sum(map(len, waiting.values()))
        case.assertEqual(missing, 0, f"{label}: of {len(expected)} packets from port {sender[1]}")
        times.add([record.time_ns for record in ours[sender]], their_times)


def assert_flows(case, files, captured, owners):
    """
    Exactly the flows of owners, {cookie: flow key}, each under its own name and with exactly the
    packets that tcpdump saw of it. Each flow key must occur once.
    """
    assert_named_flows(case, files, captured,
                       {uuid_of(cookie): flow for cookie, flow in owners.items()})


def assert_named_flows(case, files, captured, names):
    """The same of {uuid: flow key}."""
    case.assertEqual(files.keys(), names.keys())
    expected, times = pcap.by_flow(captured), Times()
    for uuid, flow in names.items():
        case.assertEqual({r.flow for r in files[uuid].records}, {flow}, uuid)
        assert_same_packets(case, files[uuid].records, expected[flow], times, uuid)
    times.assert_close(case)
