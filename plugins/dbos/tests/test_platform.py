"""A platform with the plugin: its options, health, measurements and secrets, and what it forgets."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest
from nexus_dbos.plugin import DbosPlugin
from nexus_runs.plugin import RunsPlugin
from pydantic import SecretStr

from nexus_core import Caller, ConfigurationError, Context, Invocation, Nexus, NexusError
from nexus_core.pipeline import durable_retention
from nexus_core.runs.retention import RunRetention

KEY = base64.b64encode(bytes(32)).decode()


@pytest.fixture
def make(tmp_path):
    """A function that makes a platform with stores in files."""

    def make(**options):
        files = {"runs_sqlite_path": str(tmp_path / "runs.db"), "dbos_sqlite_path": str(tmp_path / "dbos.db")}
        stores = {"run_store": "sqlite", "run_engine": "dbos"}
        return Nexus(discover=False, plugins=[RunsPlugin, DbosPlugin], **files | stores | options)

    return make


def plugin_of(nexus):
    (plugin,) = nexus.plugins.instances(DbosPlugin)
    return plugin


async def login(context: Context, name: str, password: SecretStr) -> int:
    return await context.step("count", lambda: len(password.get_secret_value()))


def double(x: int) -> int:
    return 2 * x


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dbos_encryption_key": "hush"}, "dbos_encryption_key.*key 1 must be 32 random bytes"),
        ({"dbos_encryption_key": f"{KEY},hush"}, "dbos_encryption_key.*key 2 must be 32 random bytes"),
        ({"dbos_postgres_url": "mysql://a/b"}, "dbos_postgres_url.*must begin with postgresql"),
        ({"dbos_postgres_schema": "a; DROP TABLE runs"}, "dbos_postgres_schema"),
        ({"dbos_poll_seconds": 0}, "dbos_poll_seconds"),
    ],
)
def test_options_that_will_not_do(make, options, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        plugin_of(make(**options)).nexus_register_run_engines()
    assert "hush" not in str(caught.value)


def test_what_the_options_make(make, monkeypatch):
    (plain,) = plugin_of(make()).nexus_register_run_engines()
    assert not plain.hides_tasks
    assert plain._place.kind == "sqlite"
    (hiding,) = plugin_of(make(dbos_encryption_key=KEY)).nexus_register_run_engines()
    assert hiding.hides_tasks
    monkeypatch.setenv("POSTGRES_URL", "postgresql://127.0.0.1/shop")
    (postgres,) = plugin_of(make(dbos_encryption_key=" ")).nexus_register_run_engines()
    assert not postgres.hides_tasks
    assert postgres._place.kind == "postgres"


async def test_health_and_measurements(make):
    nexus = make()
    nexus.register("double", double, metadata={"durable": True})
    async with nexus:
        assert (await nexus.invoke("double", {"x": 4})).value == 8
        (check,) = plugin_of(nexus).nexus_register_health_checks()
        async with asyncio.timeout(20):  # the engine notes the end after the caller has it
            while (details := await check.check())["working"]:
                await asyncio.sleep(0.02)
        assert {"database": "sqlite", "queued": 0, "workers": 1}.items() <= details.items()
        measured = {each.name: dict(each.read()) for each in nexus.measurements() if "run_engine" in each.name}
        assert {f"nexus_run_engine_{each}" for each in ("queued", "working", "taken_over_total")} <= {*measured}
        assert [*measured["nexus_run_engine_working"].values()] == [0.0]
    with pytest.raises(NexusError, match="not open"):
        await check.check()
    assert make(run_engine=None).measurements()  # where it is not chosen, they can be read too
    assert plugin_of(make(run_engine=None)).nexus_register_health_checks() == []


async def test_secrets_need_a_key(make):
    nexus = make()
    nexus.register("login", login, metadata={"durable": True})
    refused = 'workflow "login" takes the parameter "password" as a secret.*dbos_encryption_key.*durable_plain_secrets'
    with pytest.raises(ConfigurationError, match=refused):
        async with nexus:
            pass
    nexus = make(durable_workflows="all")
    nexus.register("double", double)
    async with nexus:
        nexus.register("marked", double, metadata={"sensitive_parameters": ["x"]})
        with pytest.raises(NexusError, match='"marked" takes the parameter "x" as a secret'):
            await nexus.invoke("marked", {"x": 4})
        assert (await nexus.invoke("double", {"x": 4})).value == 8
    for options in ({"dbos_encryption_key": KEY}, {"durable_plain_secrets": True}):
        nexus = make(**options)
        nexus.register("login", login, metadata={"durable": True})
        async with nexus:
            assert (await nexus.invoke("login", {"name": "a", "password": "four"})).value == 4


async def test_values_that_can_not_be_recorded(make):
    """They fail their step, with a message that says why, and the run can go on."""
    given = {"object": object(), "text": "x" * 2000, "good": 1}

    async def steps(context: Context) -> list[str]:
        said = []
        for name, value in given.items():
            try:
                said.append(str(await context.step(name, lambda value=value: value)))
            except Exception as exc:
                said.append(str(exc))
        return said

    nexus = make(max_result_bytes=1000)
    nexus.register("steps", steps, metadata={"durable": True})
    async with nexus:
        no_json, large, good = (await nexus.invoke("steps", {})).value
    assert "object" in no_json
    assert large == "The step text returned a value of 2012 bytes; max_result_bytes is 1000."
    assert good == "1"


async def test_a_question_is_asked_once_though_its_process_is_stopped(make):
    told = []

    async def confirm(context: Context) -> bool:
        return await context.ask("Sure?", bool, notify=told.append)

    first = make()
    first.register("confirm", confirm, metadata={"durable": True})
    async with first:
        run_id = first.submit(Invocation("confirm", {})).id
        async with asyncio.timeout(20):
            while not told:
                await asyncio.sleep(0.02)
    second = make()
    second.register("confirm", confirm, metadata={"durable": True})
    async with second:
        run = await (await second.view(Caller())).run(run_id)
        async with asyncio.timeout(20):
            while (await second._state.running.durable._store.get(run_id)).record.attempt < 2:
                await asyncio.sleep(0.02)
        await (await second.view(Caller())).questions.answer(run_id, 1, True)
        events = [event.type async for event in run.follow()]
    assert events.count("workflow.question") == 1
    assert events[-1] == "workflow.completed"
    assert len(told) == 1


async def test_runs_that_are_pruned_are_forgotten(make, monkeypatch):
    monkeypatch.setattr(durable_retention, "PAGE", 2)
    nexus = make()
    nexus.register("double", double, metadata={"durable": True})
    async with nexus:
        run_ids = [(await nexus.invoke("double", {"x": 4})).run_id for _ in range(5)]
        durable = nexus._state.running.durable
        engine, store = durable.engine, durable._store

        async def known():
            return await engine.known(run_ids)

        async with asyncio.timeout(20):  # the engine notes the end after the caller has it
            while len(await engine.ended(time.time() + 60, 100)) < 5:
                await asyncio.sleep(0.02)
        await durable.sweep(time.time())
        assert await known() == {*run_ids}  # they have just ended
        await durable.sweep(time.time() + 8000)
        assert await known() == {*run_ids}  # the store has them
        await store.prune(RunRetention(max_runs=2))
        await durable.sweep(time.time() + 8001)
        assert await known() == {*run_ids}  # it looks once a minute
        for minute in range(1, 9):
            await durable.sweep(time.time() + 8000 + 61 * minute)
        assert await known() == {*run_ids[-2:]}
        assert await engine.task(run_ids[0]) is None
        assert await engine.task(run_ids[-1]) is not None
        await engine.forget(run_ids)
        assert await known() == set()
