"""Draws what the rows tell, by gnuplot, for docs/performance.md."""

import os
import re
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "..", "docs", "pictures")
COLORS = {"ours": "#1f6fb4", "tcpdump": "#d9822b", "dumpcap": "#8f6bb3", "bare": "#999999"}
SETUP = """set terminal svg size 760,{height} font 'sans-serif,13' background '#ffffff'
set output '{path}'
set border 3 lc '#666666'
set tics nomirror
set grid y lc '#dddddd' lt 1
set key outside top center horizontal
"""


def draw(rows):
    """Writes each picture for which there are rows; without gnuplot none. Returns their paths."""
    if not shutil.which("gnuplot"):
        return []
    os.makedirs(FOLDER, exist_ok=True)
    drawn = []
    for name, picture in PICTURES.items():
        script = picture(rows)
        if not script:
            continue
        path = os.path.join(FOLDER, f"{name}.svg")
        setup = SETUP.format(path=path, height=420)
        subprocess.run(["gnuplot"], input=setup + script, text=True, check=True)
        drawn.append(os.path.relpath(path, os.path.join(HERE, "..")))
    return drawn


def _block(name, lines):
    """Data within a script."""
    return f"${name} << END\n" + "\n".join(lines) + "\nEND\n"


def _quoted(text):
    return '"' + text.replace('"', "'") + '"'


def _in_ns(figure):
    return figure.median * {"ns": 1, "µs": 1000}[figure.unit.split("/")[0].split()[0]]


def throughput(rows):
    """Shares of what the same transfer gets without a capture."""
    lines, names = [], []
    for row in rows:
        none = row.peers.get("none")
        if row.measure not in ("bulk", "bulk_offloads") or not row.how.endswith(": throughput"):
            continue
        by_name = {"ours": row.ours, **row.peers}
        names = names or [name for name in by_name if name != "none"]
        label = row.how.removesuffix(": throughput").replace(", ", "\\n")
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


def loss(rows):
    """Lost packets by the rate at which they come."""
    series = {}
    for row in rows:
        found = re.fullmatch(r"(.*), ([\d,]+) a second.*: lost", row.how)
        if row.measure != "flood" or not found:
            continue
        rate = int(found[2].replace(",", ""))
        for name, figure in {"ours": row.ours, **row.peers}.items():
            series.setdefault((found[1], name), []).append((rate, figure))
    if not series:
        return None
    blocks, plots = "", []
    for index, ((kind, name), points) in enumerate(series.items()):
        blocks += _block(f"d{index}", [
            f"{rate / 1000} {figure.median} {figure.low} {figure.high}"
            for rate, figure in sorted(points, key=lambda point: point[0])])
        dashed = " dt 2" if kind.startswith("SYN") else ""
        plots.append(f"$d{index} using 1:2 with linespoints pt 7 ps 0.6 lw 2{dashed} "
                     f"lc rgb '{COLORS.get(name, '#999999')}' title {_quoted(f'{name}: {kind}')}")
    return blocks + f"""set xlabel 'thousand packets a second'
set ylabel '% of the packets lost'
set xrange [0:*]
set yrange [0:*]
set key at graph 0.03, graph 0.97 left top vertical
plot {", ".join(plots)}
"""


PICTURES = {"throughput": throughput, "loss": loss}
