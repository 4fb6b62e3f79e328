"""Places for the run engine, and processes that use them."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from pathlib import Path

import pytest
from nexus_dbos.engine import DbosRunEngine
from nexus_dbos.place import Database

PROGRAM = Path(__file__).with_name("program.py")
SECONDS = 40.0
numbers = count(1)


@pytest.fixture(autouse=True)
def _no_address_in_the_environment(monkeypatch):
    monkeypatch.delenv("POSTGRES_URL", raising=False)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_server").url
    return Database(tmp_path / "dbos.db", url, f"dbos_{next(numbers)}")


class Log:
    """What the runs of all processes have done: lists of time, process, kind and more."""

    def __init__(self, path):
        self.path = path

    def entries(self, kind=None):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [each for each in map(json.loads, lines) if kind in (None, each[2])]

    async def until(self, kind, wanted):
        """Wait until there are as many entries of a kind."""
        async with asyncio.timeout(SECONDS):
            while len(self.entries(kind)) < wanted:
                await asyncio.sleep(0.02)
        return self.entries(kind)


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path / "log")


class Process:
    """A process with the engine; see `program.py`."""

    def __init__(self, process):
        self.process, self._answers = process, {}
        self.ready = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stdout.readline():
            if line == b"ready\n":
                self.ready.set_result(None)
            else:
                number, value = json.loads(line)
                self._answers[number].set_result(value)

    async def ask(self, name, *arguments):
        number = len(self._answers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps([number, name, *arguments]).encode() + b"\n")
        return await asyncio.wait_for(self._answers[number], SECONDS)

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    async def close(self):
        if self.process.returncode is None:
            self.process.stdin.close()
            await asyncio.wait_for(self.process.wait(), SECONDS)
        self._reader.cancel()


@pytest.fixture
async def launch(place, log):
    """A function that starts a process; one that only starts runs where ``works`` is False."""
    started = []

    async def launch(executor, *, works=True):
        arguments = [place.file, place.url or "-", place.schema, executor, log.path if works else "-"]
        pipe = asyncio.subprocess.PIPE
        process = Process(
            await asyncio.create_subprocess_exec(sys.executable, PROGRAM, *map(str, arguments), stdin=pipe, stdout=pipe)
        )
        started.append(process)
        await asyncio.wait_for(process.ready, SECONDS)
        return process

    yield launch
    await asyncio.gather(*(each.close() for each in started))


@pytest.fixture
async def engine(place):
    """An engine of this process, not opened."""
    engine = DbosRunEngine(place, 0.02)
    yield engine
    await engine.close()
