"""The options, and what may be said of them: no secret is in any message."""

from __future__ import annotations

import logging

import pytest
from nexus_pools.settings import PoolsSettings

from nexus_core import BackendUnavailable, ConfigurationError, Context
from nexus_core.errors import WorkflowFailed

SECRET = "pa55w0rd"


def test_without_an_address_there_is_http_alone(make):
    nexus = make(db_pool_size=3)
    assert nexus.service("http_pool").limit == 200
    with pytest.raises(ConfigurationError, match=r"set postgres_url\.$"):
        nexus.service("db_pool")


def test_the_guides_options(make):
    nexus = make(
        postgres_url="postgres://db", db_pool_size=20, db_pool_max_connections=100, db_pool_timeout=30,
        http_pool_size=50, http_pool_max_connections=200, http_pool_timeout=15,
    )  # fmt: skip
    db, http = nexus.service("db_pool"), nexus.service("http_pool")
    assert (db.size, db.limit, db.timeout) == (20, 100, 30)
    assert (http.size, http.limit, http.timeout) == (50, 200, 15)


def test_the_environment_names_the_address_in_two_ways(make, monkeypatch):
    monkeypatch.setenv("POSTGRES_URL", "postgresql://cluster/shop")
    assert make().service("db_pool").server == "cluster/shop"
    monkeypatch.setenv("NEXUS_POSTGRES_URL", "postgresql://own/shop")
    assert make().service("db_pool").server == "own/shop"
    assert make(postgres_url="postgresql://u:p@argument:7/shop").service("db_pool").server == "argument:7/shop"


@pytest.mark.parametrize("url", ["", "  ", None])
def test_an_empty_address_is_none(make, url):
    with pytest.raises(ConfigurationError, match=r"set postgres_url\.$"):
        make(postgres_url=url).service("db_pool")


def test_no_more_stay_open_than_there_may_be(make):
    assert make(postgres_url="postgres://db", db_pool_max_connections=5).service("db_pool").size == 5


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("mysql://u:{0}@h/db", "must begin with postgresql://"),
        ("postgresql+asyncpg://u:{0}@h/db", "must begin with postgresql://"),
        ("{0}", "must begin with postgresql://"),
        ("postgresql://u:{0}@h:port/db", "host or port"),
        ("postgresql://u:{0}@h:99999/db", "host or port"),
        ("postgresql://u:{0}/more@h/db", "host or port"),
        ("postgresql://u:1/{0}@h/db", "an @ after its host"),
        ("postgresql://u:1?{0}@h/db", "an @ after its host"),
        ("postgresql://u:1#{0}@h/db", "%23"),
        ("postgresql://[{0}", "host or port"),
    ],
)
def test_what_is_no_address_is_refused_and_no_secret_repeated(make, url, reason):
    with pytest.raises(ConfigurationError) as refused:
        make(postgres_url=url.format(SECRET))
    assert str(refused.value).startswith("argument postgres_url: ")
    assert reason in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"db_pool_size": -1},
        {"db_pool_max_connections": 0},
        {"db_pool_timeout": 0},
        {"db_pool_timeout": "nan"},
        {"http_pool_size": -1},
        {"http_pool_max_connections": 0},
        {"http_pool_timeout": -3},
    ],
)
def test_numbers_are_bounded(make, options):
    with pytest.raises(ConfigurationError, match=f"argument {next(iter(options))}"):
        make(**options)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://postgres:{password}@127.0.0.1:{port}/postgres",
        "postgresql://postgres:{password}@127.0.0.1:{port}/no_such_database",
        "postgresql://{password}:{password}@127.0.0.1:{port}/postgres",
        "postgresql://postgres:{password}@127.0.0.1:1/postgres",
        "postgresql://postgres:{password}@no-such-host.invalid/postgres",
        "postgresql://postgres@127.0.0.1:{port}/postgres?password={password}",
        "postgresql://postgres@127.0.0.1:{port}/postgres?sslmode={password}",
    ],
)
async def test_what_is_refused_is_said_without_the_password(make, postgres_server, caplog, address):
    caplog.set_level(logging.DEBUG)
    nexus = make(postgres_url=address.format(password=SECRET, port=postgres_server.port), db_pool_timeout=20)

    @nexus.workflow
    async def work(context: Context) -> None:
        async with context.service("db_pool").acquire():
            pass

    async with nexus:
        pool = nexus.service("db_pool")
        with pytest.raises(BackendUnavailable) as refused:
            async with pool.acquire():
                pass
        with pytest.raises(WorkflowFailed):
            await nexus.invoke("work")
        with pytest.raises(BackendUnavailable) as unhealthy:
            await nexus.health_checks()[0].check()
        assert (pool.in_use, pool.idle, pool.waiting) == (0, 0, 0)
    shown = f"{caplog.text} {refused.value} {unhealthy.value} {pool!r} {nexus.settings(PoolsSettings)!r}"
    assert "db_pool can't connect: PostgreSQL at " in caplog.text
    assert SECRET not in shown
