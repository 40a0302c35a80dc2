"""How long until packets are captured."""

import time

from harness import Daemon
from row import Row, figure
from testbed import Testbed

MOST_MS = 300


def startup(quick):
    """From exec, that of `ip netns exec` included, to the line that says `attached`."""
    times = 3 if quick else 10
    with Testbed() as bed:
        ours = figure([once(bed) for _ in range(times)], "ms")
    return [Row("startup: exec to attached", f"{times} times", ours, {}, f"≤ {MOST_MS} ms",
                ours.median <= MOST_MS)]


def once(bed):
    begin = time.monotonic()
    daemon = Daemon(bed, bed.host, wait=False)
    while "attached to host0" not in daemon.log:
        bed.assertTrue(daemon.is_running, daemon.log)
        time.sleep(0.001)
    took = time.monotonic() - begin
    daemon.wait_until_ready()
    bed.finish(daemon)
    return took * 1000


MEASURES = {"startup": startup}
