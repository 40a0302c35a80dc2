"""
Draws the flow of a file for docs/analysis.md: the time-sequence graph of tcptrace, which Wireshark
has as well, and the round trips that tshark finds.
"""

import os
import subprocess
import tempfile

from harness import ENVIRONMENT

COLORS = {"white": "#1f6fb4", "red": "#cc2222", "green": "#3a9a3a", "yellow": "#c9a227",
          "purple": "#8f6bb3"}
NAMES = {"white": "segments", "red": "retransmitted", "green": "acknowledged", "yellow": "window",
         "purple": "SACK"}
SETUP = """set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'
set output '{path}'
set border 3 lc '#666666'
set tics nomirror
set grid lc '#dddddd' lt 1
set key outside top center horizontal
set xlabel 'seconds'
"""
END_S, END_BYTES = 0.2, 550_000  # of the first picture


def draw(path, folder):
    for name, draws in (("time-sequence", _time_sequence), ("round-trips", _round_trips)):
        setup = SETUP.format(path=os.path.join(folder, f"{name}.svg"))
        subprocess.run(["gnuplot"], input=setup + draws(path), text=True, check=True)


def _time_sequence(path):
    """What tcptrace made for xplot, as gnuplot wants it."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tcptrace", "-S", f"--output_dir={folder}", path], env=ENVIRONMENT,
                       check=True, capture_output=True)
        with open(os.path.join(folder, "a2b_tsg.xpl"), encoding="ascii") as file:
            commands = [line.split() for line in file]
    lines, color, first = {name: [] for name in COLORS}, "white", None
    for words in filter(None, commands):
        if words[0] in COLORS and len(words) == 1:
            color = words[0]
        elif words[0] == "line":
            here, there = (float(words[1]), int(words[2])), (float(words[3]), int(words[4]))
            first = first or here
            begin, low = here[0] - first[0], here[1] - first[1]
            if 0 <= begin < END_S and 0 <= low < END_BYTES:
                lines[color].append(f"{begin} {low} {there[0] - here[0]} {there[1] - here[1]}")
    lines = {name: of for name, of in lines.items() if of}
    script = "".join(_block(name, "\n".join(of) + "\n") for name, of in lines.items())
    plots = [f"${name} with vectors nohead lw 3 lc '{COLORS[name]}' title '{NAMES[name]}'"
             for name in lines]
    return (f"{script}set ylabel 'sequence number'\nset xrange [0:{END_S}]\nset yrange [0:]\n"
            f"plot {', '.join(plots)}\n")


def _round_trips(path):
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-Y", "tcp.analysis.ack_rtt", "-T", "fields",
         "-e", "frame.time_relative", "-e", "tcp.analysis.ack_rtt"],
        env={**ENVIRONMENT, "HOME": "/nonexistent"}, check=True, capture_output=True, text=True)
    return (_block("trips", done.stdout) + "set ylabel 'round-trip time, ms'\nset yrange [0:]\n"
            f"plot $trips using 1:($2*1000) with points pt 7 ps 0.3 lc '{COLORS['white']}' "
            "notitle\n")


def _block(name, lines):
    """Data within a script."""
    return f"${name} << END\n{lines}END\n"
