"""``db_pool``, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import threading

import asyncpg
import pytest

from nexus_core import BackendUnavailable, Context
from nexus_core.errors import WorkflowFailed


@pytest.fixture
def start(make, postgres_server):
    """A function that makes a platform on the server."""

    def start(**options):
        return make(**{"postgres_url": postgres_server.url, "db_pool_timeout": 20} | options)

    return start


def numbers(pool):
    return pool.in_use, pool.idle, pool.waiting


async def test_an_async_and_a_sync_workflow(start):
    nexus = start()

    @nexus.workflow
    async def awaited(context: Context) -> list:
        async with context.service("db_pool").acquire() as connection:
            return [row["n"] for row in await connection.fetch("SELECT n FROM generate_series(1, $1) n", 3)]

    @nexus.workflow
    def threaded(context: Context) -> list:
        with context.service("db_pool").sync().acquire() as connection:
            return [row["n"] for row in connection.fetch("SELECT n FROM generate_series(1, $1) n", 3)]

    async with nexus:
        assert (await nexus.invoke("awaited")).value == [1, 2, 3]
        assert (await nexus.invoke("threaded")).value == [1, 2, 3]
        pool = nexus.service("db_pool")
        assert numbers(pool) == (0, 1, 0)
    assert numbers(pool) == (0, 0, 0)


async def test_what_threads_can_do(start):
    nexus = start()
    done = {}

    @nexus.workflow
    def work(context: Context) -> None:
        with context.service("db_pool").sync().acquire() as connection:
            connection.execute("CREATE TEMPORARY TABLE things (n int)")
            with connection.transaction():
                connection.executemany("INSERT INTO things VALUES ($1)", [(1,), (2,)])
                done["rows"] = [row["n"] for row in connection.cursor("SELECT n FROM things ORDER BY n")]
                connection.execute("CREATE UNIQUE INDEX ON things (n)")
                with pytest.raises(asyncpg.UniqueViolationError), connection.transaction():
                    connection.execute("INSERT INTO things VALUES (1)")
            transaction = connection.transaction()
            transaction.start()
            connection.execute("DELETE FROM things")
            transaction.rollback()
            done["left"] = connection.fetchval("SELECT count(*) FROM things")
            done["prepared"] = connection.prepare("SELECT $1::int + 1").fetchval(4)
            done["closed"] = connection.is_closed()
            done["row"] = type(connection.fetchrow("SELECT 1")).__name__

    async with nexus:
        await nexus.invoke("work")
    assert done == {"rows": [1, 2], "left": 2, "prepared": 5, "closed": False, "row": "Record"}


async def test_the_event_loops_own_thread_must_not_wait(start):
    nexus = start()
    async with nexus:
        with (
            pytest.raises(RuntimeError, match=r"its own thread: use `async with`"),
            nexus.service("db_pool").sync().acquire(),
        ):
            pass
        assert numbers(nexus.service("db_pool")) == (0, 0, 0)


async def test_two_hundred_calls_at_once(start):
    nexus = start(db_pool_size=2, db_pool_max_connections=10, max_concurrent_workflows=200)
    most, lock = [0], threading.Lock()

    def note(pool):
        with lock:
            most[0] = max(most[0], pool.in_use)

    @nexus.workflow
    async def awaited(n: int, context: Context) -> int:
        pool = context.service("db_pool")
        async with pool.acquire() as connection:
            note(pool)
            return await connection.fetchval("SELECT $1::int", n)

    @nexus.workflow
    def threaded(n: int, context: Context) -> int:
        pool = context.service("db_pool")
        with pool.sync().acquire() as connection:
            note(pool)
            return connection.fetchval("SELECT $1::int", n)

    async with nexus:
        calls = [nexus.invoke(("awaited", "threaded")[n % 2], {"n": n}) for n in range(200)]
        assert [each.value for each in await asyncio.gather(*calls)] == list(range(200))
        pool = nexus.service("db_pool")
        assert (pool.in_use, pool.waiting) == (0, 0)
        assert 2 <= pool.idle <= 10
    assert 2 <= most[0] <= 10


async def test_nobody_waits_longer_than_the_time_limit(start):
    nexus = start(db_pool_max_connections=1, db_pool_timeout=0.2)
    async with nexus:
        pool = nexus.service("db_pool")
        pool.timeout = 20.0
        async with pool.acquire() as connection:
            pool.timeout = 0.2
            with pytest.raises(BackendUnavailable) as refused:
                async with pool.acquire():
                    pass
            assert await connection.fetchval("SELECT 1") == 1
        assert str(refused.value) == (
            "db_pool had no free connection within 0.2 seconds (db_pool_timeout): "
            "all 1 (db_pool_max_connections) are in use."
        )
        assert refused.value.retry_after
        pool.timeout = 20.0
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT 1") == 1
        assert numbers(pool) == (0, 1, 0)


async def test_who_is_cancelled_while_waiting_loses_no_connection(start, eventually):
    nexus = start(db_pool_max_connections=2)

    async def use(pool):
        async with pool.acquire() as connection:
            return await connection.fetchval("SELECT 1")

    async with nexus:
        pool = nexus.service("db_pool")
        async with pool.acquire(), pool.acquire():
            tasks = [asyncio.create_task(use(pool)) for _ in range(20)]
            await eventually(lambda: pool.waiting == 20)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks[::2], return_exceptions=True)
            assert pool.waiting == 10
        tasks[1].cancel()  # it may have been given one just now
        results = await asyncio.gather(*tasks[3::2])
        assert results == [1] * 9
        await asyncio.gather(*tasks, return_exceptions=True)
        assert numbers(pool) == (0, 2, 0)


async def test_who_is_cancelled_while_using_one_gives_it_back_as_new(start, eventually):
    nexus = start(db_pool_max_connections=1)
    begun = asyncio.Event()

    async def use(pool):
        async with pool.acquire() as connection:
            await connection.execute("SET application_name TO 'left_behind'")
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("SELECT pg_advisory_lock(4711)")
            begun.set()
            await connection.execute("SELECT pg_sleep(600)")

    async with nexus:
        pool = nexus.service("db_pool")
        task = asyncio.create_task(use(pool))
        await begun.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW application_name") != "left_behind"
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        await eventually(lambda: numbers(pool) == (0, 1, 0))


async def test_a_run_that_times_out_gives_its_connection_back(start, eventually):
    nexus = start(db_pool_max_connections=1)

    @nexus.workflow(timeout=0.3)
    async def slow(context: Context) -> None:
        async with context.service("db_pool").acquire() as connection:
            await connection.execute("SELECT pg_sleep(600)")

    async with nexus:
        pool = nexus.service("db_pool")
        async with pool.acquire():
            pass  # it is connected
        with pytest.raises(Exception, match="did not finish within"):
            await nexus.invoke("slow")
        await eventually(lambda: pool.in_use == 0)
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT 1") == 1


LEFT = {
    "SET ROLE left_behind": ("SELECT current_user::text", "postgres"),
    "SET SESSION AUTHORIZATION left_behind": ("SELECT session_user::text", "postgres"),
    "CREATE TEMP TABLE secrets AS SELECT 'ann'": ("SELECT to_regclass('secrets')::text", None),
    "SET search_path TO other": ("SHOW search_path", '"$user", public'),
    "SELECT pg_advisory_lock(4711)": ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
    "BEGIN": ("SELECT pg_current_xact_id_if_assigned()::text", None),
}


@pytest.mark.parametrize("left", LEFT)
async def test_nothing_that_one_user_sets_is_there_for_the_next(start, left):
    async with start(db_pool_max_connections=1) as nexus:
        pool = nexus.service("db_pool")
        async with pool.acquire() as connection:
            me = await connection.fetchval("SELECT current_user::text")
            await connection.execute("DROP ROLE IF EXISTS left_behind; CREATE ROLE left_behind")
            await connection.execute(left)
        question, answer = LEFT[left]
        async with pool.acquire() as connection:
            assert await connection.fetchval(question) == (me if answer == "postgres" else answer)


async def test_a_connection_can_not_be_used_once_it_is_given_back(start):
    async with start() as nexus:
        async with nexus.service("db_pool").acquire() as connection:
            pass
        with pytest.raises(asyncpg.InterfaceError, match="released back to the pool"):
            await connection.fetchval("SELECT 1")


async def test_a_server_that_is_killed_and_comes_back(start, postgres_server, eventually):
    nexus = start(db_pool_max_connections=3, db_pool_timeout=30)

    @nexus.workflow
    async def ask(context: Context) -> int:
        async with context.service("db_pool").acquire() as connection:
            return await connection.fetchval("SELECT 1")

    async with nexus:
        pool = nexus.service("db_pool")
        await asyncio.gather(*(nexus.invoke("ask") for _ in range(10)))
        async with pool.acquire() as connection:
            postgres_server.kill()
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await connection.fetchval("SELECT 1")
        with pytest.raises(WorkflowFailed):
            await nexus.invoke("ask")
        with pytest.raises(BackendUnavailable, match=r"can't connect: PostgreSQL at 127\.0\.0\.1:.*/postgres: "):
            async with pool.acquire():
                pass
        assert pool.in_use == 0
        postgres_server.start()
        assert [(await nexus.invoke("ask")).value for _ in range(5)] == [1] * 5
        assert (pool.in_use, pool.waiting) == (0, 0)
        assert pool.idle <= 3


async def test_a_server_that_takes_connections_and_does_not_answer(start, postgres_server):
    nexus = start(db_pool_timeout=0.3)
    async with nexus:
        pool = nexus.service("db_pool")
        postgres_server.pause()
        with pytest.raises(BackendUnavailable, match=r"could not connect within 0.3 seconds \(db_pool_timeout\)"):
            async with pool.acquire():
                pass
        postgres_server.resume()
        pool.timeout = 20.0
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_restarts(start):
    nexus = start()
    pool = nexus.service("db_pool")
    for _ in range(2):
        async with nexus:
            assert nexus.service("db_pool") is pool
            async with pool.acquire() as connection:
                assert await connection.fetchval("SELECT 1") == 1
        with pytest.raises(BackendUnavailable, match="db_pool is closed: the platform is not started"):
            async with pool.acquire():
                pass


def test_each_start_on_an_event_loop_of_its_own(start):
    nexus = start()

    async def work():
        async with nexus, nexus.service("db_pool").acquire() as connection:
            return await connection.fetchval("SELECT 1")

    assert [asyncio.run(work()) for _ in range(2)] == [1, 1]


def test_an_event_loop_that_ended_without_a_stop(start):
    nexus = start()

    async def leave():
        await nexus.__aenter__()
        async with nexus.service("db_pool").acquire() as connection:
            await connection.fetchval("SELECT 1")
            connection.terminate()  # or its socket would be left open, and Python would say so

    async def work():
        async with nexus, nexus.service("db_pool").acquire() as connection:
            return await connection.fetchval("SELECT 1")

    asyncio.run(leave())
    assert asyncio.run(work()) == 1


async def test_before_the_start_it_works_and_the_stop_closes_it(start):
    nexus = start()
    pool = nexus.service("db_pool")
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert pool.idle == 1
    async with nexus:
        assert pool.idle == 1
    assert pool.idle == 0


async def test_another_event_loop_is_told_what_to_use(start):
    nexus = start()

    @nexus.workflow
    def work(context: Context) -> str:
        async def acquire():
            async with context.service("db_pool").acquire():
                pass

        with pytest.raises(RuntimeError) as refused:
            asyncio.run(acquire())
        with pytest.raises(RuntimeError) as without:
            _ = context.service("http_pool").client
        return f"{refused.value} {without.value}"

    async with nexus:
        told = (await nexus.invoke("work")).value
        assert "db_pool is open on another event loop: use db_pool.sync() in a thread" in told
        assert "http_pool is used on an event loop: use http_pool.sync() in a thread" in told


async def test_two_platforms_in_one_process(start):
    one, other = start(db_pool_max_connections=1), start(db_pool_max_connections=1)
    async with one, other:
        assert one.service("db_pool") is not other.service("db_pool")
        async with one.service("db_pool").acquire() as a, other.service("db_pool").acquire() as b:
            pids = {await each.fetchval("SELECT pg_backend_pid()") for each in (a, b)}
        assert len(pids) == 2


async def test_a_thread_that_has_a_connection_at_the_end(start):
    nexus = start(shutdown_grace=0.1)
    has_it, go_on, over, told = threading.Event(), threading.Event(), threading.Event(), []

    @nexus.workflow
    def work(context: Context) -> None:
        try:
            with context.service("db_pool").sync().acquire() as connection:
                has_it.set()
                go_on.wait(30)
                connection.fetchval("SELECT 1")
        except Exception as exc:
            told.append(exc)
        finally:
            over.set()

    async with nexus:
        task = asyncio.create_task(nexus.invoke("work"))
        await asyncio.to_thread(has_it.wait, 20)
    with pytest.raises(Exception, match="cancelled"):
        await task
    assert nexus.service("db_pool").in_use == 0
    go_on.set()
    assert await asyncio.to_thread(over.wait, 20)
    assert isinstance(told[0], (asyncpg.InterfaceError, asyncpg.PostgresError))


async def test_connections_beyond_the_size_are_closed_when_nobody_needs_them(start, monkeypatch, eventually):
    monkeypatch.setattr("nexus_pools.database.IDLE_SECONDS", 0.1)
    nexus = start(db_pool_size=2, db_pool_max_connections=8)
    async with nexus:
        pool = nexus.service("db_pool")

        async def use():
            async with pool.acquire() as connection:
                await connection.fetchval("SELECT pg_sleep(0.05)")

        await asyncio.gather(*(use() for _ in range(8)))
        await eventually(lambda: pool.idle == 2)
        for _ in range(3):
            await use()
        assert pool.idle == 2


async def test_measurements_and_health(start, postgres_server):
    nexus = start(db_pool_max_connections=7)
    async with nexus:
        read = {each.name: each.read for each in nexus.measurements()}
        (check,) = nexus.health_checks()
        assert check.name == "postgres"
        async with nexus.service("db_pool").acquire():
            assert dict(read["nexus_pool_in_use"]()) == {("db_pool",): 1, ("http_pool",): 0}
            assert dict(read["nexus_pool_limit"]()) == {("db_pool",): 7, ("http_pool",): 200}
        assert dict(read["nexus_pool_idle"]())[("db_pool",)] == 1
        assert dict(read["nexus_pool_waiting"]())[("db_pool",)] == 0
        assert await check.check() == {"server": f"127.0.0.1:{postgres_server.port}/postgres"}
        postgres_server.kill()
        with pytest.raises(BackendUnavailable, match="PostgreSQL at 127"):
            await check.check()
