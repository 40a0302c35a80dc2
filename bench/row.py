"""What a measure tells: figures of ours and of others, the goal, and whether it is met."""

import statistics
from dataclasses import dataclass


@dataclass
class Figure:
    """The median of several runs, and their spread."""
    median: float
    low: float
    high: float
    unit: str


@dataclass
class Row:
    """One line of the table. The peers were measured in the same run; met is None if unknown."""
    measure: str
    how: str
    ours: Figure
    peers: dict[str, Figure]
    goal: str
    met: bool | None


def figure(values, unit):
    """The figure of the values that runs gave."""
    return Figure(statistics.median(values), min(values), max(values), unit)


def met(ours, limit, peer):
    """Whether limit(ours, peer's) holds of the medians; None where there is no such peer."""
    return None if peer is None else limit(ours.median, peer.median)
