"""The run store is away, or is none: what callers, health and the operator who starts the process learn."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import nexus_api.plugin
import nexus_health.plugin
import nexus_hypercorn.plugin
import nexus_runs.plugin
import pytest

from nexus_core import ConfigurationError, Nexus
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLUGINS = [
    nexus_api.plugin.ApiPlugin, nexus_health.plugin.HealthPlugin, nexus_hypercorn.plugin.HypercornPlugin,
    nexus_runs.plugin.RunsPlugin,
]  # fmt: skip
numbers = count(1)


@asynccontextmanager
async def served(**options: Any) -> AsyncIterator[httpx2.AsyncClient]:
    nexus = Nexus(discover=False, plugins=PLUGINS, api_port=0, health_check_interval=600, **options)

    @nexus.workflow
    async def add(a: int = 1) -> int:
        return a + 1

    async with nexus.serving() as listeners:
        (url,) = [each.url for each in listeners if "api" in each.channels]
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            yield client


async def call(client: httpx2.AsyncClient, **headers: str) -> httpx2.Response:
    return await client.post("/api/workflows/add/execute", json={"a": 2}, headers=headers)


async def is_ready(client: httpx2.AsyncClient, status: int = 200) -> None:
    async with asyncio.timeout(30):
        while (await client.get("/health/ready")).status_code != status:
            await asyncio.sleep(0.1)


async def what_callers_learn_without_it(client: httpx2.AsyncClient) -> str:
    """Return the id of a plain run that goes on without the store."""
    for refused in (await call(client, Prefer="wait=0"), await call(client, **{"Idempotency-Key": "away"})):
        assert (refused.status_code, refused.json()["code"]) == (503, "backend_unavailable"), refused.text
        assert refused.headers["retry-after"] == "1"
    plain = await call(client)
    assert (plain.status_code, plain.json()["result"]) == (200, 3)
    await is_ready(client, 503)
    return str(plain.json()["run_id"])


async def what_they_learn_after(client: httpx2.AsyncClient, run_id: str) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    async with asyncio.timeout(30):
        while (background := await call(client, Prefer="wait=0")).status_code == 503:
            await asyncio.sleep(0.05)
    assert background.status_code in (200, 202)
    assert loop.time() - begin < 15  # 5 s on a machine that is not busy
    assert (await call(client, **{"Idempotency-Key": "away"})).json()["result"] == 3  # the refused one holds no key
    await is_ready(client)

    async def is_stored() -> bool:
        shown = await client.get(f"/api/runs/{run_id}")
        return shown.status_code == 200 and shown.json().get("result") == 3

    async with asyncio.timeout(30):
        while not await is_stored():  # what waited meanwhile is written
            await asyncio.sleep(0.05)


async def test_a_locked_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with served(run_store="sqlite", runs_sqlite_path=str(path)) as client:
        assert (await call(client, Prefer="wait=5")).json()["result"] == 3
        await is_ready(client)
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        try:
            run_id = await what_callers_learn_without_it(client)
        finally:
            lock.rollback()
            lock.close()
        await what_they_learn_after(client, run_id)


async def test_postgres_is_stopped(postgres_server: Any) -> None:
    schema = f"faults_{os.getpid()}_{next(numbers)}"
    url = postgres_server.url
    async with served(run_store="postgres", runs_postgres_url=url, runs_postgres_schema=schema) as client:
        assert (await call(client, Prefer="wait=5")).json()["result"] == 3
        await is_ready(client)
        postgres_server.kill()
        try:
            run_id = await what_callers_learn_without_it(client)
        finally:
            postgres_server.start()
        await what_they_learn_after(client, run_id)


async def refusal(plugins: Any = PLUGINS, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        async with Nexus(discover=False, plugins=plugins, **options):
            pass
    return str(refused.value)


async def test_a_file_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_bytes(b"this is no database at all, " * 500)
    message = await refusal(run_store="sqlite", runs_sqlite_path=str(tmp_path / "runs.db"))
    assert "runs_sqlite_path" in message
    assert "can't be used" in message


async def test_a_start_without_the_chosen_store_says_what_to_do(monkeypatch: Any) -> None:
    monkeypatch.delenv("POSTGRES_URL", raising=False)
    message = await refusal(run_store="postgres")
    assert message == (
        "run_store: there is no run store 'postgres', only memory, sqlite: pip install nexus-hub-runs, and set "
        "runs_postgres_url."
    )
    assert "only memory: pip install nexus-hub-runs" in await refusal(plugins=PLUGINS[:3], run_store="sqlite")
    assert await refusal(run_store="redis") == "run_store: there is no run store 'redis', only memory, sqlite."


async def test_the_plugin_of_the_chosen_store_is_required(monkeypatch: Any) -> None:
    def fails(self: Any) -> Any:
        raise RuntimeError("no stores today")

    monkeypatch.setattr(nexus_runs.plugin.RunsPlugin, "nexus_register_run_stores", fails)
    runs = type("runs", (nexus_runs.plugin.RunsPlugin,), {})  # named as installed
    message = await refusal(plugins=[runs], run_store="sqlite")
    assert 'the plugin "runs" is not active' in message
    assert "no stores today" in message
    async with Nexus(discover=False, plugins=[runs]) as nexus:  # who keeps runs in memory needs it not
        await eventually(lambda: nexus.plugins.records[0].status == "failed")
