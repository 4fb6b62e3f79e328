"""A durable run whose workflow's code changes, with processes of the old and of the new code at one database."""

from __future__ import annotations

import asyncio

from nexus_dbos.plugin import DbosPlugin
from nexus_runs.plugin import RunsPlugin

from nexus_core import Caller, Context, Invocation, Nexus, RunNotFound

SECONDS = 40.0


class Shop:
    """Versions of a workflow, whose last step waits."""

    def __init__(self):
        self.done, self.waits, self.may_ship = [], asyncio.Event(), asyncio.Event()

    def version(self, number, *steps):
        async def do(step):
            if step == "ship":
                self.waits.set()
                await self.may_ship.wait()
            self.done.append(step)
            return step.upper()

        async def order(context: Context, item: str) -> list:
            return [item, *[await context.step(step, do, step) for step in steps]]

        return order, {"durable": True, "version": number}


async def shown(nexus, run_id, status):
    async with asyncio.timeout(SECONDS):
        while True:
            await asyncio.sleep(0.05)
            try:
                found = (await (await nexus.view(Caller())).run(run_id)).to_dict()
            except RunNotFound:
                continue
            if found["status"] == status:
                return found


async def test_a_run_waits_for_old_code_and_is_forked_with_new_code(tmp_path):
    shop = Shop()

    def make(version, **options):
        files = {"runs_sqlite_path": str(tmp_path / "runs.db"), "dbos_sqlite_path": str(tmp_path / "dbos.db")}
        stores = {"run_store": "sqlite", "run_engine": "dbos", "shutdown_grace": 0.1, "dbos_poll_seconds": 0.05}
        nexus = Nexus(discover=False, plugins=[RunsPlugin, DbosPlugin], **files | stores | options)
        nexus.register("order", *version)
        return nexus

    old, new = shop.version("1", "pay", "ship"), shop.version("2", "thank", "ship")
    async with make(new, run_work=False) as gate:
        async with make(old):
            run = gate.submit(Invocation("order", {"item": "tea"}))
            await asyncio.wait_for(shop.waits.wait(), SECONDS)
        async with make(new):
            error = (await shown(gate, run.id, "blocked"))["error"]
            assert error["detail"] == "Code changed: step 1 is 'thank', and was 'pay' when the run began."
        shop.may_ship.set()
        async with make(old) as other:  # DBOS works for one platform in a process at a time
            await shown(gate, run.id, "completed")
            with run.hold():
                assert (await asyncio.wait_for(run.outcome(), SECONDS)).value == ["tea", "PAY", "SHIP"]
            forked = await other.fork(run.id, "ship", {"item": "milk"})
            with forked.hold():
                assert (await asyncio.wait_for(forked.outcome(), SECONDS)).value == ["milk", "PAY", "SHIP"]
            assert (await shown(gate, forked.id, "completed"))["parent"] == run.id
    assert shop.done == ["pay", "ship", "ship"]
