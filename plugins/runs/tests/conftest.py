"""Places for run stores, and processes that use them."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import count
from pathlib import Path

import pytest
from nexus_runs.postgres_store import PostgresRunStore
from nexus_runs.sqlite_store import SqliteRunStore

PROGRAM = Path(__file__).with_name("program.py")
SECONDS = 40.0
numbers = count(1)


@pytest.fixture(autouse=True)
def _no_address_in_the_environment(monkeypatch):
    monkeypatch.delenv("POSTGRES_URL", raising=False)


class Place:
    """Where a store keeps runs: its kind, what the program is told, and how a store of this process is made."""

    def __init__(self, kind, argument, make):
        self.kind, self.argument, self.make = kind, argument, make


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        path = tmp_path / "runs.db"
        return Place("sqlite", str(path), lambda **options: SqliteRunStore(path, **options))
    url, schema = request.getfixturevalue("postgres_server").url, f"shared_{next(numbers)}"
    return Place("postgres", f"{url}#{schema}", lambda **options: PostgresRunStore(url, schema, **options))


class Process:
    """A process with a store; see `program.py`."""

    def __init__(self, process):
        self.process = process
        self._answers = {}
        self._reader = asyncio.create_task(self._read())

    async def _read(self):
        while line := await self.process.stdout.readline():
            if line != b"ready\n":
                number, value = json.loads(line)
                self._answers[number].set_result(value)

    def start(self, name, *arguments):
        number = len(self._answers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps([number, name, *arguments]).encode() + b"\n")
        return self._answers[number]

    async def ask(self, name, *arguments):
        return await asyncio.wait_for(self.start(name, *arguments), SECONDS)

    async def kill(self):
        self.process.kill()
        await self.process.wait()

    async def close(self):
        self._reader.cancel()
        if self.process.returncode is None:
            self.process.stdin.close()
            await asyncio.wait_for(self.process.wait(), SECONDS)


@pytest.fixture
async def start(place):
    """A function that starts a process with a store of `place`."""
    started = []

    async def start(executor):
        command = [sys.executable, str(PROGRAM), place.kind, place.argument, executor]
        pipe = asyncio.subprocess.PIPE
        process = Process(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
        started.append(process)
        return process

    yield start
    for process in started:
        if process.process.returncode is None and sys.exc_info()[0] is not None:
            await process.kill()
        await process.close()


@pytest.fixture
async def store(place):
    """An open store of this process."""
    store = place.make()
    await store.open("tests")
    yield store
    await store.close()
