"""The environments of the other products, made once under ``.cache/`` with the versions pinned here."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "benchmarks"


async def peer_python() -> str:
    """Return the interpreter that has kailash-nexus."""
    return await _python("kailash-nexus")


async def fastmcp_python() -> str:
    """Return the interpreter that has fastmcp."""
    return await _python("fastmcp")


async def _python(name: str) -> str:
    return await asyncio.to_thread(_make, name)


def _make(name: str) -> str:
    folder = CACHE / name
    python, ready = folder / "bin" / "python", folder / "installed"
    pins = HERE / "requirements" / f"{name}.txt"
    if not ready.exists() or ready.read_text() != pins.read_text():
        print(f"Installing {name} in {os.path.relpath(folder)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)]
        subprocess.run(command, check=True, stdout=sys.stderr)
        ready.write_text(pins.read_text())
    return str(python)
