"""Programs of others at the hooks that the daemon uses, by bpf(2) alone."""

import ctypes
import os
import re
import socket
import struct

from harness import _SYS_BPF, _libc

PROG_LOAD, LINK_CREATE, LINK_DETACH, PROG_QUERY = 5, 28, 34, 16
SCHED_CLS, XDP = 3, 6  # types of programs
ATTACH_XDP, ATTACH_TCX_INGRESS, ATTACH_TCX_EGRESS = 37, 46, 47
BEFORE, AFTER = 1 << 3, 1 << 4  # where in a TCX chain: of all that are there
XDP_DRIVER_MODE = 1 << 2
XDP_PASS, TCX_NEXT, TCX_DROP = 2, -1, 2


def _bpf(command, attributes):
    """bpf(2); attributes are padded with what the kernel takes as not given."""
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = _libc.syscall(_SYS_BPF, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def load(case, program_type, returns):
    """The descriptor of a program that returns so."""
    code = struct.pack("=BBhi", 0xB7, 0, 0, returns) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    instructions = ctypes.create_string_buffer(code, len(code))
    license_text = ctypes.create_string_buffer(b"GPL")
    fd = _bpf(PROG_LOAD, struct.pack("=IIQQ", program_type, 2, ctypes.addressof(instructions),
                                     ctypes.addressof(license_text)))
    case.addCleanup(os.close, fd)
    return fd


def link(case, namespace, interface, program, attach_type, flags):
    """The descriptor of a link that attaches a program to an interface."""
    with namespace.entered():
        ifindex = socket.if_nametoindex(interface)
        fd = _bpf(LINK_CREATE, struct.pack("=IIII", program, ifindex, attach_type, flags))
    case.addCleanup(os.close, fd)
    return fd


def field_of(fd, name, pid="self"):
    """A number that /proc tells of a descriptor, such as prog_id; None if it has no such field."""
    with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
        found = re.search(rf"^{name}:\s*(\d+)$", file.read(), re.M)
    return int(found[1]) if found else None


def ids_of(pid, name):
    """That number of all descriptors of a process that have it, such as link_id of its links."""
    ids = []
    for fd in os.listdir(f"/proc/{pid}/fdinfo"):
        try:
            ids.append(field_of(fd, name, pid))
        except FileNotFoundError:  # closed meanwhile
            pass
    return [one for one in ids if one is not None]
