"""Runs the benchmarks, prints a table and writes ``bench-results/<time>.json``. See README.md beside this file."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from figures import Row, table
from sections import FULL, QUICK, SECTIONS, Effort

RESULTS = Path(__file__).parents[2] / "bench-results"
TELLING = ("nexus-hub-", "hypercorn", "starlette", "mcp", "h11", "msgspec", "pydantic", "typer", "kailash")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--only", nargs="+", choices=[*SECTIONS], metavar="LETTER", help="some sections")
    parser.add_argument("--output", type=Path, help="where the JSON file goes")
    return parser.parse_args()


async def _measure(letters: list[str], effort: Effort) -> list[Row]:
    rows: list[Row] = []
    for letter in letters:
        section = SECTIONS[letter]
        missing = [plugin for plugin in section.needs if not find_spec(f"nexus_{plugin}")]
        begin = time.perf_counter()
        if missing:
            print(f"{letter}: left out, for want of the plugins {', '.join(missing)}", file=sys.stderr)
            continue
        try:
            rows += await section.run(effort)
        except Exception as exc:
            print(f"{letter}: could not be measured: {exc}", file=sys.stderr)
        print(f"{letter}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return sorted(rows, key=lambda row: row.section[0])


def _circumstances() -> dict[str, object]:
    installed = {d.metadata["Name"].lower(): d.version for d in distributions()}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "versions": {name: installed[name] for name in sorted(installed) if name.startswith(TELLING)},
    }


def main() -> None:
    """Measure, print, write."""
    given = _arguments()
    circumstances = _circumstances()
    rows = asyncio.run(_measure(given.only or [*SECTIONS], QUICK if given.quick else FULL))
    output = given.output or RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({**circumstances, "rows": [row.to_dict() for row in rows]}, indent=2) + "\n")
    print(table(rows))
    print(f"\nPython {circumstances['python']}, {circumstances['processors']} processors, {circumstances['system']}")
    print(", ".join(f"{name} {version}" for name, version in circumstances["versions"].items()))  # type: ignore[attr-defined]
    print(f"\nWritten to {output}")


if __name__ == "__main__":
    main()
