"""Platforms in processes of their own that start quickly: forked from one that has imported everything.

Each runs ``nexus`` as the script does, with an environment and a folder of its own. A start takes a tenth of the
processor time of a fresh interpreter, so that a test may start dozens.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from served_process import clean_environment

PARENT = """
import ctypes, gc, json, os, signal, sys, threading
from importlib.metadata import entry_points
import nexus_core.__main__, asyncpg, dbos, hypercorn.asyncio, mcp.server, nexus_cli.server, psycopg
import sqlalchemy.dialects.postgresql, sqlalchemy.dialects.sqlite
for each in entry_points(group="nexus.plugins"):
    each.load()
assert threading.active_count() == 1, "a process with threads can't be forked"
gc.collect()
gc.freeze()


def die_with_parent():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def fork(folder, environment, arguments, output):
    pid = os.fork()
    if pid:
        return pid
    try:
        die_with_parent()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        for number in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["nexus", *arguments]
        os._exit(nexus_core.__main__.main(arguments) or 0)
    except SystemExit as exc:
        os._exit(exc.code if isinstance(exc.code, int) else 1)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)


def end(pid, number):
    os.kill(pid, number)  # nobody else waits for it: the id is still its own
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


commands, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
for line in commands:
    name, *given = json.loads(line)
    print(json.dumps({"fork": fork, "end": end}[name](*given)), file=answers, flush=True)
"""


class ForkedProcesses:
    """Starts and ends them. All end with this object, or with the process that made it."""

    def __init__(self) -> None:
        self._living: set[int] = set()
        self._parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean_environment(),
            text=True,
        )  # fmt: skip

    def start(self, folder: Path, name: str, options: dict[str, str], arguments: list[str]) -> int:
        """Start one and return its process id.

        Args:
            folder: Where it runs, and where its output goes: ``NAME.log``.
            name: Names the file of its output.
            options: Environment variables.
            arguments: What follows ``nexus``.
        """
        log = str(folder / f"{name}.log")
        pid = int(self._ask("fork", str(folder), clean_environment() | options, arguments, log))
        self._living.add(pid)
        return pid

    def end(self, pid: int, number: int) -> int:
        """Send one a signal, wait for its end, and return its exit code. One that was ended is left alone."""
        if pid not in self._living:
            return 0
        self._living.remove(pid)
        return int(self._ask("end", pid, number))

    def lives(self, pid: int) -> bool:
        """Whether one has not ended by itself."""
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return status != "Z"

    def close(self) -> None:
        """End all of them."""
        self._parent.kill()
        self._parent.wait()
        for pipe in (self._parent.stdin, self._parent.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, *words: Any) -> Any:
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(words) + "\n")
        self._parent.stdin.flush()
        return json.loads(self._parent.stdout.readline())
