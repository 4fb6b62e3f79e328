"""A process with a run store, for tests of several: ``python program.py STORE PLACE EXECUTOR``.

It reads commands from its standard input, one JSON array a line, and writes what they give to its standard output.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from nexus_core.runs.keeper import RunKeeper
from nexus_core.runs.record import RunChange, RunEvent, RunRecord
from nexus_core.runs.status import RunStatus


def make_store(kind, place):
    if kind == "sqlite":
        from nexus_runs.sqlite_store import SqliteRunStore

        return SqliteRunStore(Path(place))
    from nexus_runs.postgres_store import PostgresRunStore

    url, _, schema = place.rpartition("#")
    return PostgresRunStore(url, schema)


class Commands:
    def __init__(self, store):
        self.store = store

    async def begin(self, run_id, count=1):
        records = [self._record(f"{run_id}-{number}" if count > 1 else run_id) for number in range(count)]
        return [state.record.executor for state in await self.store.begin_many(records, RunStatus.RUNNING)]

    def _record(self, run_id):
        return RunRecord(run_id, "add", "api", time.time(), executor=self.store.executor)

    async def later(self, run_id, count):
        """Write many plain runs later."""
        for number in range(count):
            change = RunChange.begin(self._record(f"{run_id}-{number}"), RunStatus.RUNNING)
            end = RunChange(change.run_id, status=RunStatus.COMPLETED, finished_at=time.time(), result=b"3")
            self.store.write_later(change.then(end))
        return count

    async def emit(self, run_id, count, pause):
        """Append events, each with the time at which it was written."""
        for _ in range(count):
            number = (await self.store.get(run_id, payloads=False)).last_event + 1
            body = json.dumps({"type": "workflow.event", "time": time.time()}).encode()
            await self.store.append(run_id, 1, [RunEvent(number, body)])
            await asyncio.sleep(pause)
        return count

    async def end(self, run_id):
        change = RunChange(run_id, status=RunStatus.COMPLETED, finished_at=time.time(), result=b"3")
        return await self.store.end(replace(change, events=(RunEvent(0, b'{"type":"workflow.completed"}'),)))

    async def follow(self, run_id, after):
        """Follow a run to its end; return the numbers of its events and how late each came."""
        numbers, delays = [], []
        async for event in self.store.follow(run_id, after):
            numbers.append(event.number)
            if "time" in event.to_dict():
                delays.append(time.time() - event.to_dict()["time"])
        return [numbers, delays]

    async def stand_still(self, seconds):
        """Block the event loop."""
        time.sleep(seconds)
        return (await self.store.get("r1")).status

    async def cancelled(self):
        """Wait for a cancellation."""
        heard = asyncio.get_running_loop().create_future()
        stop = self.store.on_cancel(heard.set_result)
        run_id = await heard
        stop()
        return run_id

    async def cancel(self, run_id):
        return await self.store.request_cancel(run_id)


async def main():
    kind, place, executor = sys.argv[1:]
    store = make_store(kind, place)
    await store.open(executor)
    keeper = RunKeeper(store)
    keeper.begin()
    commands, reader = Commands(store), asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    tasks = set()
    while line := await reader.readline():
        number, name, *arguments = json.loads(line)

        async def answer(number=number, name=name, arguments=arguments):
            print(json.dumps([number, await getattr(commands, name)(*arguments)]), flush=True)

        tasks.add(asyncio.create_task(answer()))
    await keeper.stop()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
