"""An application whose steps say that they have begun, and wait until the test lets them end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

GATED = """
import asyncio, os
from pathlib import Path
from nexus_core import Context, Nexus

nexus = Nexus()
FOLDER = Path(__file__).parent

async def do(number: int) -> int:
    with open(FOLDER / "done.txt", "a") as done:
        done.write(f"{os.getpid()} {number}\\n")
    while not (FOLDER / f"gate-{number}").exists():
        await asyncio.sleep(0.02)
    return number
"""
"""The beginning of the application. Workflows follow; a step ends once there is a file for its number."""


def begun(folder: Path, times: int, seconds: float = 60.0) -> list[tuple[int, int]]:
    """Wait until steps have begun so often, and return the process and the number of each."""
    path, end = folder / "done.txt", time.monotonic() + seconds
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) >= times:
            return [(int(pid), int(number)) for pid, number in map(str.split, lines)]
        assert time.monotonic() < end, lines
        time.sleep(0.02)
