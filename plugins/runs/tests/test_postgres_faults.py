"""What `PostgresRunStore` does when PostgreSQL is away, restarted, or has other tables."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import pytest
from nexus_runs.postgres_schema import MIGRATIONS
from nexus_runs.postgres_store import PostgresRunStore

from nexus_core import BackendUnavailable, ConfigurationError
from nexus_core.runs.contract.base import ended, reached, sample_end, sample_events, sample_record
from nexus_core.runs.record import RunChange, RunFilter
from nexus_core.runs.status import new_run_id


@pytest.fixture
def schema():
    return f"faults_{new_run_id()}"


@pytest.fixture
async def connect(postgres_server, schema):
    """A function that opens a store."""
    opened = []

    async def connect(executor="one", **options):
        opened.append(PostgresRunStore(postgres_server.url, schema, **options))
        await opened[-1].open(executor)
        return opened[-1]

    yield connect
    for store in opened:
        await store.close()


async def statement(server, *statements):
    connection = await asyncpg.connect(server.url)
    for each in statements:
        await connection.execute(each)
    await connection.close()


async def recovers(store):
    """Wait until a run can be stored again, which must not take long."""
    begin = time.monotonic()
    while True:
        try:
            record = sample_record()
            await store.begin(record)
            break
        except BackendUnavailable:
            await asyncio.sleep(0.05)
            assert time.monotonic() - begin < 20  # 5 s on a machine that is not busy
    return record


async def test_a_restart_under_load_loses_nothing_that_was_acknowledged(connect, postgres_server):
    store, reader = await connect("one"), await connect("two")
    followed = await recovers(store)
    follower = asyncio.create_task(collect(reader, followed.id))
    acknowledged, stop = [], asyncio.Event()

    async def load():
        while not stop.is_set():
            record = sample_record()
            try:
                await store.begin(record)
                acknowledged.append(record.id)
            except BackendUnavailable:
                await asyncio.sleep(0.02)

    callers = [asyncio.create_task(load()) for _ in range(10)]
    await asyncio.sleep(0.3)
    postgres_server.kill()
    late = sample_record()
    store.write_later(RunChange.begin(late).then(sample_end(late)))
    with pytest.raises(BackendUnavailable):
        await store.check()
    before = len(acknowledged)
    postgres_server.start()
    await recovers(store)
    await reached(lambda: ended(store, late))
    stop.set()
    await asyncio.gather(*callers)
    assert len(acknowledged) > before > 0
    stored = {state.record.id for state in await reader.find(RunFilter(limit=100_000))}
    assert set(acknowledged) <= stored
    await store.append(followed.id, 1, sample_events(1))
    await store.end(sample_end(followed, events=sample_events(2)))
    assert await asyncio.wait_for(follower, 20) == [1, 2]
    assert store.statistics() == {"waiting": 0, "dropped": 0}


async def collect(store, run_id):
    return [event.number async for event in store.follow(run_id)]


async def test_a_cancellation_is_heard_of_after_a_broken_connection(connect, postgres_server, eventually):
    store, other = await connect("one"), await connect("two")
    record = await recovers(store)
    heard = []
    store.on_cancel(heard.append)
    await statement(
        postgres_server, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    )
    assert await other.request_cancel(record.id)
    await eventually(lambda: record.id in heard)


async def test_postgres_may_start_later_than_the_platform(connect, postgres_server, caplog):
    postgres_server.kill()
    store = await connect(timeout=1.0)
    with pytest.raises(BackendUnavailable) as raised:
        await store.get("r1")
    assert raised.value.retry_after == 1.0
    assert "The run store postgres can't be used: PostgreSQL at 127.0.0.1" in caplog.text
    postgres_server.start()
    record = await recovers(store)
    assert (await store.get(record.id)).record == record


async def test_a_server_that_does_not_answer_costs_no_more_than_the_time_limit(connect, postgres_server):
    store = await connect(timeout=0.5)
    await recovers(store)
    await statement(postgres_server, f"SET search_path = {store._client.schema}", "SELECT 1")
    lock = await asyncpg.connect(postgres_server.url)
    transaction = lock.transaction()
    await transaction.start()
    await lock.execute(f"LOCK TABLE {store._client.schema}.runs IN ACCESS EXCLUSIVE MODE")
    begin = time.monotonic()
    with pytest.raises(BackendUnavailable):
        await store.get("r1")
    assert time.monotonic() - begin < 5
    await transaction.rollback()
    await lock.close()
    await recovers(store)


async def test_tables_of_a_later_version_are_refused(connect, postgres_server, schema):
    await (await connect()).close()
    await statement(postgres_server, f"UPDATE {schema}.layout SET version = 99")
    with pytest.raises(ConfigurationError, match=f"version 99 .* supports version {len(MIGRATIONS)}: upgrade"):
        await connect()


async def test_processes_that_start_at_the_same_time_make_the_tables_once(postgres_server, schema):
    stores = [PostgresRunStore(postgres_server.url, schema) for _ in range(5)]
    await asyncio.gather(*(store.open(f"one-{number}") for number, store in enumerate(stores)))
    await recovers(stores[0])
    assert len(await stores[-1].find(RunFilter())) == 1
    await asyncio.gather(*(store.close() for store in stores))


async def test_no_error_repeats_the_password(postgres_server, schema, caplog):
    wrong = PostgresRunStore(postgres_server.url.replace(":s3cret", ":wr0ng"), schema, timeout=1.0)
    await wrong.open("one")
    with pytest.raises(BackendUnavailable) as raised:
        await wrong.check()
    await wrong.close()
    assert "password authentication failed" in str(raised.value)
    for text in (str(raised.value), caplog.text):
        assert "wr0ng" not in text


async def test_values_that_postgres_does_not_take_harm_no_other_run(connect):
    store = await connect()
    bad, good = sample_record("bad\0id"), sample_record()
    store.write_later(RunChange.begin(bad))
    store.write_later(RunChange.begin(good).then(sample_end(good)))
    await reached(lambda: ended(store, good))
    assert store.statistics()["dropped"] == 1
