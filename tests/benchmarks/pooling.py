"""What a query and an HTTP request cost through a pool: beside the bare library's pool, and beside a new connection."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import asyncpg
import httpx2
from figures import Measure, Row, paired

from nexus_core import Nexus

sys.path.insert(0, str(Path(__file__).parents[1] / "services"))
from postgres_service import PostgresServer

TITLE = "n. Connection pools"
QUERY = "SELECT $1::int"
CALLS, CONNECTS = 300, 30


@contextmanager
def postgres() -> Iterator[str]:
    """Start a server of its own and yield its address."""
    with tempfile.TemporaryDirectory(prefix="nexus-postgres-") as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            yield server.url
        finally:
            server.kill()


def repeated(call: Callable[[int], Awaitable[object]], times: int) -> Measure:
    """Return what measures how many calls there are in a second, one after the other."""

    async def measure() -> dict[str, float]:
        begin, processor = time.perf_counter(), time.process_time()
        for number in range(times):
            await call(number)
        used, seconds = time.process_time() - processor, time.perf_counter() - begin
        return {"value": times / seconds, "cpu_us": 1e6 * used / times}

    return measure


async def compare(rounds: int, url: str) -> list[Row]:
    """Compare pools.

    Args:
        rounds: How often each is measured.
        url: Where a POST with ``a`` and ``b`` is answered.
    """
    rows = []
    with postgres() as address:
        async with AsyncExitStack() as stack:
            nexus = await stack.enter_async_context(Nexus(postgres_url=address))
            bare = await stack.enter_async_context(asyncpg.create_pool(address, min_size=1, max_size=20))
            pool, client = nexus.service("db_pool"), httpx2.AsyncClient()
            await stack.enter_async_context(client)

            async def query(number: int) -> None:
                async with pool.acquire() as connection:
                    assert await connection.fetchval(QUERY, number) == number

            async def bare_query(number: int) -> None:
                async with bare.acquire(timeout=30) as connection:  # as ours has, and for the way back too
                    assert await connection.fetchval(QUERY, number) == number

            async def new_query(number: int) -> None:
                connection = await asyncpg.connect(address)
                assert await connection.fetchval(QUERY, number) == number
                await connection.close()

            def queries_in_a_thread(times: int) -> None:
                for number in range(times):
                    with pool.sync().acquire() as connection:
                        assert connection.fetchval(QUERY, number) == number

            async def threads_queries() -> dict[str, float]:
                begin, processor = time.perf_counter(), time.process_time()
                await asyncio.to_thread(queries_in_a_thread, CALLS)
                used, seconds = time.process_time() - processor, time.perf_counter() - begin
                return {"value": CALLS / seconds, "cpu_us": 1e6 * used / CALLS}

            async def request(number: int) -> None:
                answer = await nexus.service("http_pool").client.post(url, json={"a": number, "b": 0})
                assert answer.status_code == 200

            async def bare_request(number: int) -> None:
                assert (await client.post(url, json={"a": number, "b": 0})).status_code == 200

            async def new_request(number: int) -> None:
                async with httpx2.AsyncClient() as own:
                    assert (await own.post(url, json={"a": number, "b": 0})).status_code == 200

            ours, ours_web = repeated(query, CALLS), repeated(request, CALLS)
            for name, against, target, one, other in (
                ("query, async", "bare asyncpg pool, time limits", 0.9, ours, repeated(bare_query, CALLS)),
                ("query, async", "a new connection each", None, ours, repeated(new_query, CONNECTS)),
                ("query, sync", "bare asyncpg pool, async", None, threads_queries, repeated(bare_query, CALLS)),
                ("HTTP request", "bare httpx2 client", 0.9, ours_web, repeated(bare_request, CALLS)),
                ("HTTP request", "a new client each", None, ours_web, repeated(new_request, CONNECTS)),
            ):
                await one()  # everything is connected
                await other()
                rows.append(await paired(Row(TITLE, name, against, "calls/s", target), one, other, rounds))
    return rows
