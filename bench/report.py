"""The table of all rows, on the terminal and in results.md, and the figures as data."""

import datetime
import json
import os
import platform
from dataclasses import asdict

from row import Figure, Row

HERE = os.path.dirname(os.path.abspath(__file__))
DATA, PAGE = (os.path.join(HERE, name) for name in ("results.json", "results.md"))
COLUMNS = "measure", "ours", "beside", "ratio", "goal", "met"
MET = {True: "yes", False: "**no**", None: ""}


def number(value):
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def shown(figure):
    """The median, the spread where there is one, and the unit."""
    spread = f" ({number(figure.low)}–{number(figure.high)})" if figure.low != figure.high else ""
    return f"{number(figure.median)}{spread} {figure.unit}"


def cells(row):
    """The lines of the table for a row: the first peer stands in the first."""
    peers = [(f"{name}: {shown(peer)}",
              f"{row.ours.median / peer.median:.2f}" if peer.median else "")
             for name, peer in row.peers.items()] or [("", "")]
    first, *others = peers
    return [(row.measure, shown(row.ours), *first, row.goal, MET[row.met]),
            *(("", "", *other, "", "") for other in others)]


def table(rows):
    """All rows in Markdown, aligned."""
    lines = [COLUMNS] + [line for row in rows for line in cells(row)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
            for line in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def methods(measured):
    """How the rows of each measure came about, a line each."""
    lines = []
    for name, rows in measured.items():
        hows = dict.fromkeys(row.how for row in rows)
        lines.append(f"- `{name}`: {'; '.join(hows)}.")
    return "\n".join(lines)


def flat(measured):
    """The rows of all measures, one after the other."""
    return [row for rows in measured.values() for row in rows]


def machine():
    """What the figures depend on."""
    model = platform.machine()
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    kernel = platform.release().split("-", maxsplit=1)[0]
    return {"kernel": kernel, "cores": os.cpu_count(), "cpu": model}


def _load():
    """{measure: {"date", "rows"}} of this machine, as measured before."""
    try:
        with open(DATA, encoding="utf-8") as file:
            stored = json.load(file)
    except FileNotFoundError:
        return {}
    return stored["measures"] if stored["machine"] == machine() else {}


def _row(stored):
    def figure(fields):
        return Figure(**fields)
    return Row(stored["measure"], stored["how"], figure(stored["ours"]),
               {name: figure(peer) for name, peer in stored["peers"].items()}, stored["goal"],
               stored["met"])


def save(measured, order):
    """
    Puts what was measured, {measure: rows}, in the place of what was measured before on this
    machine; what is of another one goes. Returns {measure: rows} of all.
    """
    measures = _load()
    today = datetime.date.today().isoformat()
    for measure, rows in measured.items():
        measures[measure] = {"date": today, "rows": [asdict(row) for row in rows]}
    measures = {name: measures[name] for name in order if name in measures}
    about = machine()
    with open(DATA, "w", encoding="utf-8") as file:
        json.dump({"machine": about, "measures": measures}, file, indent=1, ensure_ascii=False)
        file.write("\n")
    everything = {name: [_row(stored) for stored in one["rows"]] for name, one in measures.items()}
    dates = sorted({one["date"] for one in measures.values()})
    with open(PAGE, "w", encoding="utf-8") as file:
        file.write(f"""# Results

Written by `bench/run`; `docs/performance.md` says what follows from it.

Kernel {about["kernel"]}, {about["cores"]} cores, {about["cpu"]}; {" to ".join(dates[:1] + dates[1:][-1:])}.
Median of the rounds and, in brackets, their spread. What stands beside was measured in the same
rounds, by turns; the ratio is ours to theirs. µs are of one packet or one connection.

{table(flat(everything))}

{methods(everything)}
""")
    return everything
