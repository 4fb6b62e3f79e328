"""The API inside another application, under another server, and on a port that channels share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import ModuleType

import httpx2
import pytest
import websockets
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from nexus_core import Channel, ConfigurationError, hookimpl
from nexus_core.testing import stages_of

EXECUTE = "/api/workflows/add/execute"


@contextlib.asynccontextmanager
async def served_by_hypercorn(app):
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    stop = asyncio.Event()
    config = Config.from_mapping(bind=[f"fd://{bound.detach()}"], accesslog=None, errorlog=None, graceful_timeout=1)
    task = asyncio.create_task(hypercorn_serve(app, config, shutdown_trigger=stop.wait))
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
            yield client
    finally:
        stop.set()
        await task


async def test_under_a_server_of_someone_elses(make_nexus, eventually):
    nexus = make_nexus()
    async with served_by_hypercorn(nexus.asgi_app()) as client:
        await eventually(lambda: stages_of(nexus))  # the server's lifespan starts it, not the first request
        assert (await client.post(EXECUTE, json={"a": 2})).json()["result"] == 2
        assert (await client.get("/openapi.json")).json()["servers"] == [{"url": "/"}]
        assert (await client.get("/nothing")).status_code == 404
    assert not stages_of(nexus)


async def test_mounted(make_nexus):
    nexus = make_nexus()

    async def home(_):
        return PlainTextResponse("home")

    outer = Starlette(routes=[Route("/", home), Mount("/nexus", nexus.asgi_app())])
    async with served_by_hypercorn(outer) as client:
        assert (await client.get("/")).text == "home"
        assert (await client.post("/nexus" + EXECUTE, json={"a": 2})).json()["result"] == 2
        assert (await client.post(EXECUTE, json={"a": 2})).status_code == 404
        assert (await client.get("/nexus/nothing")).headers["content-type"] == "application/problem+json"
        page = await client.get("/nexus/docs")
        assert page.status_code == 200
        assert (await client.get("/nexus/docs/start.js")).status_code == 200
        assert (await client.get("/nexus/openapi.json")).json()["servers"] == [{"url": "/nexus"}]
        handle = await client.post("/nexus/api/workflows/sleeps/execute?wait=0", json={"seconds": 0.1})
        assert handle.headers["location"].startswith("/nexus/api/runs/")
        assert (await client.get(handle.headers["location"], params={"wait": 5})).json()["result"] == "slept"
        own = await client.get("/nexus/api/workflows", headers={"host": "public.example"})
        assert own.status_code == 200, "the outer application answers for its names"
    await nexus.__aexit__()


async def test_a_place_of_mounting_that_callers_choose_forges_no_header(make_nexus):
    nexus = make_nexus()
    outer = Starlette(routes=[Mount("/{tenant}", nexus.asgi_app())])
    async with served_by_hypercorn(outer) as client:
        answer = await client.post("/%0d%0aX-Forged:%201%0d%0aü/api/workflows/sleeps/execute?wait=0", json={})
        assert answer.status_code == 202
        assert "x-forged" not in answer.headers
        assert answer.headers["location"].startswith("/%0D%0AX-Forged%3A%201%0D%0A%C3%BC/api/runs/")
        assert (await client.get(answer.headers["location"])).json()["status"] == "running"
        document = await client.get("/%0d%0aü/openapi.json")
        assert document.json()["servers"] == [{"url": "/%0D%0A%C3%BC"}]
    await nexus.__aexit__()


async def test_mounted_and_not_able_to_start(make_nexus):
    class Unlucky:
        @hookimpl
        def nexus_startup(self):
            raise ConfigurationError("No disk.")

    async def home(_):
        return PlainTextResponse("home")

    outer = Starlette(routes=[Route("/", home), Mount("/nexus", make_nexus(Unlucky()).asgi_app())])
    async with served_by_hypercorn(outer) as client:
        for _ in range(2):
            answer = await client.post("/nexus" + EXECUTE, json={"a": 2})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["code"] == "overloaded"
        with pytest.raises(websockets.InvalidStatus) as refused:
            await websockets.connect(str(client.base_url.join("/nexus/api/ws").copy_with(scheme="ws")))
        assert refused.value.response.status_code == 503
        assert (await client.get("/")).text == "home"


class Beside(Channel):
    name = "beside"
    port_option = "beside_port"
    paths = ("/beside",)

    def __init__(self, port):
        self.port = port

    def asgi_app(self):
        return PlainTextResponse("beside")


def plugin_of(channel):
    module = ModuleType("beside_plugin")

    @hookimpl
    def nexus_register_channels(nexus):
        return [channel]

    module.nexus_register_channels = nexus_register_channels
    return module


@pytest.fixture
def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


async def test_channels_of_one_port_share_it(make_nexus, free_port):
    nexus = make_nexus(plugin_of(Beside(free_port)), api_port=free_port)
    async with nexus.serving() as listeners, httpx2.AsyncClient(base_url=listeners[0].url) as client:
        assert [sorted(listener.channels) for listener in listeners] == [["api", "beside"]]
        assert (await client.post(EXECUTE, json={"a": 2})).json()["result"] == 2
        assert (await client.get("/beside")).text == "beside"
        assert (await client.get("/beside/x")).text == "beside"
        assert (await client.get("/besides")).status_code == 404
        assert (await client.get("/nothing")).headers["content-type"] == "application/problem+json"


async def test_channels_with_port_0_each_get_their_own(make_nexus):
    nexus = make_nexus(plugin_of(Beside(0)))
    async with nexus.serving() as listeners:
        assert len({listener.url for listener in listeners}) == 2
