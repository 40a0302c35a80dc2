"""All that tells of the flags agrees with the program: README, man page, completions, defaults."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import time
import unittest

BINARY = os.environ["PACKET_HEADERS_BINARY"]
DOCUMENTS = os.environ["DOCUMENTS"]  # the folder of those that are generated
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DEFAULTS = os.path.join(ROOT, "deploy", "systemd", "packet-headers.default")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


def output_of(*command, **options):
    return subprocess.run(command, check=True, text=True, capture_output=True, **options).stdout


def needs(name):
    return unittest.skipUnless(shutil.which(name), f"{name} isn't installed")


def flags_in(text):
    """The flags that a list of them explains: each begins a line, with its value or without."""
    return set(re.findall(r"^ *-([a-z][\w.-]*)", text, re.M))


class Shell:
    """An interactive shell that has the completion, on a terminal of its own."""

    WIDTH = 200

    def __init__(self, case, *command, setup):
        pid, self._terminal = pty.fork()
        if pid == 0:
            environment = {"PATH": os.environ["PATH"], "TERM": "dumb", "COLUMNS": str(self.WIDTH),
                           "LC_ALL": "C", "HOME": case.folder, "ZDOTDIR": case.folder}
            os.chdir(case.folder)
            os.execvpe(command[0], command, environment)
        case.addCleanup(os.close, self._terminal)
        case.addCleanup(os.waitpid, pid, 0)
        case.addCleanup(os.kill, pid, 9)
        self._type(setup + "; PS1=; echo 'set'' up'\n")
        self._read_until("set up")

    def _type(self, text):
        os.write(self._terminal, text.encode())

    def _read_until(self, pattern):
        """Waits until it was shown; returns the match."""
        shown, deadline = "", time.monotonic() + 20
        while not (found := re.search(pattern, shown)):
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            if not ready:
                raise AssertionError(f"{pattern!r} not in what the shell shows: {shown!r}")
            with contextlib.suppress(OSError):
                shown += os.read(self._terminal, 4096).decode(errors="replace")
        return found

    def complete(self, line):
        """The arguments that `line` and a TAB become."""
        self._type(line + "\t")
        # To the start of the line, where a command goes that shows what the line is made of.
        self._type("\x01printf '\\074%s\\076' \n")
        return re.findall("<(.*?)>", self._read_until(r"(<packet-headers>.*)>")[0])[1:]


class Documents(unittest.TestCase):

    def setUp(self):
        self.flags = flags_in(output_of(BINARY, "-help"))
        self.assertIn("capture.hook", self.flags)

    def test_readme(self):
        readme = read(ROOT, "README.md")
        made = output_of(os.path.join(DOCUMENTS, "flag_documents"), "readme", input=readme)
        self.assertEqual(readme, made, "build/deploy/flag_documents readme < README.md")

    def test_compatibility(self):
        """Each flag is compared, or named as new."""
        named = re.findall(r"`-([a-z][\w.-]*)`", read(ROOT, "docs", "compatibility.md"))
        self.assertEqual(self.flags - set(named), set())

    def test_defaults(self):
        variables = set(re.findall(r"environment ([A-Z0-9_]+)", " ".join(
            output_of(BINARY, "-help").split())))
        named = set(re.findall(r"^#([A-Z0-9_]+)=", read(DEFAULTS), re.M))
        self.assertIn("INTERFACE", named)
        self.assertLessEqual(named, variables)

    @needs("man")
    def test_man_page(self):
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", os.path.join(DOCUMENTS, "packet-headers.8")],
            env={**os.environ, "LC_ALL": "C.UTF-8", "MANROFFSEQ": "", "MANWIDTH": "200"},
            text=True, capture_output=True, check=True)
        self.assertEqual(done.stderr, "")
        text = re.sub(".\b", "", done.stdout)
        self.assertEqual(flags_in(text), self.flags)


class Completion(unittest.TestCase):

    def setUp(self):
        self.folder = output_of("mktemp", "-d").strip()
        self.addCleanup(shutil.rmtree, self.folder)
        with open(os.path.join(self.folder, "capture file"), "wb"):
            pass

    def assert_completes(self, shell):
        for line, completed in ((" -captured", ["-captureduration"]),
                                (" -datad", ["-datadir"]),  # or -datadirmode
                                (" -str", ["-stream"]),
                                (" --help", ["--help"]),
                                (" -capture.hook=t", ["-capture.hook=tcx"]),
                                (" -stream -capture.hook=cls", ["-stream", "-capture.hook=clsact"]),
                                (" -capture.hook c", ["-capture.hook", "clsact"]),
                                (" -user=daemo", ["-user=daemon"]),
                                (" -interface=l", ["-interface=lo"]),
                                (" -read cap", ["-read", "capture file"]),
                                (" -maxflows=", ["-maxflows"])):
            with self.subTest(line=line):
                words = shell.complete("packet-headers" + line)
                self.assertEqual([word.rstrip("=") for word in words], completed)

    def test_bash(self):
        script = os.path.join(DOCUMENTS, "packet-headers.bash")
        shell = Shell(self, "bash", "--norc",
                      setup=f"bind 'set enable-bracketed-paste off'; . {script}")
        self.assert_completes(shell)

    @needs("zsh")
    def test_zsh(self):
        shutil.copy(os.path.join(DOCUMENTS, "packet-headers.zsh"),
                    os.path.join(self.folder, "_packet-headers"))
        shell = Shell(self, "zsh", "-f", setup="bindkey -e; unsetopt zle_bracketed_paste; "
                      "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D")
        self.assert_completes(shell)


if __name__ == "__main__":
    unittest.main()
