"""The port that Prometheus reads, by real HTTP."""

from __future__ import annotations

import asyncio
import gzip
import threading

import pytest
from nexus_metrics import exporter

from nexus_core import Channel, ConfigurationError, Invocation, Stage, hookimpl
from nexus_core.testing import eventually

httpx2 = pytest.importorskip("httpx2")
hypercorn = pytest.importorskip("nexus_hypercorn.plugin").HypercornPlugin


@pytest.fixture(name="serve")
async def serve_fixture(make):
    """Serve a platform and return it and a client of its metrics' port."""
    opened = []

    async def serve(*plugins, **options):
        nexus = make(hypercorn, *plugins, **{"metrics_port": 0} | options)
        nexus.register("work", lambda: 1)
        serving = nexus.serving()
        listeners = await serving.__aenter__()
        url = next(each.url for each in listeners if "metrics" in each.channels)
        client = httpx2.AsyncClient(base_url=url, timeout=20)
        opened.append((client, serving))
        return nexus, client

    yield serve
    for client, serving in opened:
        await client.aclose()
        await serving.__aexit__(None, None, None)


async def test_it_is_read(serve, parse):
    nexus, client = await serve()
    await nexus.invoke(Invocation("work", {}, "api"))
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (
        parse(answer.text).value("nexus_calls_total", workflow="work", channel="api", outcome="completed", code="") == 1
    )
    head = await client.head("/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) > 1000


async def test_openmetrics_for_who_asks(serve):
    _, client = await serve()
    accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
    answer = await client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip", "gzip"), ("br, gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("identity", None), ("gzip;q=x", None)],
)
async def test_gzip_for_who_asks(serve, accepted, encoding):
    _, client = await serve()
    async with client.stream("GET", "/metrics", headers={"accept-encoding": accepted}) as answer:
        assert answer.headers.get("content-encoding") == encoding
        body = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert (gzip.decompress(body) if encoding else body).startswith(b"# HELP")


async def test_nothing_else_is_there(serve):
    _, client = await serve()
    for path in ("/", "/metrics/x", "/api/workflows", "/metricsx"):
        assert (await client.get(path)).status_code == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        answer = await client.request(method, "/metrics")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


async def test_a_token_may_be_asked_for(serve):
    _, client = await serve(metrics_token="a long token")
    for given in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic a long token"},
        {"authorization": ""},
    ):
        answer = await client.get("/metrics", headers=given)
        assert answer.status_code == 401
        assert "long token" not in answer.text
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await client.get("/metrics", headers={"authorization": "bearer a long token"})).status_code == 200


async def status_line(client, *headers):
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = ["GET /metrics HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(head).encode())
    line = await reader.readline()
    writer.close()
    return line


def authentication():
    """The plugin "auth", under its own name."""
    from nexus_auth.plugin import AuthPlugin

    return type("auth", (AuthPlugin,), {})


@pytest.mark.parametrize("empty", ["", "  "])
async def test_an_empty_token_lets_nobody_in_and_counts_for_nothing(serve, make, empty):
    _, client = await serve(
        authentication(), metrics_token=empty, enable_auth=True, jwt_secret="a secret that is long enough for it"
    )
    for given in ("Bearer ", "Bearer", "bearer  ", "Bearer null"):
        assert b" 401 " in await status_line(client, f"Authorization: {given}"), given  # no HTTP client sends it
    with pytest.raises(ConfigurationError, match="set metrics_token"):
        async with make(hypercorn, Asks(), metrics_port=0, host="0.0.0.0", metrics_token=empty).serving():
            pytest.fail("it has started")


async def test_where_callers_are_authenticated_it_is_for_who_may_read_metrics(serve, tmp_path):
    from nexus_auth.methods.api_keys import new_key
    from nexus_auth.methods.key_file import KeyFile

    file, keys = KeyFile(tmp_path / "keys.json"), {}
    for name, permissions in (("prometheus", ["metrics.read"]), ("alice", ["data.read"])):
        keys[name], kept = new_key(name, permissions)
        file.add(kept)
    _, client = await serve(
        authentication(), enable_auth=True, api_key_file=str(file.path), metrics_token="a long token"
    )

    async def status(credential=None, **headers):
        headers |= {} if credential is None else {"authorization": f"Bearer {credential}"}
        return (await client.get("/metrics", headers=headers)).status_code

    assert await status() == 401
    assert await status("wrong") == 401
    assert await status(keys["alice"]) == 403
    assert await status(keys["prometheus"]) == 200
    assert await status(**{"x-api-key": keys["prometheus"]}) == 200
    assert await status("a long token") == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("evil.example:9090", 421), ("localhost", 200), ("127.0.0.1:1", 200), ("[::1]:9090", 200)],
)
async def test_other_names_than_this_machines_are_not_answered(serve, host, status):
    """A page can let its own name mean this machine (DNS rebinding)."""
    _, client = await serve()
    answer = await client.get("/metrics", headers={"host": host})
    assert answer.status_code == status
    if status == 421:
        assert answer.json()["code"] == "host_not_allowed"


class Asks:
    """Stands for authentication, which guards every other port."""

    __name__ = "asks"
    stage = Stage.AUTHENTICATE

    @hookimpl
    def nexus_register_interceptors(self, nexus):
        return [self]

    async def __call__(self, invocation, call_next):
        return await call_next(invocation)


async def test_beyond_this_machine_a_token_is_needed(make):
    with pytest.raises(ConfigurationError, match='"metrics" does not authenticate its callers: set metrics_token, or'):
        async with make(hypercorn, Asks(), metrics_port=0, host="0.0.0.0").serving():
            pytest.fail("it has started")


async def test_an_application_that_is_embedded_does_not_have_it(make):
    async with make(metrics_port=0) as nexus:
        transport = httpx2.ASGITransport(nexus.asgi_app())
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/metrics")).status_code == 404


async def test_a_port_in_use_stops_the_start(serve, make):
    _, client = await serve()
    port = client.base_url.port
    with pytest.raises(ConfigurationError, match=f"metrics_port {port} on 127.0.0.1 is in use"):
        async with make(hypercorn, metrics_port=port).serving():
            pass


async def test_a_port_can_be_shared_with_another_channel(make, parse):
    class Door(Channel):
        name = "api"
        port = 0

        def asgi_app(self):
            async def answer(scope, receive, send):
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await send({"type": "http.response.body", "body": b"door"})

            return answer

    class Doors:
        @hookimpl
        def nexus_register_channels(self, nexus):
            return [door]

    door = Door()
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        door.port = free.getsockname()[1]
    async with make(hypercorn, Doors(), metrics_port=door.port).serving() as listeners:
        (listener,) = listeners
        async with httpx2.AsyncClient(base_url=listener.url) as client:
            assert (await client.get("/anything")).text == "door"
            assert parse((await client.get("/metrics")).text).value("nexus_workflows_limit") == 100


async def test_who_asks_at_once_gets_the_same(serve, monkeypatch):
    nexus, client = await serve()
    begun, go_on, renders = threading.Event(), threading.Event(), []
    render = exporter.rendered

    def slow(families, **options):
        renders.append(1)
        begun.set()
        go_on.wait(20)
        return render(families, **options)

    monkeypatch.setattr("nexus_metrics.channel.rendered", slow)
    first = asyncio.create_task(client.get("/metrics"))
    await eventually(begun.is_set)
    others = [asyncio.create_task(client.get("/metrics")) for _ in range(20)]
    calls = [await nexus.invoke("work") for _ in range(5)]  # nobody waits for it
    go_on.set()
    answers = await asyncio.gather(first, *others)
    assert len(calls) == 5
    assert {answer.status_code for answer in answers} == {200}
    assert len(renders) <= 3


async def test_who_leaves_takes_nobody_with_it(serve, raw):
    _, client = await serve()
    url = str(client.base_url).rstrip("/")
    for _ in range(10):
        leaving = raw(url)
        await leaving.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        leaving.reset()
    assert (await client.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics_backend": "graphite"}, "metrics_backend: must be prometheus, otlp or both, not graphite"),
        ({"metrics_backend": ""}, "metrics_backend: must be prometheus, otlp or both, not nothing"),
        ({"metrics_port": 70000}, "metrics_port"),
        ({"metrics_push_interval": 0}, "metrics_push_interval"),
    ],
)
def test_wrong_options(make, options, message):
    with pytest.raises(ConfigurationError, match=message):
        make(**options)
