"""The pages of the documentation, and how what they show is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    """Return the environment without options for Nexus."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")} | more


def run_blocks(page: str, folder: Path) -> None:
    """Write each block that names its file; run the others, in order, beside those files.

    Where every block names its file, the files are run.
    """
    written, scripts = [], []
    for number, block in enumerate(python_blocks(page)):
        named = re.match(r"# (\S+\.py)\n", block)
        target = folder / (named[1] if named else f"block_{number}.py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(block, encoding="utf-8")
        (written if named else scripts).append(target)
    for script in scripts or written:
        env = environment(PYTHONPATH=str(folder), PYTHONWARNINGS="error::RuntimeWarning")
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=folder, env=env
        )
        assert done.returncode == 0, f"{page}: {done.stderr}"
