"""What breaks under the daemon: disks, calls, power. And what is left in its files then."""

import ctypes
import errno
import fcntl
import mmap
import os
import re
import signal
import struct
import subprocess
import tempfile
import unittest
import zlib

import harness
import pcap
from harness import ENVIRONMENT, run

MIB = 1 << 20
FAILING_CALLS = os.path.abspath(os.environ.get(
    "FAILING_CALLS_LIBRARY",
    os.path.join(harness.HERE, "..", "..", "build", "tests", "libfailing_calls.so")))
LONGEST_LIFE_S = 30  # of a daemon beside, its end on a dead disk included
PART = ".part"  # the end of a hidden file's name


def seed(name):
    """The seed of a test's random moments, printed; SEED=... takes the place of a new one."""
    value = os.environ.get("SEED") or str(int.from_bytes(os.urandom(4), "little"))
    print(f"\n  {name}: SEED={value}", flush=True)
    return value


# Disks.

class Disk:
    """A file system that is mounted for a test, and unmounted after it."""

    def __init__(self, case, *arguments):
        self.path = tempfile.mkdtemp(prefix="disk-", dir=case.folder)
        self._arguments = arguments
        # Whatever still holds it: the mount goes now, and a loop device with its last user.
        case.addCleanup(run, "umount", "-q", "-l", self.path, check=False)
        self.mount()

    def mount(self):
        run("mount", *self._arguments, self.path)

    def unmount(self):
        run("umount", self.path)

    def remount(self, options):
        run("mount", "-o", f"remount,{options}", self.path)

    def fill(self, case):
        """Takes what room there is; returns the file that has it."""
        path = os.path.join(self.path, "other")
        with open(path, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                case.assertEqual(error.errno, errno.ENOSPC)
        return path


def tmpfs(case, options):
    return Disk(case, "-t", "tmpfs", "-o", options, "tmpfs")


class Ext4(Disk):
    """A new ext4 on a loop device."""

    _SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, of linux/ext4.h
    FLUSH_THE_LOG, LOSE_THE_LOG = 1, 2  # EXT4_GOING_FLAGS_LOGFLUSH, _NOLOGFLUSH

    def __init__(self, case, mib=128):
        with tempfile.NamedTemporaryFile(prefix="image-", dir=case.folder, delete=False) as file:
            file.truncate(mib * MIB)
        self._image = file.name
        run("mkfs.ext4", "-q", self._image)
        super().__init__(case, "-o", "loop", self._image)

    def unmount(self):
        """
        Until the device is gone: the mount of a process that ended goes a little later than the
        process, and while one is left the next mount is of the same file system, dead or alive. A
        daemon that was started elsewhere while this was mounted has one, too, as long as it lives.
        """
        super().unmount()
        harness.wait_until(lambda: run("losetup", "-j", self._image) == "", "the loop device goes",
                           LONGEST_LIFE_S)

    def cut_power(self, how):
        """What the device has not got yet is lost; every later access is an I/O error."""
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(folder, self._SHUTDOWN, struct.pack("=I", how))
        finally:
            os.close(folder)


# Failing calls.

def needs_failing_calls(test):
    """Skips, with the reason, where the library of failing_calls.c was not built."""
    found = os.path.exists(FAILING_CALLS)
    return unittest.skipUnless(found, f"no library at {FAILING_CALLS}")(test)


class FailingCalls:
    """Counts the calls that a daemon makes, from its main() on, and makes chosen ones fail."""

    # As in failing_calls.c.
    FUNCTIONS = ("open", "write", "fsync", "fdatasync", "syncfs", "rename", "mkdir", "mmap",
                 "malloc", "ftruncate")
    (_FAILING, _NTH, _EVERY, _ERROR, _ONLY_FILES, _FAILED, _FAILED_FILES,
     _CALLS) = range(8)

    def __init__(self, case, only_files=False):
        """With only_files, calls that are not about files of the data directory don't count."""
        with tempfile.NamedTemporaryFile(prefix="calls-", dir=case.folder, delete=False) as file:
            file.truncate(mmap.PAGESIZE)
            self._path = file.name
            self._words = memoryview(mmap.mmap(file.fileno(), mmap.PAGESIZE)).cast("I")
        self._words[self._ONLY_FILES] = only_files

    @property
    def wrapper(self):
        """The words before a command that has it loaded."""
        return "env", f"LD_PRELOAD={FAILING_CALLS}", f"FAILING_CALLS={self._path}"

    def fail(self, error, *functions, nth=0, every=0):
        """
        From now on their nth call since main() fails with this errno, or with 0 all of them; and
        behind the nth one in so many.
        """
        self._words[self._ERROR], self._words[self._NTH] = error, nth
        self._words[self._EVERY] = every
        self._words[self._FAILING] = sum(1 << self.FUNCTIONS.index(name) for name in functions)

    def heal(self):
        self._words[self._FAILING] = 0

    def calls(self, function):
        return self._words[self._CALLS + self.FUNCTIONS.index(function)]

    @property
    def failed(self):
        return self._words[self._FAILED]

    @property
    def failed_on_files(self):
        return self._words[self._FAILED_FILES]


# What is in files, by other code than the daemon's.

class _Buffer(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_void_p), ("size", ctypes.c_size_t), ("at", ctypes.c_size_t)]


def _unpack_zstd(data):
    """All that can be had of frames, and whether they are whole."""
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_createDStream.restype = ctypes.c_void_p
    zstd.ZSTD_decompressStream.restype = ctypes.c_size_t
    stream = ctypes.c_void_p(zstd.ZSTD_createDStream())
    room = ctypes.create_string_buffer(1 << 17)
    given = _Buffer(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
    unpacked, missing = b"", 0
    while True:
        taken = _Buffer(ctypes.cast(room, ctypes.c_void_p), len(room), 0)
        before = given.at
        missing = zstd.ZSTD_decompressStream(stream, ctypes.byref(taken), ctypes.byref(given))
        if zstd.ZSTD_isError(ctypes.c_size_t(missing)):
            break
        unpacked += room.raw[:taken.at]
        if given.at == before and taken.at == 0 or missing == 0 and given.at == len(data):
            break
    zstd.ZSTD_freeDStream(stream)
    return unpacked, missing == 0


def _unpack_gzip(data):
    """All that can be had of members, and whether they are whole."""
    unpacked = b""
    while data:
        member = zlib.decompressobj(31)
        try:
            unpacked += member.decompress(data)
        except zlib.error:
            return unpacked, False
        if not member.eof:
            return unpacked, False
        data = member.unused_data
    return unpacked, True


def unpack(path):
    """(The bytes that a file, hidden or not, holds when it is unpacked; whether it is whole)."""
    with open(path, "rb") as file:
        data = file.read()
    name = path.removesuffix(PART)
    if name.endswith(".zst"):
        return _unpack_zstd(data)
    if name.endswith(".gz"):
        return _unpack_gzip(data)
    return data, True


def whole_records(data):
    """The records at the start of a pcap's bytes that are whole, as (header, packet) bytes."""
    records, at = [], pcap.FILE_HEADER_BYTES
    while at + 16 <= len(data):
        end = at + 16 + struct.unpack_from("<I", data, at + 8)[0]
        if end > len(data):
            break
        records.append((data[at:at + 16], data[at + 16:end]))
        at = end
    return records


def hidden_files(datadir):
    """The paths of all temp files."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(datadir)
                  for name in names if name.startswith(".") and name.endswith(PART))


def records_in(path):
    """The whole records of a file, hidden or not; None when there is no such file."""
    try:
        return whole_records(unpack(path)[0])
    except FileNotFoundError:
        return None


def wait_until_salvaged(left):
    """
    left is {path of a hidden file: its records} before a start. Of these none stays as it was; a
    flow of the new life may have a hidden file of that name.
    """
    harness.wait_until(lambda: not any(records_in(path) == records
                                       for path, records in left.items()), "all are salvaged")


def stop(case, daemon, within=20):
    """
    Ends the daemon, which may have given up files and says so by its exit code; returns how many.
    """
    daemon.send_signal(signal.SIGTERM)
    code = daemon.wait_for_exit(within)
    told = re.search(r"saved \d+ files, (\d+) failed", daemon.log)
    case.assertTrue(told, daemon.log)
    failed = int(told[1])
    case.assertEqual(code, 1 if failed else 0, daemon.log)
    case.assert_books_close(daemon)
    return failed


def read_whole(case, path):
    """The pcap.PcapFile of a published file; fails unless it is whole, with a packet or more."""
    data, is_whole = unpack(path)
    case.assertTrue(is_whole, f"torn: {path}")
    case.assertNotIn(harness.MARKER, data, f"payload in {path}")
    content = pcap.parse(data, path)
    case.assertEqual(content.others, 0, f"records without a TCP header in {path}")
    case.assertGreater(len(content.records), 0, f"no packet in {path}")
    return content


def assert_tools_read(case, paths):
    """gzip and zstd find nothing wrong."""
    for tool, extension in (("gzip", ".gz"), ("zstd", ".zst")):
        packed = [path for path in paths if path.endswith(extension)]
        for start in range(0, len(packed), 1000):
            done = subprocess.run([tool, "-tq", *packed[start:start + 1000]], env=ENVIRONMENT,
                                  capture_output=True, text=True, check=False)
            case.assertEqual(done.returncode, 0, done.stderr)
