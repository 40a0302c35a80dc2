"""Bad input gets one clear line and its exit code, before anything is attached."""

import os
import shutil
import subprocess
import tempfile
import unittest

from harness import (BINARY, ENVIRONMENT, METRICS_PORT, CaptureTest, Namespace, left_behind,
                     needs_daemon, needs_tool, rights_of)
from peers import listen


def daemon_run(*command, **environment):
    """Runs a daemon that is expected to end by itself at once."""
    return subprocess.run(command, env={**ENVIRONMENT, **environment}, capture_output=True,
                          text=True, timeout=20, check=False)


@unittest.skipUnless(os.access(BINARY, os.X_OK), f"no daemon at {BINARY}")
class CommandLine(unittest.TestCase):
    """What is refused before any right is needed."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="packet-headers-netns-")
        self.addCleanup(shutil.rmtree, self.folder)

    def refuse(self, code, says, *flags, **environment):
        """The exit code, and a message that names the culprit."""
        done = daemon_run(BINARY, f"-datadir={self.folder}", *flags, **environment)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertRegex(done.stderr, says)
        self.assertNotIn("ready:", done.stderr)
        return done.stderr

    def test_unknown_flag(self):
        error = self.refuse(2, "no-such-flag", "-no-such-flag")
        self.assertIn("no-such-flag", error.splitlines()[0])
        self.assertEqual(error.splitlines()[1:], ["`packet-headers -help` lists all flags."])

    def test_bad_values(self):
        for flag, value in (("captureduration", "30"), ("captureduration", "fast"),
                            ("flowtimeout", "1 s"), ("maxflows", "many"), ("maxheap", "8gb"),
                            ("stream", "yes"), ("anonymize.ip", "all"),
                            ("capture.hook", "kprobe"), ("maxheadersize", "-"),
                            ("shards", "two")):
            with self.subTest(flag=flag, value=value):
                self.assertEqual(
                    len(self.refuse(2, flag, f"-{flag}={value}").splitlines()), 2)

    def test_bad_value_from_the_environment(self):
        self.refuse(2, "(?i)captureduration", CAPTUREDURATION="fast")

    def test_value_is_missing(self):
        self.refuse(2, "captureduration", "-captureduration")

    def test_uuidwaitduration_above_captureduration(self):
        """Values that contradict each other are a wrong command line as well."""
        error = self.refuse(2, "uuidwaitduration", "-captureduration=2s", "-uuidwaitduration=3s")
        self.assertEqual(len(error.splitlines()), 2)

    def test_full_disk_behind_the_help(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([BINARY, "-help"], stdout=full, stderr=subprocess.PIPE,
                                  check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"No space left", done.stderr)

    def test_help(self):
        for flag in ("-help", "--help", "-h"):
            done = daemon_run(BINARY, flag)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("-captureduration", done.stdout + done.stderr)


@needs_daemon
class Surroundings(CaptureTest):
    """What only the machine can refuse."""

    def refuse(self, says, *flags, namespace=None, prefix=(), leaves=()):
        """The names are those of what is made in the folder all the same."""
        namespace = namespace or self.host
        before = os.listdir(self.folder)
        flags = (f"-datadir={self.folder}/data",
                 f"-prometheusx.listen-address=127.0.0.1:{METRICS_PORT}", *flags)
        done = daemon_run("ip", "netns", "exec", namespace.name, *prefix, BINARY, *flags)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(says, done.stderr.splitlines()[-1], done.stderr)  # its last word
        self.assertNotIn("ready:", done.stderr)
        self.assertEqual(left_behind(namespace), [])
        self.assertEqual(sorted(os.listdir(self.folder)), sorted([*before, *leaves]))
        return done.stderr

    def test_unknown_interface(self):
        self.refuse("nosuch0", "-interface=nosuch0")

    def test_nothing_to_capture_on(self):
        empty = Namespace(self, "C")
        empty.ip("link", "set", "lo", "down")
        self.refuse("interface", namespace=empty, leaves=["data"])

    def test_data_directory_that_cannot_be_made(self):
        path = os.path.join(self.folder, "file")
        with open(path, "w", encoding="ascii"):
            pass
        self.assertIn("-datadir",
                      self.refuse(path, f"-datadir={path}/data", "-interface=host0").splitlines()[-1])

    def test_data_directory_that_cannot_be_written(self):
        self.refuse("/proc", "-datadir=/proc", "-interface=host0")

    def test_metrics_port_in_use(self):
        listen(self, self.host, "127.0.0.1", METRICS_PORT)
        self.refuse(str(METRICS_PORT), "-interface=host0")

    @needs_tool("setpriv")
    def test_no_rights(self):
        """For each engine its own are named, and where any would do those that take least."""
        os.chmod(self.folder, 0o777)
        for engine, rights, missing in (("bpf", (), "CAP_BPF"), ("bpf", ("net_raw",), "CAP_BPF"),
                                        ("pcap", (), "CAP_NET_RAW"), ("auto", (), "CAP_NET_RAW")):
            with self.subTest(engine=engine, rights=rights):
                error = self.refuse(missing, "-interface=host0", f"-capture.engine={engine}",
                                    prefix=rights_of(*rights))
                for right in ("CAP_BPF", "CAP_NET_RAW"):
                    self.assertLessEqual(error.count(right), 1, "said once is enough")


if __name__ == "__main__":
    unittest.main()
