"""The server and the proxy do what tests rely on."""

from __future__ import annotations

import time

import pytest
import redis


def client(url: str, timeout: float = 5.0) -> redis.Redis:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        url, socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )


def test_each_test_finds_an_empty_server(redis_server):
    assert redis_server.ask("DBSIZE") == 0
    redis_server.ask("SET", "left", "behind")
    assert redis_server.calls() == {"dbsize": 1, "set": 1}


test_each_test_finds_an_empty_server_again = test_each_test_finds_an_empty_server


def test_the_server_is_paused_and_resumed(redis_server):
    with client(redis_server.url, 0.2) as connected:
        assert connected.ping()
        redis_server.pause()
        with pytest.raises(redis.TimeoutError):
            connected.ping()
        redis_server.resume()
        assert connected.ping()


def test_the_server_is_killed_and_comes_back_on_its_port(redis_server):
    url = redis_server.url
    redis_server.ask("SET", "a", 1)
    redis_server.kill()
    with client(url) as connected:
        with pytest.raises(redis.ConnectionError):
            connected.ping()
        redis_server.start()
        assert connected.get("a") is None


def test_a_server_has_the_options_it_is_given(start_redis):
    server = start_redis(password="secret")
    assert server.ask("PING")
    with client(f"redis://127.0.0.1:{server.port}") as connected, pytest.raises(redis.AuthenticationError):
        connected.ping()


def test_the_proxy_passes_and_counts(redis_proxy):
    with client(redis_proxy.url) as connected:
        connected.ping()
        before = redis_proxy.requests
        connected.set("a", 1)
        with connected.pipeline(transaction=False) as pipeline:
            assert pipeline.get("a").get("b").execute() == [b"1", None]
        assert redis_proxy.requests == before + 2
        assert redis_proxy.connections == 1


def test_the_proxy_delays(redis_proxy):
    with client(redis_proxy.url) as connected:
        connected.ping()
        redis_proxy.delay = 0.2
        redis_proxy.mode = "delay"
        begin = time.monotonic()
        connected.ping()
        assert 0.2 <= time.monotonic() - begin < 2


def test_what_a_blackhole_swallowed_arrives_when_it_ends(redis_proxy, redis_server):
    with client(redis_proxy.url, 0.2) as connected:
        connected.ping()
        redis_proxy.mode = "blackhole"
        with pytest.raises(redis.TimeoutError):
            connected.ping()
        with pytest.raises(redis.TimeoutError):
            client(redis_proxy.url, 0.2).ping()
        redis_proxy.mode = "pass"
        assert connected.ping()


def test_the_proxy_refuses_and_takes_again(redis_proxy):
    with client(redis_proxy.url) as connected:
        connected.ping()
        redis_proxy.mode = "refuse"
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                connected.ping()
        redis_proxy.mode = "pass"
        assert connected.ping()


def test_the_proxy_cuts_a_reply(redis_proxy):
    with client(redis_proxy.url) as connected:
        connected.set("a", "x" * 1000)
        redis_proxy.mode = "cut"
        with pytest.raises(redis.ConnectionError):
            connected.get("a")
        redis_proxy.mode = "pass"
        assert connected.get("a") == b"x" * 1000


def test_the_proxy_closes_every_connection_when_the_server_is_gone(redis_proxy, redis_server):
    redis_server.kill()
    with client(redis_proxy.url) as connected, pytest.raises(redis.ConnectionError):
        connected.ping()
