"""tshark, which knows TCP better than these tests, reads every file without a complaint."""

import os
import subprocess
import unittest

from harness import (ENVIRONMENT, HOST4, HOST6, PEER4, PEER6, CaptureTest, needs_daemon,
                     needs_tool)
from peers import connect, exchange, listen


@needs_daemon
@needs_tool("tshark")
class Tshark(CaptureTest):

    def complaints(self, path):
        """Errors and malformed packets; an empty string is what we want."""
        done = subprocess.run(
            ["tshark", "-n", "-r", path, "-T", "fields", "-e", "_ws.malformed",
             "-e", "_ws.short", "-Y", "_ws.malformed || _ws.expert.severity == error"],
            env={**ENVIRONMENT, "HOME": self.folder, "XDG_RUNTIME_DIR": self.folder},
            capture_output=True, text=True, check=False, timeout=60)
        root = "Running as user \"root\""
        errors = [line for line in done.stderr.splitlines() if root not in line]
        return "\n".join([*errors, done.stdout.strip(), str(done.returncode or "")]).strip()

    def test_reads_every_file(self):
        """Requests and answers of several sizes, IPv4 and IPv6, inbound and outbound."""
        daemon = self.start_daemon()
        for server, server_address, client, client_address in (
                (self.host, HOST4, self.peer, PEER4), (self.host, HOST6, self.peer, PEER6),
                (self.peer, PEER4, self.host, HOST4), (self.peer, PEER6, self.host, HOST6)):
            listener = listen(self, server, server_address)
            for size in (1, 2000, 500_000):
                one, other = connect(self, client, client_address, listener)
                exchange(one, other, size)
                one.close()
                other.close()
        daemon.wait_for_files(12)
        self.assertEqual(len(self.finish(daemon)), 12)
        for path in daemon.files():
            self.assertEqual(self.complaints(path), "", os.path.basename(path))


if __name__ == "__main__":
    unittest.main()
