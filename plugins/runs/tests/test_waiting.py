"""Runs that wait for others of their key, seen and cancelled at another process."""

from __future__ import annotations

import asyncio

from nexus_runs.plugin import RunsPlugin

from nexus_core import Caller, Context, Invocation, Nexus
from nexus_core.runs.stored_run import StoredRun
from nexus_core.testing import eventually


def platform(path, ran, gate):
    nexus = Nexus(discover=False, plugins=[RunsPlugin], run_store="sqlite", runs_sqlite_path=str(path))

    @nexus.workflow(serial="key")
    async def work(key: str, n: int, context: Context) -> int:
        ran.append(n)
        await gate.wait()
        return n

    return nexus


async def test_a_waiting_run_is_stored_before_it_begins_and_shown_and_cancelled_at_another_process(tmp_path):
    ran, gate = [], asyncio.Event()
    one, other = (platform(tmp_path / "runs.db", ran, gate) for _ in range(2))
    async with one, other:
        runs = []
        for n in range(3):
            runs.append(one.submit(Invocation("work", {"key": "a", "n": n})))
            await runs[n].started_or_rejected()
        view = await other.view(Caller())
        shown = [await view.run(run.id) for run in runs]
        assert all(isinstance(each, StoredRun) for each in shown)
        assert [str(each.status) for each in shown] == ["running", "blocked", "blocked"]

        async def position(n):
            return (await view.run(runs[n].id)).to_dict().get("position")

        async with asyncio.timeout(10):  # an event is written a moment after its run
            while [await position(n) for n in range(3)] != [None, 1, 2]:
                await asyncio.sleep(0.02)
        assert await view.cancel(await view.run(runs[1].id))
        await runs[1].wait(10)
        assert runs[1].status == "cancelled"
        gate.set()
        assert (await runs[2].outcome()).value == 2
        stored = await view.run(runs[2].id)
        await stored.wait(10)
        assert (await view.run(runs[2].id)).to_dict()["result"] == 2
        types = [event.type async for event in stored.follow()]
        assert types[0] == "workflow.queued"
        assert types[-2:] == ["workflow.started", "workflow.completed"]
        await eventually(lambda: ran == [0, 2])
