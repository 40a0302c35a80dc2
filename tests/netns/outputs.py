"""All that the daemon wrote, packed and unpacked, to be searched for what must not be there."""

import os
import subprocess
import zlib

from harness import ENVIRONMENT


def unpacked(path):
    """What a file holds, as far as it is whole: also of a file that is still being written."""
    with open(path, "rb") as file:
        data = file.read()
    name = os.path.basename(path).removesuffix(".part")
    if name.endswith(".gz"):
        return _gunzipped(data)
    if name.endswith(".zst"):
        return subprocess.run(["zstd", "-dcq"], input=data, env=ENVIRONMENT, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return data


def _gunzipped(data):
    pieces = []
    while data:
        member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        pieces.append(member.decompress(data))
        data = member.unused_data
    return b"".join(pieces)


def written(datadir):
    """{path: bytes} of all files, hidden ones too, as they lie on disk and unpacked."""
    found = {}
    for folder, _, names in os.walk(datadir):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[path] = file.read()
            found[path + " unpacked"] = unpacked(path)
    return found


def outputs(daemon):
    """The same, and what else one can see of a daemon: names, log, metrics while it runs."""
    found = written(daemon.datadir)
    found["names"] = "\n".join(found).encode()
    found["log"] = daemon.log.encode()
    if daemon.is_running:
        found["metrics"] = repr(daemon.metrics()).encode()
    return found
