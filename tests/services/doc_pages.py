"""The pages of the documentation, and how what they show is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md"))

LONGEST_SECONDS = 60

RUNNER = """
import json, os, runpy, signal, sys, traceback
import httpx2, msgspec, nexus_core.app.nexus, nexus_core.app.lifecycle, nexus_core.schema.validation, pydantic

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 1
        signal.alarm(job["seconds"])
        try:
            os.chdir(job["folder"])
            output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1), os.dup2(output, 2)
            sys.path.insert(0, job["folder"])
            sys.argv = [job["script"]]
            runpy.run_path(job["script"], run_name=job["name"])
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1 if exc.code else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def environment(**more: str) -> dict[str, str]:
    """Return the environment without options for Nexus."""
    return {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")} | more


class Pages:
    """Runs what pages show, each script in a process of its own: the fork of one that has imported what most import."""

    def __init__(self) -> None:
        self._runner = subprocess.Popen(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", RUNNER], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        self._runner.communicate(timeout=LONGEST_SECONDS)

    def run(self, page: str, folder: Path) -> None:
        """Write each block that names its file; run the others, in order, beside those files.

        Where every block names its file, the files are run as modules: what they do as programs is for other tests.
        """
        written, scripts = [], []
        for number, block in enumerate(python_blocks(page)):
            named = re.match(r"# (\S+\.py)\n", block)
            target = folder / (named[1] if named else f"block_{number}.py")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block, encoding="utf-8")
            (written if named else scripts).append(target)
        for script in scripts or written:
            self._run(page, folder, script, "__main__" if scripts else script.stem)

    def _run(self, page: str, folder: Path, script: Path, name: str) -> None:
        assert self._runner.stdin
        assert self._runner.stdout
        job = {"folder": str(folder), "script": str(script), "name": name, "seconds": LONGEST_SECONDS}
        print(json.dumps(job), file=self._runner.stdin, flush=True)
        code = self._runner.stdout.readline().strip()
        assert code == "0", f"{page}, {script.name} ({code}): {(folder / 'output.txt').read_text()}"
