"""A process with the run engine, for tests of several: ``python program.py FILE URL SCHEMA EXECUTOR LOG|-``.

Without a log it only starts runs. A run writes what it does to the log, a line each. Commands come as in the tests of
the plugin ``runs``: one JSON array a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

from nexus_dbos.engine import DbosRunEngine
from nexus_dbos.place import Database

from nexus_core.runs.work import Offer, Work, Worker, WorkLimits

OFFERS = {"work": Offer(), "single": Offer("", WorkLimits(concurrency=1))}


class Program:
    def __init__(self, engine, executor, log):
        self.engine, self.executor, self.log = engine, executor, log

    def write(self, *words):
        os.write(self.log, (json.dumps([time.time(), self.executor, *words]) + "\n").encode())

    async def perform(self, run_id, task, journal):
        """Do as the task says: ``steps`` of ``seconds`` each."""
        task = json.loads(task)
        self.write("began", run_id, journal.attempt)
        try:
            for number in range(task["steps"]):

                async def step(number=number):
                    self.write("step", run_id, number)
                    await asyncio.sleep(task["seconds"])
                    return json.dumps([number, self.executor]).encode()

                outcome = await journal.once(f"step {number}", step)
                self.write("passed", run_id, number, json.loads(outcome)[1])
        except asyncio.CancelledError:
            self.write("cancelled", run_id)
            raise
        self.write("ended", run_id)

    async def start(self, prefix, count, task, workflow="work"):
        for number in range(count):
            await self.engine.start(Work(f"{prefix}-{number}", json.dumps(task).encode(), workflow))
        return count

    async def cancel(self, run_id):
        await self.engine.cancel(run_id)

    async def check(self):
        return await self.engine.check()

    async def statistics(self):
        return self.engine.statistics()


async def main(file, url, schema, executor, log):
    engine = DbosRunEngine(Database(Path(file), url if url != "-" else None, schema), 0.05)
    number = None if log == "-" else os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    program = Program(engine, executor, number)
    await engine.open(executor, None if number is None else Worker(program.perform, lambda: OFFERS, 8))
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        command, name, *arguments = json.loads(line)
        try:
            value = await getattr(program, name)(*arguments)
        except Exception as exc:
            value = {"error": type(exc).__name__}
        print(json.dumps([command, value]), flush=True)
    await engine.close()


asyncio.run(main(*sys.argv[1:]))
