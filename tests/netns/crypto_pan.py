"""Crypto-PAn once more, one bit after the other, to judge the daemon's by."""

import socket
import subprocess

from harness import ENVIRONMENT
from peers import family_of


def _encrypted(key, blocks):
    """AES-128 of each block, by another library than the daemon's."""
    return subprocess.run(["openssl", "enc", "-aes-128-ecb", "-nopad", "-K", key.hex()],
                          env=ENVIRONMENT, input=blocks, stdout=subprocess.PIPE, check=True).stdout


def pseudonym(key, address):
    """The packed address that stands for a textual one; key has 32 bytes."""
    packed = socket.inet_pton(family_of(address), address)
    size = 8 * len(packed)
    bits = f"{int.from_bytes(packed, 'big'):0{size}b}"
    pad = f"{int.from_bytes(_encrypted(key[:16], key[16:]), 'big'):0128b}"
    blocks = b"".join(int(bits[:at] + pad[at:], 2).to_bytes(16, "big") for at in range(size))
    encrypted = _encrypted(key[:16], blocks)
    flips = "".join(str(encrypted[16 * at] >> 7) for at in range(size))
    return (int(bits, 2) ^ int(flips, 2)).to_bytes(len(packed), "big")
