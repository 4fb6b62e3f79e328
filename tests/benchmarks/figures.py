"""Paired measurements: two things are measured in turn, and each pair gives one ratio.

What else the machine does changes from second to second, and hits both members of a pair alike. The median of the
pairs' ratios is what counts; absolute figures are for orientation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

Measure = Callable[[], Awaitable[dict[str, float]]]
"""Measures once and returns figures by name; ``value`` is the one that is compared."""


@dataclass
class Row:
    """One comparison, or one figure where ``against`` is empty.

    Attributes:
        section: The letter and name of its section.
        name: What is measured.
        against: What it is compared with.
        unit: Of ``ours`` and ``theirs``.
        target: The ratio to reach.
        better: Whether a higher or a lower ratio is better.
        ours, theirs: Every round's figures.
        note: What a reader should know.
    """

    section: str
    name: str
    against: str = ""
    unit: str = "requests/s"
    target: float | None = None
    better: Literal["higher", "lower"] = "higher"
    ours: list[dict[str, float]] = field(default_factory=list)
    theirs: list[dict[str, float]] = field(default_factory=list)
    note: str = ""

    def ratios(self, figure: str = "value") -> list[float]:
        """Return ours / theirs, pair by pair."""
        pairs = zip(self.ours, self.theirs, strict=False)
        return [ours[figure] / theirs[figure] for ours, theirs in pairs if theirs.get(figure)]

    def ratio(self, figure: str = "value") -> float | None:
        """Return the median of the pairs' ratios."""
        ratios = self.ratios(figure)
        return median(ratios) if ratios else None

    def passed(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        ratio = self.ratio()
        if self.target is None or ratio is None:
            return None
        return ratio >= self.target if self.better == "higher" else ratio <= self.target

    def median_of(self, side: Literal["ours", "theirs"], figure: str = "value") -> float | None:
        """Return the median of one side's figures."""
        values = [each[figure] for each in getattr(self, side) if figure in each]
        return median(values) if values else None

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for the JSON file."""
        return {
            "section": self.section, "name": self.name, "against": self.against, "unit": self.unit,
            "target": self.target, "better": self.better, "passed": self.passed(), "ratio": self.ratio(),
            "ratios": self.ratios(), "cpu_ratio": self.ratio("cpu_us"), "ours": self.ours, "theirs": self.theirs,
            "note": self.note,
        }  # fmt: skip


async def paired(row: Row, ours: Measure, theirs: Measure, rounds: int) -> Row:
    """Measure both in turn, each first as often as the other, and keep the figures in the row."""
    for number in range(rounds):
        if number % 2:
            row.theirs.append(await theirs())
            row.ours.append(await ours())
        else:
            row.ours.append(await ours())
            row.theirs.append(await theirs())
    return row


def table(rows: list[Row]) -> str:
    """Return the rows as text for a terminal."""
    cells = [["", "measured", "Nexus", "other", "unit", "ratio (min to max)", "CPU", "target", ""]]
    section = ""
    for row in rows:
        if row.section != section:
            section = row.section
            cells.append([section, *[""] * 8])
        cells.append(["", *_cells(row)])
    widths = [max(len(line[column]) for line in cells if line[1]) for column in range(9)]
    lines = []
    for line in cells:
        if line[0]:
            lines.append(f"\n{line[0]}")
        else:
            lines.append("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    ratios, cpu, passed = row.ratios(), row.ratio("cpu_us"), row.passed()
    sign = ">=" if row.better == "higher" else "<="
    spread = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else ""
    return [
        f"{row.name} / {row.against}" if row.against else row.name,
        _number(row.median_of("ours")),
        _number(row.median_of("theirs")),
        row.unit,
        spread,
        f"{cpu:.2f}" if cpu else "",
        f"{sign} {row.target:g}" if row.target else "",
        {True: "pass", False: "FAIL", None: row.note}[passed],
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
