"""Draws what the rows tell, by gnuplot, for docs/performance.md."""

import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "docs", "pictures")
COLORS = {"ours": "#1f6fb4", "tcpdump": "#d9822b", "dumpcap": "#8f6bb3"}
SETUP = """set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'
set output '{path}'
set border 3 lc '#666666'
set tics nomirror
set bmargin 4
set grid y lc '#dddddd' lt 1
set key outside top center horizontal
"""


def draw(measured):
    """
    Writes each picture of which {measure: rows} tells; without gnuplot none. Returns their paths.
    """
    if not shutil.which("gnuplot"):
        return []
    os.makedirs(FOLDER, exist_ok=True)
    drawn = []
    for name, picture in PICTURES.items():
        script = picture(measured)
        if not script:
            continue
        path = os.path.join(FOLDER, f"{name}.svg")
        setup = SETUP.format(path=path)
        subprocess.run(["gnuplot"], input=setup + script, text=True, check=True)
        drawn.append(os.path.relpath(path, os.path.join(HERE, "..")))
    return drawn


def _block(name, lines):
    """Data within a script."""
    return f"${name} << END\n" + "\n".join(lines) + "\nEND\n"


def _quoted(text):
    return '"' + text.replace('"', "'") + '"'


def _ns(figure):
    """The time of one thing, of a figure that is a time or a rate."""
    return {"ns": 1, "µs": 1000}.get(figure.unit, 0) * figure.median or 1000 / figure.median


STAGES = (  # (measure, what its row is called, what the picture calls it)
    ("kernel", "TC ingress, IPv4: settled", "hook,\\nsettled flow"),
    ("kernel", "TC ingress, IPv4: captured", "hook,\\ncaptured"),
    ("user", "records: 64 flows in turn", "flow table,\\n64 flows"),
    ("user", "records: 100,000 flows at random", "flow table,\\n100,000 flows"),
    ("bulk", "1 stream, offloads off: CPU of the capturing process a packet", "whole\\ndaemon"),
)


def cost(measured):
    """Nanoseconds that a packet takes, stage by stage, and in all beside others."""
    bars = []
    for measure, name, label in STAGES:
        for row in measured.get(measure, []):
            if row.measure == name:
                bars.append((label, _ns(row.ours), COLORS["ours"]))
                if measure == "bulk":
                    bars += [(peer, _ns(one), COLORS[peer]) for peer, one in row.peers.items()]
    if not bars:
        return None
    lines = [f"{index} {_quoted(label)} {ns:.0f} {int(color[1:], 16)}"
             for index, (label, ns, color) in enumerate(bars)]
    return _block("data", lines) + f"""set boxwidth 0.6
set style fill solid noborder
unset key
set tmargin 2
set xrange [-0.6:{len(bars) - 0.4}]
set yrange [0:*]
set ylabel 'ns of CPU a packet'
plot $data using 1:3:4:xtic(2) with boxes lc rgb variable, \\
  $data using 1:3:3 with labels offset 0,0.6
"""


def memory(measured):
    """Bytes for each flow, by how many there are."""
    series = {}
    for row in measured.get("memory", []):
        found = re.fullmatch(r"memory: (.*), of ([\d,]+)", row.measure)
        if found:
            series.setdefault(found[1], []).append((int(found[2].replace(",", "")), row.ours))
    if not series:
        return None
    blocks = "".join(_block(f"d{index}", [f"{flows} {one.median}" for flows, one in points])
                     for index, points in enumerate(series.values()))
    plots = ", ".join(f"$d{index} using 1:2 with linespoints pt 7 lw 2 title {_quoted(name)}"
                      for index, name in enumerate(series))
    return blocks + f"""set logscale x
set format x '10^{{%L}}'
set xlabel 'flows'
set ylabel 'bytes of memory for each'
set yrange [0:*]
plot {plots}
"""


def throughput(measured):
    """Shares of what the same transfer gets without a capture."""
    lines, names = [], []
    for row in [*measured.get("bulk", []), *measured.get("bulk_offloads", [])]:
        if not row.measure.endswith(": throughput"):
            continue
        by_name = {"ours": row.ours, **row.peers}
        none = by_name.pop("none")
        names = names or list(by_name)
        label = row.measure.removesuffix(": throughput").replace(", ", "\\n")
        lines.append(" ".join([_quoted(label), *(
            f"{100 * by_name[name].median / none.median:.1f}" for name in names)]))
    if not lines:
        return None
    plots = ", ".join(
        f"$data using {column}:xtic(1) title '{name}' lc rgb '{COLORS[name]}'"
        for column, name in enumerate(names, 2))
    return _block("data", lines) + f"""set style data histograms
set style histogram clustered gap 1
set style fill solid noborder
set yrange [0:110]
set ylabel '% of the throughput without a capture'
plot {plots}
"""


def loss(measured):
    """Lost packets by the rate at which they come."""
    series = {}
    for row in measured.get("flood", []):
        found = re.fullmatch(r"(.*), ([\d,]+) a second.*: lost", row.measure)
        if not found:
            continue
        rate = int(found[2].replace(",", ""))
        for name, figure in {"ours": row.ours, **row.peers}.items():
            series.setdefault((found[1], name), []).append((rate, figure.median))
    if not series:
        return None
    blocks, plots = "", []
    for index, ((kind, name), points) in enumerate(series.items()):
        blocks += _block(f"d{index}", [f"{rate / 1000} {lost}" for rate, lost in sorted(points)])
        dashed = " dt 2" if kind.startswith("SYN") else ""
        plots.append(f"$d{index} using 1:2 with linespoints pt 7 ps 0.6 lw 2{dashed} "
                     f"lc rgb '{COLORS[name]}' title {_quoted(f'{name}: {kind}')}")
    most = max(lost for points in series.values() for _, lost in points)
    return blocks + f"""set xlabel 'thousand packets a second'
set ylabel '% of the packets lost'
set xrange [0:*]
set yrange [0:{max(1, 1.1 * most)}]
set key at graph 0.03, graph 0.97 left top vertical reverse Left
plot {", ".join(plots)}
"""


PICTURES = {"cost": cost, "throughput": throughput, "memory": memory, "loss": loss}
