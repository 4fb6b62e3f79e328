"""A process that is killed while a call runs: what is left of the call, and how soon its key is free."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import nexus_logs.plugin
import nexus_redis.plugin
import nexus_sessions.plugin
import pytest

from nexus_core import Conflict, Invocation, Nexus, Stage, hookimpl
from nexus_core.state import heartbeat
from nexus_core.state.memory_store import MemoryStore
from nexus_core.testing import eventually, isolated_nexus, stage_of

PROGRAM = """
import asyncio, sys
import nexus_logs.plugin, nexus_redis.plugin, nexus_sessions.plugin
from nexus_core import Invocation, Nexus
from nexus_core.state import heartbeat

heartbeat.LIFE_SECONDS, heartbeat.BEAT_SECONDS, heartbeat.RETRY_SECONDS = 2.0, 0.2, 0.1
plugins = [nexus_logs.plugin.LogsPlugin, nexus_redis.plugin.RedisPlugin, nexus_sessions.plugin.SessionPlugin]
nexus = Nexus(discover=False, plugins=plugins, audit_log=sys.argv[1], audit_required=True, **eval(sys.argv[2]))

@nexus.workflow
async def pay(amount: int) -> None:
    print("it runs", flush=True)
    await asyncio.sleep(3600)

async def main():
    async with nexus:
        await nexus.invoke(Invocation("pay", {"amount": 3}, idempotency_key="k"))

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("LIFE_SECONDS", 2.0), ("BEAT_SECONDS", 0.2), ("RETRY_SECONDS", 0.1)):
        monkeypatch.setattr(heartbeat, name, seconds)


@pytest.fixture(params=["sqlite", "redis"], name="shared")
def shared_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Options of a store that processes share."""
    if request.param == "sqlite":
        return {"store": "sqlite", "sqlite_path": str(tmp_path / "state.db")}
    return {"store": "redis", "redis_url": request.getfixturevalue("redis_server").url, "redis_timeout": 10.0}


async def test_the_key_of_a_killed_process_is_free_soon_and_the_audit_log_knows_of_the_call(
    shared: dict[str, Any], tmp_path: Path
) -> None:
    audit = tmp_path / "audit.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(audit), repr(shared), stdout=asyncio.subprocess.PIPE
    )
    plugins = [nexus_logs.plugin.LogsPlugin, nexus_redis.plugin.RedisPlugin, nexus_sessions.plugin.SessionPlugin]
    nexus = Nexus(discover=False, plugins=plugins, **shared)
    ran: list[int] = []
    nexus.register("pay", lambda amount: ran.append(amount))

    async def repeat(key: str = "k", amount: int = 3) -> Any:
        return await nexus.invoke(Invocation("pay", {"amount": amount}, idempotency_key=key))

    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"it runs\n"
        async with nexus:
            with pytest.raises(Conflict, match="still running"):
                await repeat()
            os.kill(process.pid, signal.SIGKILL)
            await process.wait()
            (line,) = audit.read_text().splitlines()
            entry = json.loads(line)
            assert (entry["verdict"], entry["workflow"]) == ("started", "pay")
            async with asyncio.timeout(60):
                while True:
                    try:
                        result = await repeat()
                        break
                    except Conflict:
                        assert ran == []
                        await asyncio.sleep(0.05)
            assert (result.replayed, ran) == (False, [3])
            assert (await repeat()).replayed
            assert ran == [3]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Shared(MemoryStore):
    """A store that two platforms share, and how often it is written to."""

    name = "shared"

    def __init__(self) -> None:
        super().__init__()
        self.beats = 0

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        self.beats += key.startswith("process:")
        await super().set(key, value, ttl)


class Gives:
    def __init__(self, store: Shared) -> None:
        self.store = store

    @hookimpl
    def nexus_register_stores(self, nexus: Any) -> list[Any]:
        return [self.store]


@pytest.fixture(name="pair")
def pair_fixture() -> tuple[Shared, list[Any]]:
    store = Shared()
    platforms = [isolated_nexus(Gives(store), store="shared") for _ in range(2)]
    for nexus in platforms:
        nexus.ran, nexus.gate = [], asyncio.Event()

        def register(nexus: Any) -> None:
            @nexus.workflow
            async def work(n: int = 0) -> int:
                nexus.ran.append(n)
                await nexus.gate.wait()
                return n

        register(nexus)
    return store, platforms


async def test_the_key_of_a_process_that_lives_is_not_taken_however_long_it_works(pair: Any) -> None:
    store, (one, other) = pair
    async with one, other:
        first = one.submit(Invocation("work", {}, idempotency_key="k"))
        await first.started_or_rejected()
        begun = store.beats
        await eventually(lambda: store.beats > begun + 12)  # longer than it counts as alive after one of them
        with pytest.raises(Conflict, match="still running"):
            await other.invoke(Invocation("work", {}, idempotency_key="k"))
        one.gate.set()
        await first.wait()
        assert (await other.invoke(Invocation("work", {}, idempotency_key="k"))).replayed
        assert other.ran == []
    assert not store.keys("process:")  # who stops says so


async def test_one_heartbeat_is_for_all_calls_and_none_without_keys(pair: Any) -> None:
    store, (one, other) = pair
    async with one, other:
        other.gate.set()
        for number in range(10):
            await other.invoke(Invocation("work", {"n": number}))
        assert store.beats == 0
        for number in range(100):
            await other.invoke(Invocation("work", {"n": number}, idempotency_key=str(number)))
        assert 1 <= store.beats < 30


async def test_of_many_repeats_one_takes_the_place_of_the_dead(pair: Any) -> None:
    _, (one, other) = pair
    async with one, other:
        first = one.submit(Invocation("work", {}, idempotency_key="k"))
        await first.started_or_rejected()
        await stage_of(one, Stage.IDEMPOTENCY).heartbeat.close()  # it is as good as dead
        other.gate.set()
        repeats = [other.invoke(Invocation("work", {}, idempotency_key="k")) for _ in range(20)]
        answers = await asyncio.gather(*repeats, return_exceptions=True)
        assert other.ran == [0]
        assert sum(not isinstance(each, Exception) for each in answers) >= 1
        assert all(isinstance(each, Conflict) for each in answers if isinstance(each, Exception))
        one.gate.set()  # it was not dead: what it has done is not put in the place of what the repeat has
        await first.wait()
        assert (await other.invoke(Invocation("work", {}, idempotency_key="k"))).replayed


async def test_a_process_that_could_not_say_so_gets_time_to(pair: Any) -> None:
    store, (one, other) = pair
    async with one, other:
        first = one.submit(Invocation("work", {}, idempotency_key="k"))
        await first.started_or_rejected()
        store.clear("process:")  # the store was away for longer than a process counts as alive
        with pytest.raises(Conflict, match="still running"):
            await other.invoke(Invocation("work", {}, idempotency_key="k"))
        assert other.ran == []
        one.gate.set()
        await first.wait()
