"""The options, and what may be said of them: no secret is in any message."""

from __future__ import annotations

import logging

import nexus_redis.plugin
import pytest
from nexus_redis.address import parse
from nexus_redis.settings import RedisSettings

from nexus_core import BackendUnavailable, ConfigurationError, Nexus

SECRET = "pa55w0rd"


def make(**options):
    return Nexus(discover=False, plugins=[nexus_redis.plugin.RedisPlugin], **options)


def test_without_a_url_there_is_no_store():
    with pytest.raises(ConfigurationError, match="pip install nexus-hub-redis, and set redis_url"):
        make().store("redis", "cache_backend")


async def test_a_url_without_effect_on_what_does_not_ask_for_the_store(redis_server):
    async with make(redis_url=redis_server.url) as nexus:
        assert nexus.store(None, "store").name == "memory"
    async with make(redis_url=redis_server.url, store="redis") as nexus:
        assert nexus.store(None, "store").name == "redis"


def test_the_environment_names_the_url_in_two_ways(monkeypatch, tmp_path):
    file = tmp_path / "nexus.yaml"
    file.write_text("redis_url: redis://file\n")

    def where(**options):
        nexus = make(config_file=str(file), **options)
        url = nexus.settings(RedisSettings).redis_url.get_secret_value()
        return parse(url).hosts[0][0], nexus.option_sources()["redis_url"]

    assert where()[0] == "file"
    monkeypatch.setenv("REDIS_URL", "redis://cluster-service:6379/0")
    assert where() == ("cluster-service", "environment variable REDIS_URL")
    monkeypatch.setenv("NEXUS_REDIS_URL", "redis://own")
    assert where() == ("own", "environment variable NEXUS_REDIS_URL")
    assert where(redis_url="redis://argument") == ("argument", "argument redis_url")
    monkeypatch.delenv("NEXUS_REDIS_URL")
    monkeypatch.setenv("REDIS_URL", "")
    assert where()[0] == "file"


@pytest.mark.parametrize("url", ["", "  ", None])
def test_an_empty_url_is_none(url):
    assert make(redis_url=url).settings(RedisSettings).redis_url is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", {"hosts": (("h", 6379),), "db": 0, "name": "h:6379/0", "tls": None}),
        ("redis://u:p%40ss%3F@h:1/3", {"username": "u", "password": "p@ss?", "db": 3, "name": "h:1/3"}),
        ("redis://:p@[::1]:7", {"username": "", "password": "p", "hosts": (("::1", 7),), "name": "[::1]:7/0"}),
        ("redis://h?db=4", {"db": 4}),
        ("rediss://h", {"tls": {}}),
        ("rediss://h?ssl_cert_reqs=none", {"tls": {"ssl_cert_reqs": "none"}}),
        ("rediss://h?ssl_check_hostname=False", {"tls": {"ssl_check_hostname": False}}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2, "hosts": ()}),
        (
            "redis+sentinel://u:p@a,b:2/main/5",
            {"hosts": (("a", 26379), ("b", 2)), "service": "main", "db": 5, "name": "main/5 of a:26379,b:2"},
        ),
    ],
)  # fmt: skip
def test_what_a_url_means(url, expected):
    address = parse(url)
    assert {name: getattr(address, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://u:{0}@h", "must begin with redis://"),
        ("{0}", "must begin with redis://"),
        ("redis://u:{0}@", "host or port"),
        ("redis://u:{0}", "host or port"),
        ("redis://u:{0}@h:port", "host or port"),
        ("redis://u:{0}@h:99999", "host or port"),
        ("redis://u:{0}@h/zero", "database"),
        ("redis://u:{0}@h/-1", "database"),
        ("redis://u:{0}@h?{0}", "is not a URL"),
        ("redis://u:1?{0}=x@h", "parameter"),
        ("redis://u:{0}@h?socket_timeout=5", "parameter"),
        ("redis://u:{0}@h?ssl_cert_reqs=none", "parameter"),
        ("redis://u:1#{0}@h", "%23"),
        ("redis://u:{0}@h1,h2", "Redis Cluster is not supported"),
        ("redis+cluster://u:{0}@h1,h2", "Redis Cluster is not supported"),
        ("rediss+sentinel://u:{0}@h/main", "without TLS"),
        ("redis+sentinel://u:{0}@h", "names no service"),
        ("redis+sentinel://u:{0}@h/main?db=2", "parameter"),
        ("rediss://u:{0}@h?ssl_ca_certs=/{0}", "is not a file"),
        ("rediss://u:{0}@h?ssl_cert_reqs={0}", "required or none"),
        ("rediss://u:{0}@h?ssl_check_hostname={0}", "true or false"),
        ("unix://u:{0}@", "no path"),
        ("redis://[{0}", "URL"),
    ],
)
def test_what_is_not_supported_is_refused_and_no_secret_repeated(url, reason):
    with pytest.raises(ConfigurationError) as refused:
        make(redis_url=url.format(SECRET))
    assert str(refused.value).startswith("argument redis_url: ")
    assert reason in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [{"redis_pool_size": 0}, {"redis_pool_max_connections": 0}, {"redis_timeout": 0}, {"redis_timeout": "nan"}],
)
def test_numbers_are_bounded(options):
    with pytest.raises(ConfigurationError, match=f"argument {next(iter(options))}"):
        make(**options)


@pytest.mark.parametrize("user", ["", "somebody"])
async def test_a_password_that_is_refused_is_in_no_log_and_no_error(start_redis, caplog, user):
    caplog.set_level(logging.DEBUG)
    server = start_redis(password="right")
    async with make(redis_url=f"redis://{user}:{SECRET}@127.0.0.1:{server.port}") as nexus:
        store = nexus.store("redis", "store")
        with pytest.raises(BackendUnavailable) as refused:
            await store.get("a")
        assert "password" in store.reason
        shown = f"{caplog.text} {store.reason} {refused.value.problem()} {nexus.settings(RedisSettings)!r}"
        assert "is unavailable" in shown
        assert SECRET not in shown


async def test_a_server_that_repeats_arguments_does_not_put_them_in_the_log(start_redis, caplog):
    server = start_redis("--rename-command", "SET", "")
    async with make(redis_url=server.url, redis_key_prefix=SECRET) as nexus:
        reason = nexus.store("redis", "store").reason
    assert "unknown command" in reason
    assert SECRET not in reason + caplog.text


async def test_user_password_and_database_are_used(start_redis):
    server = start_redis(password=SECRET)
    server.ask("ACL", "SETUSER", "shop", "on", ">k@y", "~*", "+@all")
    for url in (f"redis://:{SECRET}@127.0.0.1:{server.port}/2", f"redis://shop:k%40y@127.0.0.1:{server.port}/2"):
        async with make(redis_url=url) as nexus:
            await nexus.store("redis", "store").set("a", b"1", 60)
    assert server.ask("INFO", "keyspace").keys() == {"db2"}
