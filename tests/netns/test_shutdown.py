"""However it ends, flows are saved where they can be, and nothing stays attached."""

import signal
import unittest

import judge
from harness import (HOST4, PEER4, CaptureTest, left_behind, needs_daemon, needs_tcx, run,
                     wait_until)
from peers import connect, cookie_of, exchange, flow_of, listen


@needs_daemon
class Shutdown(CaptureTest):

    def open_flows(self, count):
        """Open and silent connections; returns their owners."""
        listener = listen(self, self.host, HOST4)
        pairs = [connect(self, self.peer, PEER4, listener) for _ in range(count)]
        for client, accepted in pairs:
            exchange(client, accepted)
        return {cookie_of(accepted): flow_of(accepted) for _, accepted in pairs}

    def saves_all_while_no_packet_comes(self, number, *flags):
        daemon = self.start_daemon(*flags, datadir=self.folder_in_memory())
        tcpdump = self.start_tcpdump()
        owners = self.open_flows(20)
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon, number, within=3), captured, owners)

    def test_sigterm(self):
        self.saves_all_while_no_packet_comes(signal.SIGTERM)

    def test_sigint(self):
        self.saves_all_while_no_packet_comes(signal.SIGINT)

    def test_sigterm_streaming(self):
        self.saves_all_while_no_packet_comes(signal.SIGTERM, "-stream")

    def test_second_sigint_exits_at_once(self):
        """While the first one still waits."""
        daemon = self.start_daemon("-sigtermwait=60s")
        daemon.send_signal(signal.SIGINT)
        # Both would merge into one while the first is pending: the kernel says when it was taken.
        wait_until(lambda: not pending_signals(daemon.pid), "the first SIGINT was taken")
        daemon.wait_for_log("SIGINT: capturing for another ")
        self.assertIn("; a second Ctrl-C exits without saving", daemon.log)
        daemon.send_signal(signal.SIGINT)
        self.assertEqual(daemon.wait_for_exit(2), 130)
        self.assertEqual(left_behind(self.host), [])

    def test_sigtermwait_keeps_capturing(self):
        daemon, tcpdump = self.start_daemon("-sigtermwait=3s"), self.start_tcpdump()
        daemon.send_signal(signal.SIGTERM)
        wait_until(lambda: not pending_signals(daemon.pid), "SIGTERM was taken")
        owners = self.open_flows(5)
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured, owners)


def pending_signals(pid):
    """True while a signal sent to the process was not taken yet."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        masks = [int(line.split()[1], 16) for line in file if line.startswith(("SigPnd", "ShdPnd"))]
    return any(masks)


def processes_in(namespace):
    """The ids of all processes in a namespace."""
    return run("ip", "netns", "pids", namespace.name).split()


@needs_daemon
class Killed(CaptureTest):

    def kill(self, *flags):
        daemon = self.start_daemon(*flags)
        self.assertNotEqual(left_behind(self.host), [], "attached while it runs")
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4, 7001))
        exchange(client, accepted)
        daemon.send_signal(signal.SIGKILL)
        self.assertEqual(daemon.wait_for_exit(5), -signal.SIGKILL)
        self.assertEqual(processes_in(self.host), [])
        return left_behind(self.host)

    def next_start_works(self, *flags):
        daemon, tcpdump = self.start_daemon(*flags), self.start_tcpdump()
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        exchange(client, accepted)
        captured = tcpdump.stop()
        judge.assert_flows(self, self.finish(daemon), captured,
                           {cookie_of(accepted): flow_of(accepted)})

    @needs_tcx
    def test_tcx_leaves_nothing(self):
        wait_until(lambda left=self.kill(): left == [] or left_behind(self.host) == [],
                   "links vanish with the process")
        self.next_start_works()

    def test_clsact_is_swept_by_the_next_start(self):
        """Filters outlive a killed process; the next one takes them away, and only once counts."""
        self.kill("-capture.hook=clsact")
        self.next_start_works("-capture.hook=clsact")

    def test_xdp(self):
        self.kill("-capture.hook=xdp")
        self.next_start_works("-capture.hook=xdp")


if __name__ == "__main__":
    unittest.main()
