"""Databases that others use too, and values that are large or have no JSON form."""

from __future__ import annotations

import asyncio

import pytest
from nexus_dbos.engine import DbosRunEngine

from nexus_core.errors import ConfigurationError
from nexus_core.runs.work import Offer, Work, Worker


async def test_a_database_of_a_newer_dbos_is_refused(place):
    engine = DbosRunEngine(place)
    await engine.open("first", None)
    table = "dbos_migrations" if place.url is None else f'"{place.schema}".dbos_migrations'
    with engine._client._sys_db.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {table} SET version = 100000")
    await engine.close()
    option = "dbos_sqlite_path" if place.url is None else "dbos_postgres_schema"
    with pytest.raises(ConfigurationError, match=rf"newer DBOS has changed .*{option}.*version 100000"):
        await DbosRunEngine(place).open("second", None)


async def test_two_applications_in_one_database_leave_each_other_s_runs(place):
    """One does the workflow "mine" alone; other processes of the same schema have "theirs"."""
    done: asyncio.Queue[str] = asyncio.Queue()

    async def perform(run_id, task, journal):
        done.put_nowait(run_id)

    for executor, workflow in (("first", "mine"), ("second", "theirs")):
        engine = DbosRunEngine(place, 0.02)
        await engine.open(executor, Worker(perform, lambda workflow=workflow: {workflow: Offer()}, 4))
        try:
            if executor == "first":
                await engine.start(Work("their run", b"{}", "theirs"))
                await engine.start(Work("my run", b"{}", "mine"))
            assert await asyncio.wait_for(done.get(), 30) == ("my run" if executor == "first" else "their run")
            assert await engine.unserved() == ({"theirs": 1} if executor == "first" else {})
            ours = [] if executor == "first" else ["my run"]
            assert not {*ours} & {*await engine.ended(4e9, 10)}  # what the other one keeps is its own
        finally:
            await engine.close()
    assert done.empty()
