"""
Churn of every kind, for SOAK_SECONDS (20 minutes): memory, descriptors and map entries stay flat.
"""

import os
import random
import select
import socket
import time

import harness
import peers
from harness import HOST4, HOST6, CaptureTest, memory_bytes, needs_daemon, wait_until

SECONDS = int(os.environ.get("SOAK_SECONDS", "1200"))
SAMPLE_SECONDS = 5
RATE = 200  # connections a second
SETTLE_SECONDS = 4  # long connections: longer than -captureduration, so that they get settled
MAX_GROWTH_BYTES = 2 << 20  # of resident memory, from the first half of the time to the second


def churn(seconds, seed):
    """Connects to the host in every way there is; returns how many were tried."""
    random_number = random.Random(seed)
    end = time.monotonic() + seconds
    tried, long_lived = 0, []
    while time.monotonic() < end:
        begun = time.monotonic()
        for _ in range(RATE // 10):
            tried += 1
            ipv6 = random_number.random() < 0.3
            address = HOST6 if ipv6 else HOST4
            kind = random_number.choice(("short", "short", "short", "reset", "refused", "udp",
                                         "silent", "long"))
            if kind == "udp":
                with socket.socket(peers.family_of(address), socket.SOCK_DGRAM) as sock:
                    sock.sendto(peers.payload(100), (address, 9))
                continue
            sock = socket.socket(peers.family_of(address))
            sock.settimeout(10)
            try:
                sock.connect((address, 9 if kind == "refused" else 7000))
            except ConnectionRefusedError:
                sock.close()
                continue
            if kind == "long" and len(long_lived) < 20:
                long_lived.append((time.monotonic(), sock))
                continue
            sock.sendall(peers.payload(random_number.randrange(1, 3000)))
            if kind == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, peers.RESET_ON_CLOSE)
            sock.close()
        for since, sock in long_lived:
            sock.send(b"x" * 100)
        while long_lived and time.monotonic() - long_lived[0][0] > SETTLE_SECONDS:
            long_lived.pop(0)[1].close()
        time.sleep(max(0.0, begun + 0.1 - time.monotonic()))  # the pace of the load
    for _, sock in long_lived:
        sock.close()
    return tried


def serve(listeners):
    """Reads what comes, and closes when the other side has."""
    sockets = {listener.fileno(): listener for listener in listeners}
    poll = select.poll()
    for listener in listeners:
        poll.register(listener, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            sock = sockets[number]
            if sock in listeners:
                accepted, _ = sock.accept()
                sockets[accepted.fileno()] = accepted
                poll.register(accepted, select.POLLIN)
                continue
            try:
                if sock.recv(65536):
                    continue
            except ConnectionResetError:
                pass
            poll.unregister(sock)
            del sockets[number]
            sock.close()


@needs_daemon
class Soak(CaptureTest):

    def descriptors(self, daemon):
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    def take_away(self, daemon):
        """Collects the files, as those who use them do; returns how many."""
        files = daemon.files()
        for path in files:
            os.unlink(path)
        return len(files)

    def sample(self, daemon):
        return {
            "resident_bytes": memory_bytes(daemon.pid),
            "descriptors": self.descriptors(daemon),
            "settled": daemon.metric("settled_flows"),
            "ended": daemon.metric("flows", state="ended"),
            "capturing": daemon.metric("flows", state="capturing"),
        }

    def test_flat(self):
        daemon = self.start_daemon("-captureduration=2s", "-flowtimeout=5s",
                                   "-uuidwaitduration=1s")
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        listeners = [peers.listen(self, self.host, address) for address in (HOST4, HOST6)]
        peers.fork(self, self.host, serve, listeners)
        result = peers.fork(self, self.peer, churn, SECONDS, seed)
        samples, files = [], 0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end - SAMPLE_SECONDS:
            time.sleep(SAMPLE_SECONDS)
            files += self.take_away(daemon)
            samples.append(self.sample(daemon))
        tried = result(60)
        for name in samples[0]:
            values = [sample[name] for sample in samples]
            print(f"{name}: {values[::max(1, len(values) // 12)]}")
        # What a flow leaves behind lives for a minute (TIME-WAIT), so the first quarter grows.
        quarter = len(samples) // 4
        before, after = samples[quarter:2 * quarter], samples[-quarter:]
        for name in samples[0]:
            # The least, for some come and go: a file that is being written is a descriptor.
            first, last = (min(sample[name] for sample in part) for part in (before, after))
            allowed = {"resident_bytes": MAX_GROWTH_BYTES, "descriptors": 2}.get(
                name, 0.2 * first + 20)
            self.assertLessEqual(last - first, allowed, f"{name} grew from {first} to {last}")
        wait_until(lambda: daemon.metric("settled_flows") == 0, "no flow is settled", 30)
        for state in ("embryonic", "capturing"):
            wait_until(lambda s=state: daemon.metric("flows", state=s) == 0, f"no {state} flow", 30)
        files += self.take_away(daemon)
        self.assertGreater(files, tried // 2)
        daemon.send_signal(harness.signal.SIGTERM)
        self.assertEqual(daemon.wait_for_exit(20), 0, daemon.log)
        self.assert_books_close(daemon)
        for reason in ("ring_full", "shed_syn", "memory_limit", "write_error", "evicted"):
            self.assertEqual(daemon.booked(reason), 0, reason)
        print(f"{tried} tries, {files} files")
