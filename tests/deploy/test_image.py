"""
deploy/Dockerfile, built by buildah and run by runc, as engines run it: read-only, as nobody, with
two capabilities. The base is a root of mmdebstrap's, and the stage that compiles is left out for
the binary under test.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

import archive
import harness
from harness import (ENVIRONMENT, HOST4, PEER4, CaptureTest, Daemon, needs_daemon, needs_tool, run)
from judge import uuid_of
from peers import connect, cookie_of, exchange, listen

ROOT = os.path.join(harness.HERE, "..", "..")
STORE = os.path.join(ROOT, "build", "images")  # the base stays there
DOCKERFILE = os.path.join(ROOT, "deploy", "Dockerfile")
BASE, IMAGE = "docker.io/library/debian:bookworm-slim", "localhost/packet-headers-test"
SECCOMP = "/usr/share/containers/seccomp.json"  # comes with buildah
UID = 10990
MOST_BYTES_ADDED = 40 << 20


def buildah(*arguments):
    return run("buildah", "--storage-driver=vfs", f"--root={STORE}", f"--runroot={STORE}/run",
               *arguments).strip()


def make_base():
    if buildah("images", "-q", "--filter", f"reference={BASE}"):
        return
    container = buildah("from", "scratch")
    try:
        run("mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io",
            "--skip=check/empty", "bookworm", buildah("mount", container), archive.mirror())
        buildah("commit", "-q", container, BASE)
    finally:
        buildah("rm", container)


def build(folder):
    """Makes IMAGE of the last stage, with files of folder in the place of the first."""
    with open(DOCKERFILE, encoding="utf-8") as file:
        first, last = re.split(r"(?m)^(?=FROM )", file.read())[1:]
    name = re.match(r"FROM \S+ AS (\w+)\n", first)[1]
    shutil.copy(harness.BINARY, folder)
    path = os.path.join(folder, "Dockerfile")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"FROM scratch AS {name}\nCOPY packet-headers /src/build/packet-headers\n{last}")
    run("strip", os.path.join(folder, "packet-headers"))
    buildah("build", "-q", "--isolation=chroot", "--pull=never", "--layers=false", "-t", IMAGE,
            "-f", path, folder)


def inspect(image):
    return json.loads(buildah("inspect", "--type=image", image))


def seccomp(capabilities):
    """
    The profile that Podman would give a container with these capabilities, with one thing that
    Docker's has and Debian 12's has not yet: CAP_BPF allows bpf(2).
    """
    with open(SECCOMP, encoding="utf-8") as file:
        profile = json.load(file)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    calls = []
    for rule in profile["syscalls"]:
        needed, barred = rule.get("includes", {}), rule.get("excludes", {})
        if (set(needed.get("caps", [])) <= set(capabilities)
                and arch in needed.get("arches", [arch])
                and not set(barred.get("caps", [])) & set(capabilities)):
            calls.append({field: rule[field] for field in ("names", "action", "args", "errnoRet")
                          if rule.get(field)})
    if "CAP_BPF" in capabilities:
        for rule in calls:
            rule["names"] = [name for name in rule["names"] if name != "bpf"]
        calls.append({"names": ["bpf"], "action": "SCMP_ACT_ALLOW"})
    return {"defaultAction": profile["defaultAction"],
            "defaultErrnoRet": profile["defaultErrnoRet"], "syscalls": calls}


class Container:
    """Runs a daemon's command in a container of an image; stands in for its network namespace."""

    def __init__(self, case, namespace, capabilities, no_new_privs):
        self._case, self._namespace = case, namespace
        self._capabilities = [f"CAP_{name}" for name in capabilities]
        self._no_new_privs = no_new_privs
        self.entered = namespace.entered

    def popen(self, *command, **options):
        bundle = os.path.join(self._case.folder, "bundle")
        os.mkdir(bundle)
        run("runc", "spec", "-b", bundle)
        path = os.path.join(bundle, "config.json")
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        image = self._case.image["OCIv1"]["config"]
        uid, gid = map(int, image["User"].split(":"))
        config["root"] = {"path": self._case.root, "readonly": True}
        config["process"].update(
            terminal=False, user={"uid": uid, "gid": gid}, noNewPrivileges=self._no_new_privs,
            args=[*image["Entrypoint"], *command[1:]],
            # As Docker and containerd ask for: nothing ambient.
            capabilities={which: self._capabilities
                          for which in ("bounding", "permitted", "effective")})
        folder = self._case.folder
        config["mounts"].append({"destination": folder, "source": folder, "type": "bind",
                                 "options": ["rbind", "rw", "nosuid", "nodev"]})
        config["linux"]["seccomp"] = seccomp(self._capabilities)
        for space in config["linux"]["namespaces"]:
            if space["type"] == "network":
                space["path"] = f"/run/netns/{self._namespace.name}"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(config, file)
        runc = ("runc", f"--root={folder}/runc")
        name = f"packet-headers-{os.getpid()}"
        self._case.addCleanup(run, *runc, "delete", "--force", name)
        return subprocess.Popen([*runc, "run", "-b", bundle, name], env=ENVIRONMENT, **options)


@needs_daemon
@needs_tool("buildah")
@needs_tool("mmdebstrap")
@needs_tool("runc")
@unittest.skipUnless(os.path.exists(SECCOMP), f"there is no {SECCOMP}")
class Image(CaptureTest):

    @classmethod
    def setUpClass(cls):
        try:
            make_base()
        except RuntimeError as error:
            raise unittest.SkipTest(f"no base image: {error}") from None
        with tempfile.TemporaryDirectory() as folder:
            build(folder)
        cls.addClassCleanup(buildah, "rmi", IMAGE)
        cls.image = inspect(IMAGE)
        container = buildah("from", "--pull-never", IMAGE)
        cls.addClassCleanup(buildah, "rm", container)
        cls.root = buildah("mount", container)

    def setUp(self):
        super().setUp()
        os.chmod(self.folder, 0o755)  # the user in the container goes through it

    def captures(self, engine, *capabilities, no_new_privs=True):
        """A connection has its file."""
        datadir = os.path.join(self.folder, "data")
        os.mkdir(datadir)
        os.chown(datadir, UID, UID)
        daemon = Daemon(self, Container(self, self.host, capabilities, no_new_privs),
                        datadir=datadir)
        self.daemons.append(daemon)
        self.assertIn(f"capture engine: {engine}", daemon.log)
        self.assertRegex(daemon.log, rf"sandbox: user uid {UID}, .*no_new_privs, not dumpable, "
                                     r"landlock ABI \d+, seccomp")
        client, accepted = connect(self, self.peer, PEER4, listen(self, self.host, HOST4))
        cookie = cookie_of(accepted)
        exchange(client, accepted)
        client.close()
        accepted.close()
        self.assertEqual(self.finish(daemon).keys(), {uuid_of(cookie)})

    def test_captures_with_two_capabilities(self):
        self.captures("bpf", "BPF", "NET_ADMIN")

    def test_captures_without_no_new_privs(self):
        self.captures("bpf", "BPF", "NET_ADMIN", no_new_privs=False)

    def test_captures_with_perfmon(self):
        self.captures("bpf", "BPF", "NET_ADMIN", "PERFMON")

    def test_captures_through_libpcap(self):
        self.captures("libpcap", "NET_RAW")

    def test_is_small(self):
        layers = json.loads(self.image["Manifest"])["layers"]
        self.assertEqual(len(layers), 2)  # the base, and what we add
        print(f"\n  {layers[1]['size'] / (1 << 20):.1f} MiB above the base", flush=True)
        self.assertLess(layers[1]["size"], MOST_BYTES_ADDED)
        programs = {program for folder in ("bin", "sbin")
                    for program in os.listdir(os.path.join(self.root, "usr", folder))}
        self.assertEqual(programs & {"cc", "gcc", "c++", "clang", "ld", "setcap"}, set())
        for folder in ("var/cache", "var/lib/apt/lists"):
            self.assertEqual(os.listdir(os.path.join(self.root, folder)), [])


if __name__ == "__main__":
    unittest.main()
