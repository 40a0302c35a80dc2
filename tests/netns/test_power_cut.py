"""The power goes at any moment: what was announced as saved is there, and nothing is half there."""

import concurrent.futures
import os
import random
import signal
import time
import unittest

import index
from faults import (Ext4, hidden_files, read_whole, records_in, seed, stop,
                    wait_until_salvaged)
from harness import (HOST4, PEER4, CaptureTest, Namespace, Daemon, needs_daemon, needs_tool,
                     wait_until)
from peers import Load

CUTS = 50
LIFE_S = 0.1, 0.6
FLAGS = [(stream, f"-compress={compress}")
         for compress in ("none", "gzip", "zstd") for stream in ("-stream=false", "-stream")]
# Flows end, and are published, while the power is on.
SHORT_FLOWS = ("-captureduration=100ms", "-uuidwaitduration=50ms")
END_WITHIN_S = 20  # also on a disk that is dead


def judge(case, daemon):
    """
    How many files have a final name, and how many of them are in the index; fails unless all are
    whole.
    """
    packets = {path: len(read_whole(case, path).records) for path in daemon.files()}
    lines = index.read(daemon.datadir, after_crash=True)
    for path, line in lines.items():
        path = os.path.join(daemon.datadir, path)
        case.assertEqual(index.packets(line), packets.get(path), path)
    return len(packets), len(lines)


@needs_daemon
@needs_tool("mkfs.ext4")
class PowerCut(CaptureTest):

    def start(self, host, disk, *flags):
        return Daemon(self, host, *SHORT_FLOWS, *flags, datadir=os.path.join(disk.path, "data"))

    def cuts(self, host, moments, count):
        """Cuts the power so often; returns (files announced, files there) over all cuts."""
        disk, left, before, announced_in_all, there_in_all = Ext4(self), {}, 0, 0, 0
        lines_before = 0
        for cut in range(count):
            daemon = self.start(host, disk, *FLAGS[cut % len(FLAGS)])
            wait_until_salvaged(left)
            time.sleep(moments.uniform(*LIFE_S))
            announced = daemon.metric("files_published_total")
            disk.cut_power(moments.choice((Ext4.LOSE_THE_LOG, Ext4.FLUSH_THE_LOG)))
            if cut % 10 == 9:
                stop(self, daemon, END_WITHIN_S)
            else:
                # It goes on, and then its power goes, too.
                seen = daemon.metric("packets_seen_total")
                wait_until(lambda: daemon.metric("packets_seen_total") > seen, "it captures")
                daemon.send_signal(signal.SIGKILL)
                self.assertEqual(daemon.wait_for_exit(5), -signal.SIGKILL, daemon.log)
            disk.unmount()
            disk.mount()
            there, lines = judge(self, daemon)
            self.assertGreaterEqual(there, before + announced, f"cut {cut}\n{daemon.log}")
            self.assertGreaterEqual(lines, lines_before + announced, f"cut {cut}\n{daemon.log}")
            left = {path: records_in(path) for path in hidden_files(daemon.datadir)}
            announced_in_all += announced
            there_in_all += there - before
            before, lines_before = there, lines
        return announced_in_all, there_in_all

    def test_fifty_cuts(self):
        """In two places at once, to be done sooner."""
        number, other_host, other_peer = seed("cuts"), Namespace(self, "C"), Namespace(self, "D")
        other_host.link_to(other_peer, "host0", "peer0", [f"{HOST4}/24"], [f"{PEER4}/24"])
        places = [(self.host, self.peer), (other_host, other_peer)]
        for host, peer in places:
            Load(self, peer, host, HOST4)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            done = [pool.submit(self.cuts, host, random.Random(f"{number}-{place}"), CUTS // 2)
                    for place, (host, _) in enumerate(places)]
            announced, there = map(sum, zip(*(each.result() for each in done)))
        print(f"  {CUTS} cuts; {announced:.0f} files announced before them, {there} there",
              flush=True)
        self.assertGreater(announced, 0)

    def test_without_durability_it_survives_as_well(self):
        """What is in the files is anybody's guess with rename alone."""
        disk = Ext4(self)
        Load(self, self.peer, self.host, HOST4)
        daemon = self.start(self.host, disk, "-durability=rename")
        wait_until(lambda: daemon.metric("files_published_total") > 0, "files are published")
        disk.cut_power(Ext4.LOSE_THE_LOG)
        failed = daemon.metric("file_errors_total")
        wait_until(lambda: daemon.metric("file_errors_total") > failed, "it goes on trying")
        stop(self, daemon, END_WITHIN_S)


if __name__ == "__main__":
    unittest.main()
