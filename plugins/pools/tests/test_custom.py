"""`ConnectionPool`: a pool of one's own."""

from __future__ import annotations

import asyncio
import threading

import pytest
from nexus_pools import ConnectionPool

from nexus_core import BackendUnavailable


class Thing:
    def __init__(self):
        self.is_open, self.works, self.users = True, True, 0

    async def aclose(self):
        self.is_open = False

    async def use(self, seconds=0.0):
        self.users += 1
        assert (self.users, self.is_open) == (1, True)
        await asyncio.sleep(seconds)
        self.users -= 1
        return self


@pytest.fixture
def made():
    return []


@pytest.fixture
def make(made):
    def make(**options):
        async def connect():
            await asyncio.sleep(0)
            made.append(Thing())
            return made[-1]

        return ConnectionPool(connect, **options)

    return make


def numbers(pool):
    return pool.in_use, pool.idle, pool.waiting


async def test_connections_are_used_again(make, made):
    async with make(size=1, max_connections=2) as pool:
        assert not made
        for _ in range(3):
            async with pool.acquire() as thing:
                assert await thing.use() is made[0]
                assert numbers(pool) == (1, 0, 0)
        assert numbers(pool) == (0, 1, 0)
        assert pool.limit == 2
    assert [each.is_open for each in made] == [False]
    assert numbers(pool) == (0, 0, 0)


async def test_many_at_once_never_share_one(make, made):
    async with make(size=2, max_connections=7) as pool:

        async def use():
            async with pool.acquire() as thing:
                await thing.use(0.001)
                assert pool.in_use <= 7

        await asyncio.gather(*(use() for _ in range(200)))
        assert numbers(pool)[::2] == (0, 0)
    assert len(made) == 7
    assert not any(each.is_open for each in made)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_is_cancelled_when_none_is_lost(make, made, seed):
    import random

    chance = random.Random(seed)
    async with make(size=2, max_connections=3, timeout=20) as pool:

        async def use():
            for _ in range(10):
                async with pool.acquire() as thing:
                    await thing.use(chance.random() / 1000)

        async def cancel(task):
            await asyncio.sleep(chance.random() / 50)
            task.cancel()

        tasks = [asyncio.create_task(use()) for _ in range(30)]
        await asyncio.gather(*(cancel(each) for each in tasks[::2]))
        await asyncio.gather(*tasks, return_exceptions=True)
        assert not any(task.exception() for task in tasks[1::2])
        assert numbers(pool)[::2] == (0, 0)
        async with pool.acquire(), pool.acquire(), pool.acquire():
            assert pool.in_use == 3
    assert not any(each.is_open for each in made)


async def test_one_whose_use_raised_is_replaced(make, made):
    async with make() as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.acquire():
                raise ZeroDivisionError
        async with pool.acquire() as thing:
            assert thing is made[1]
    assert not made[0].is_open


@pytest.mark.parametrize("is_async", [False, True])
async def test_one_that_works_no_more_is_replaced(make, made, is_async):
    async def look(thing):
        return thing.works

    async with make(is_usable=look if is_async else lambda thing: thing.works) as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.acquire():
                raise ZeroDivisionError
        async with pool.acquire() as thing:
            assert thing is made[0]
        made[0].works = False
        async with pool.acquire() as thing:
            assert thing is made[1]


async def test_a_check_that_raises_or_is_cancelled(make, made):
    hanging = asyncio.Event()

    async def look(thing):
        if not thing.works:
            raise OSError("gone")
        hanging.set()
        await asyncio.Event().wait()

    async with make(is_usable=look, max_connections=1) as pool:
        async with pool.acquire() as thing:
            thing.works = False
        async with pool.acquire() as thing:
            assert thing is made[1]
        task = asyncio.create_task(pool.acquire().__aenter__())
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with pool.acquire() as thing:
            assert thing is made[2]
        assert numbers(pool) == (0, 1, 0)


async def test_what_can_not_connect_is_told(eventually):
    async def connect():
        raise OSError("nobody is there")

    async with ConnectionPool(connect, name="printers", max_connections=1) as pool:
        for _ in range(3):
            with pytest.raises(BackendUnavailable, match=r"printers can't connect: OSError: nobody is there"):
                async with pool.acquire():
                    pass
        assert numbers(pool) == (0, 0, 0)


async def test_nobody_waits_longer_than_the_time_limit(make):
    async with make(max_connections=1, timeout=0.05, name="printers") as pool, pool.acquire():
        with pytest.raises(
            BackendUnavailable, match=r"printers had no free connection within 0\.05 seconds \(timeout\)"
        ):
            async with pool.acquire():
                pass


async def test_more_than_enough_are_closed_after_a_while(make, made, monkeypatch, eventually):
    monkeypatch.setattr("nexus_pools.custom.IDLE_SECONDS", 0.05)
    async with make(size=2, max_connections=6) as pool:

        async def use():
            async with pool.acquire() as thing:
                await thing.use(0.01)

        await asyncio.gather(*(use() for _ in range(6)))
        await eventually(lambda: pool.idle == 2)
        await eventually(lambda: sum(each.is_open for each in made) == 2)


async def test_what_is_in_use_at_the_end_is_closed_when_it_comes_back(make, made):
    pool = make()
    async with pool:
        acquisition = pool.acquire()
        thing = await acquisition.__aenter__()
    assert thing.is_open
    await acquisition.__aexit__(None, None, None)
    await asyncio.sleep(0.01)
    assert not thing.is_open
    with pytest.raises(BackendUnavailable, match="closed"):
        await pool.acquire().__aenter__()
    pool.open()
    async with pool.acquire() as thing:
        assert thing.is_open
    await pool.close()


async def test_close_that_raises_or_hangs_harms_nobody(monkeypatch):
    monkeypatch.setattr("nexus_pools.custom.CLOSE_SECONDS", 0.05)

    async def close(thing):
        if thing == 1:
            raise OSError
        await asyncio.Event().wait()

    made = iter(range(1, 9))
    async with ConnectionPool(lambda: next(made), close=close) as pool, pool.acquire(), pool.acquire():
        pass
    assert pool.idle == 0


async def test_an_acquisition_is_used_once(make):
    async with make() as pool:
        acquisition = pool.acquire()
        async with acquisition:
            with pytest.raises(RuntimeError, match="used once"):
                await acquisition.__aenter__()


@pytest.mark.parametrize("options", [{"size": -1}, {"max_connections": 0}, {"timeout": 0}, {"timeout": float("nan")}])
def test_numbers_are_bounded(make, options):
    with pytest.raises(ValueError, match="at least"):
        make(**options)


async def test_threads(make, made):
    found = []

    def work(pool):
        with pool.sync().acquire() as thing:
            found.append(thing.use())

    async with make(max_connections=3) as pool:
        await asyncio.gather(*(asyncio.to_thread(work, pool) for _ in range(20)))
        assert numbers(pool)[::2] == (0, 0)
    assert len(found) == 20
    assert len(made) <= 3


def test_a_thread_without_the_event_loop(make):
    pool = make()
    with pytest.raises(RuntimeError, match="pool is not open"):
        pool.sync()

    async def leave():
        pool.open()

    asyncio.run(leave())
    with pytest.raises(RuntimeError, match="it does not run"), pool.sync().acquire():
        pass


def test_a_thread_that_waits_when_the_event_loop_ends(make, monkeypatch):
    monkeypatch.setattr("nexus_core.concurrency.own_loop.LOOK_SECONDS", 0.05)
    errors, waits = [], threading.Event()

    def work(pool):
        try:
            with pool.sync().acquire() as thing:
                waits.set()
                thing.use(600)
        except RuntimeError as exc:
            errors.append(str(exc))

    async def main():
        pool = make()
        pool.open()
        thread = threading.Thread(target=work, args=[pool], daemon=True)
        thread.start()
        await asyncio.to_thread(waits.wait, 20)
        return thread

    thread = asyncio.run(main())
    thread.join(20)
    assert not thread.is_alive()
    assert len(errors) == 1
