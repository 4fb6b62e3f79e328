"""What one caller may store in the file: counted by the file itself, for all processes."""

from __future__ import annotations

import asyncio
import random
import sqlite3

import pytest
from nexus_sessions.sqlite_store import SqliteStore
from nexus_toolkit.accounts import CallerLimits

from nexus_core.errors import StateLimitReached
from nexus_core.state.limits import CACHED_RESULTS, IDEMPOTENCY_KEYS, SESSIONS
from nexus_core.state.stores import BoundedStore

NOW = [1000.0]


@pytest.fixture(name="stores")
async def stores_fixture(tmp_path):
    """Two processes' stores in one file."""
    NOW[0] = 1000.0
    limits = CallerLimits(5, 1000)
    stores = [SqliteStore(tmp_path / "state.db", clock=lambda: NOW[0], limits=limits) for _ in range(2)]
    stores[0].path = tmp_path / "state.db"
    yield stores
    for store in stores:
        await store.close()


def accounts(path):
    """What the file says of its accounts, which must be what there is."""
    with sqlite3.connect(path) as connection:
        kept = connection.execute("SELECT account, entries, bytes FROM accounts ORDER BY account").fetchall()
        counted = connection.execute(
            "SELECT account, count(*), sum(length(e.key) + length(value)) FROM charges JOIN entries e USING (key) "
            "GROUP BY account ORDER BY account"
        ).fetchall()
    assert kept == counted
    return [(entries, size) for _, entries, size in kept]


async def test_a_caller_has_so_many_in_all_processes(stores):
    assert isinstance(stores[0], BoundedStore)
    ann = [store.scoped(SESSIONS, "ann") for store in stores]
    for number in range(5):
        await ann[number % 2].set(f"a{number}", b"x", 60)
    for step in (ann[0].set("more", b"x", 60), ann[1].add("more", b"x", 60)):
        with pytest.raises(StateLimitReached, match=r"sessions .* 5 \(sqlite_caller_max_entries\)"):
            await step
    assert await stores[0].get("more") is None
    assert await ann[0].add("a0", b"y", 60) == b"x"
    await stores[0].scoped(SESSIONS, "bob").set("b", b"x", 60)
    await stores[0].scoped(IDEMPOTENCY_KEYS, "ann").set("k", b"x", 60)
    await stores[0].scoped(CACHED_RESULTS, "ann").set("cached", b"x" * 10_000, 60)
    assert await ann[1].delete("a0", b"x")
    assert await ann[0].add("more", b"x", 60) is None
    assert sorted(accounts(stores[0].path)) == [(1, 2), (1, 2), (5, 17)]


async def test_a_caller_has_so_many_bytes(stores):
    ann = stores[0].scoped(SESSIONS, "ann")
    await ann.set("a", b"x" * 400, 60)
    await ann.set("b", b"x" * 400, 60)
    with pytest.raises(StateLimitReached, match=r"1000 bytes \(sqlite_caller_max_bytes\)"):
        await ann.replace("a", b"x" * 400, b"y" * 700, 60)
    assert await ann.get("a") == b"x" * 400
    assert not await ann.replace("a", b"other", b"y", 60)
    assert await ann.replace("a", b"x" * 400, b"y" * 400, 60)  # no larger
    assert await ann.replace("a", b"y" * 400, b"y", 60)
    assert await ann.replace("b", b"x" * 400, b"x" * 700, 60)
    await stores[1].set("b", b"z", 60)  # whoever writes, it stays the caller's
    assert accounts(stores[0].path) == [(2, 4)]


async def test_what_has_expired_counts_no_longer(stores):
    ann = stores[0].scoped(SESSIONS, "ann")
    for number in range(5):
        await ann.set(f"a{number}", b"x", 5)
    NOW[0] += 6
    await ann.set("later", b"x", 60)
    assert accounts(stores[0].path) == [(1, 6)]
    await ann.set("later", b"x", -1)
    assert accounts(stores[0].path) == []


async def test_whatever_happens_the_sums_are_right(stores):
    choose, refused = random.Random(7), 0
    for _ in range(600):
        store, who = choose.choice(stores), choose.choice("abc")
        scoped, key = store.scoped(SESSIONS, who), f"{who}{choose.randrange(8)}"
        value, ttl = b"x" * choose.choice([0, 1, 100, 300]), choose.choice([-1, 5, 50, 50, 50, 50])
        steps = [
            lambda scoped=scoped, key=key, value=value, ttl=ttl: scoped.set(key, value, ttl),
            lambda scoped=scoped, key=key, value=value, ttl=ttl: scoped.add(key, value, ttl),
            lambda scoped=scoped, key=key, value=value, ttl=ttl: scoped.replace(key, b"x", value, ttl),
            lambda scoped=scoped, key=key: scoped.delete(key),
            lambda store=store, key=key, value=value, ttl=ttl: store.set(key, value, ttl),
        ]
        try:
            await choose.choice(steps)()
        except StateLimitReached:
            refused += 1
        NOW[0] += choose.choice([0, 0, 0, 0, 0, 0, 0, 10])
    assert refused
    assert all(entries <= 5 for entries, _ in accounts(stores[0].path))


async def test_many_at_a_time_get_no_more(stores):
    async def put(number):
        try:
            await stores[number % 2].scoped(SESSIONS, "ann").set(f"a{number}", b"x", 60)
        except StateLimitReached:
            return 0
        return 1

    assert sum(await asyncio.gather(*(put(number) for number in range(40)))) == 5


async def test_a_file_from_before_gets_accounts(tmp_path):
    path = tmp_path / "old.db"
    store = SqliteStore(path)
    await store.set("old", b"1", 60)
    await store.close()
    with sqlite3.connect(path) as connection:
        for kind, names in (
            ("TRIGGER", ("charge_added", "charge_changed", "charge_removed", "entry_changed", "entry_removed")),
            ("TABLE", ("charges", "accounts")),
        ):
            for name in names:
                connection.execute(f"DROP {kind} {name}")
    store = SqliteStore(path, limits=CallerLimits(1, 1000))
    assert await store.get("old") == b"1"
    await store.scoped(SESSIONS, "ann").set("a", b"1", 60)
    with pytest.raises(StateLimitReached):
        await store.scoped(SESSIONS, "ann").set("b", b"1", 60)
    await store.close()
