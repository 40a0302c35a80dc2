"""The Debian package in a bare Debian 12, under a systemd of its own: from apt install to purge."""

import contextlib
import glob
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest
import urllib.request

import archive
import pcap
from harness import (ENVIRONMENT, METRICS_PORT, Namespace, end_process, left_behind, needs_daemon,
                     run, wait_until)

BUILD = os.path.dirname(os.environ["PACKET_HEADERS_BINARY"])
SUITE = "bookworm"
DATA = "var/lib/packet-headers"
UNIT = "packet-headers.service"
PROGRAMS = ("apt-get", "cpack", "mmdebstrap", "nsenter", "systemd-nspawn")
# Which of what the unit allows nspawn, like other container engines, would not.
CALLS = "bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"
# What installing and starting anything changes.
CHANGED_BY_ALL = ("dev/", "proc/", "run/", "sys/", "tmp/", "etc/machine-id", "var/cache/",
                  "var/lib/apt/", "var/lib/dpkg/", "var/lib/systemd/", "var/log/", "var/tmp/")


def can_run(test):
    missing = [name for name in PROGRAMS if not shutil.which(name, path=ENVIRONMENT["PATH"])]
    if missing:
        return unittest.skip(f"not installed: {' '.join(missing)}")(test)
    try:
        urllib.request.urlopen(f"{archive.mirror()}/dists/{SUITE}/Release", timeout=10).close()
    except OSError as error:
        return unittest.skip(f"Debian's archive can't be reached: {error}")(test)
    return needs_daemon(test)


class Machine:
    """A root file system of a bare Debian, and what runs in it."""

    def __init__(self, case, folder):
        self.root = os.path.join(folder, "root")
        self._case, self._folder, self._leader = case, folder, None
        self._nspawn = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--register=no"]
        if not os.path.isdir("/run/systemd/system"):
            self._nspawn.append("--keep-unit")  # there is nobody to make one
        # What apt downloaded as an index serves what is installed later.
        run("mmdebstrap", "--quiet", "--variant=minbase", "--include=systemd",
            "--skip=cleanup/apt", "--dpkgopt=force-unsafe-io",
            "--aptopt=Acquire::Languages none", SUITE, self.root, archive.mirror())

    def run(self, *command, check=True):
        """Beside its systemd; before that was booted, in the network of the host."""
        where = (["nsenter", f"--target={self._leader}", "--all"] if self._leader else
                 [*self._nspawn, "--pipe"])
        return run(*where, *command, check=check)

    def boot(self, namespace):
        with open(os.path.join(self._folder, "boot.log"), "wb") as log:
            nspawn = subprocess.Popen(
                [*self._nspawn, "--boot", f"--network-namespace-path=/run/netns/{namespace.name}",
                 f"--system-call-filter={CALLS}", "--capability=CAP_BPF,CAP_NET_ADMIN,CAP_PERFMON"],
                env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._case.addCleanup(self._power_off, nspawn)
        self._leader = wait_until(lambda: self._first_process(nspawn.pid), "a first process")
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False).strip()
                   in ("running", "degraded"), "systemd is up", 60)

    def _power_off(self, nspawn):
        if self._leader:
            os.kill(int(self._leader), signal.SIGKILL)
            nspawn.wait(10)  # for the rest of them
        end_process(nspawn)

    @staticmethod
    def _first_process(nspawn):
        """The child of nspawn that is the first process of a namespace."""
        for child in run("pgrep", "--parent", str(nspawn), check=False).split():
            with contextlib.suppress(OSError), open(f"/proc/{child}/status", "rb") as status:
                if f"\nNSpid:\t{child}\t1\n".encode() in status.read():
                    return child
        return None

    def files(self):
        """All paths that stay, relative to its root."""
        paths = set()
        for folder, folders, names in os.walk(self.root):
            paths |= {os.path.relpath(os.path.join(folder, name), self.root)
                      for name in folders + names}
        return {path for path in paths if not path.startswith(CHANGED_BY_ALL)}


@can_run
class Install(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="package-", dir=BUILD)
        self.addCleanup(shutil.rmtree, self.folder)
        run("cpack", "--config", f"{BUILD}/CPackConfig.cmake", "-B", self.folder)
        package, = glob.glob(f"{self.folder}/*.deb")
        self.machine = Machine(self, self.folder)
        self.before = self.machine.files()
        shutil.copy(package, f"{self.machine.root}/root/packet-headers.deb")
        self.machine.run("apt-get", "-qq", "install", "--no-install-recommends",
                         "/root/packet-headers.deb")

    def show(self, name):
        return self.machine.run("systemctl", "show", "--value", f"--property={name}", UNIT).strip()

    def log(self):
        return self.machine.run("journalctl", "--output=cat", f"--unit={UNIT}")

    def connect(self, namespace):
        """Makes a connection over loopback, from SYN to FIN; returns its key, as of pcap.Record."""
        with namespace.entered():
            listener = socket.create_server(("127.0.0.1", 0))
            client = socket.create_connection(listener.getsockname())
        with listener, client, listener.accept()[0] as server:
            client.sendall(b"hello")
            self.assertEqual(server.recv(5), b"hello")
            return frozenset((socket.inet_aton(address), port)
                             for address, port in (client.getsockname(), client.getpeername()))

    def ends_saved(self, flow):
        """How many files there are of it: two, for both its sockets are here."""
        paths = glob.glob(f"{self.machine.root}/{DATA}/*/*/*/*.pcap")
        return [pcap.read(path).records[0].flow for path in paths].count(flow)

    def test_from_install_to_purge(self):
        machine, namespace = self.machine, Namespace(self, "P")
        self.assertNotIn(DATA, machine.files(), "nothing is captured before one says so")
        self.assertEqual(machine.run("systemd-analyze", "verify", "--man=no", UNIT), "")
        machine.run("systemd-analyze", "security", "--offline=true", "--threshold=20", UNIT)
        with open(f"{machine.root}/etc/default/packet-headers", "a", encoding="ascii") as file:
            file.write("SANDBOX=require\n")

        machine.boot(namespace)
        machine.run("systemctl", "enable", "--now", UNIT, check=False)
        self.assertEqual(self.show("ActiveState"), "active", self.log())
        with namespace.entered():
            client = http.client.HTTPConnection("127.0.0.1", METRICS_PORT, timeout=10)
            client.request("GET", "/readyz")
            self.assertEqual(client.getresponse().status, 200)
        first = self.show("MainPID")
        self.assertNotIn("\nUid:\t0\t", machine.run("cat", f"/proc/{first}/status"))
        flow = self.connect(namespace)
        wait_until(lambda: self.ends_saved(flow) == 2, "a file of each end", 30)

        with self.subTest("an upgrade restarts it"):
            machine.run("dpkg", "--install", "/root/packet-headers.deb")
            self.assertNotIn(self.show("MainPID"), (first, "0"))
        with self.subTest("a stop saves all"):
            flow = self.connect(namespace)
            machine.run("systemctl", "stop", UNIT)
            self.assertEqual(self.ends_saved(flow), 2)
            self.assertEqual(self.show("Result"), "success")
            self.assertRegex(self.log(), r"books: interface=lo direction=egress .*unaccounted=0\n")
        with self.subTest("a purge leaves nothing"):
            machine.run("systemctl", "start", UNIT)
            machine.run("apt-get", "-qq", "purge", "--autoremove", "packet-headers")
            self.assertEqual(left_behind(namespace), [])
            self.assertEqual(machine.files() - self.before, {"root/packet-headers.deb"})


if __name__ == "__main__":
    unittest.main()
