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
NAMES = {"white": "segments", "red": "sent again", "green": "acknowledged", "yellow": "window",
         "purple": "SACK"}
SETUP = """set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'
set output '{path}'
set border 3 lc '#666666'
set tics nomirror
set grid lc '#dddddd' lt 1
set key outside top center horizontal
set xlabel 'seconds'
"""
BEGIN_S, END_S = 0.0, 0.3  # of the first picture


def draw(path, folder):
    for name, script in (("time-sequence", _time_sequence(path)), ("round-trips",
                                                                   _round_trips(path))):
        setup = SETUP.format(path=os.path.join(folder, f"{name}.svg"))
        subprocess.run(["gnuplot"], input=setup + script, text=True, check=True)


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
            times, numbers = map(float, words[1::2]), map(int, words[2::2])
            (begin, end), (low, high) = list(times)[:2], list(numbers)[:2]
            first = first or (begin, low)
            begin, end, low, high = begin - first[0], end - first[0], low - first[1], high - first[1]
            if BEGIN_S <= begin < END_S and low >= 0:
                lines[color].append(f"{begin} {low} {end - begin} {high - low}")
    blocks = "".join(f"${name} << END\n" + "\n".join(of) + "\nEND\n"
                     for name, of in lines.items() if of)
    plots = ", ".join(f"${name} with vectors nohead lw 2 lc '{COLORS[name]}' title '{NAMES[name]}'"
                      for name, of in lines.items() if of)
    return f"{blocks}set ylabel 'sequence number'\nset xrange [{BEGIN_S}:{END_S}]\nplot {plots}\n"


def _round_trips(path):
    done = subprocess.run(
        ["tshark", "-n", "-r", path, "-Y", "tcp.analysis.ack_rtt", "-T", "fields",
         "-e", "frame.time_relative", "-e", "tcp.analysis.ack_rtt"],
        env={**ENVIRONMENT, "HOME": "/nonexistent"}, check=True, capture_output=True, text=True)
    return (f"$trips << END\n{done.stdout}END\nset ylabel 'round trip, ms'\nset yrange [0:]\n"
            f"plot $trips using 1:($2*1000) with points pt 7 ps 0.3 lc '{COLORS['white']}' notitle\n")
