"""Debian's archive, for what is used without being installed."""

import os
import shutil
import subprocess
import unittest

from harness import ENVIRONMENT, HERE, run

BUILD = os.path.join(HERE, "..", "..", "build")


def mirror():
    """The mirror that this machine uses."""
    found = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
                "Origin: Debian", "Label: Debian", check=False)
    return (found.split() or ["http://deb.debian.org/debian"])[0].rstrip("/")


def tool(package, name):
    """
    The path of a program; where it isn't installed that of one in the package, which is unpacked
    into build/ and stays there. Skips the test where the package can't be had.
    """
    if installed := shutil.which(name, path=ENVIRONMENT["PATH"]):
        return installed
    unpacked = os.path.join(BUILD, package)
    if not os.path.exists(unpacked):
        part = unpacked + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        fetched = subprocess.run(["apt-get", "-qq", "download", package], cwd=part, text=True,
                                 env=ENVIRONMENT, capture_output=True, check=False)
        if fetched.returncode != 0:
            raise unittest.SkipTest(f"Debian's {package} can't be fetched: {fetched.stderr}")
        file, = os.listdir(part)
        run("dpkg-deb", "-x", os.path.join(part, file), part)
        os.rename(part, unpacked)
    return os.path.join(unpacked, "usr", "bin", name)
