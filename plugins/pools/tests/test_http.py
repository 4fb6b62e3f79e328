"""``http_pool``, against a real server."""

from __future__ import annotations

import asyncio
import threading

import httpx2
import pytest

from nexus_core import BackendUnavailable, Context
from nexus_core.types.trace import current_trace


class WebServer:
    """Answers each request with its path and headers, once its gate is open. ``/cookie`` sets a cookie."""

    def __init__(self):
        self.gate = asyncio.Event()
        self.gate.set()
        self.connections = self.requests = self.under_way = self.most = 0
        self.headers = []
        self._writers = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.hang_up()

    def hang_up(self):
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                self.requests += 1
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                self.headers.append(dict(line.lower().split(": ", 1) for line in lines[1:] if line))
                await self.gate.wait()
                self.under_way -= 1
                path = lines[0].split()[1]
                extra = "Set-Cookie: user=alice; Path=/\r\n" if path == "/cookie" else ""
                status = "302 Found\r\nLocation: /there" if path == "/moved" else "200 OK"
                body = path.encode() * (1000 if path == "/long" else 1)
                writer.write(f"HTTP/1.1 {status}\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@pytest.fixture
async def web():
    async with WebServer() as server:
        yield server


async def test_an_async_and_a_sync_workflow(make, web):
    nexus = make()

    @nexus.workflow
    async def awaited(context: Context) -> str:
        return (await context.service("http_pool").client.get(f"{web.url}/a")).text

    @nexus.workflow
    async def acquired(context: Context) -> str:
        async with context.service("http_pool").acquire() as client:
            return (await client.get(f"{web.url}/b")).text

    @nexus.workflow
    def threaded(context: Context) -> str:
        client = context.service("http_pool").sync().client
        response = client.get(f"{web.url}/c")
        response.raise_for_status()
        with context.service("http_pool").sync().acquire() as client:
            return response.text + client.request("GET", f"{web.url}/d").text

    @nexus.workflow
    def streamed(context: Context) -> int:
        with context.service("http_pool").sync().client.stream("GET", f"{web.url}/long") as response:
            return sum(len(part) for part in response.aiter_bytes())

    async with nexus:
        assert (await nexus.invoke("awaited")).value == "/a"
        assert (await nexus.invoke("acquired")).value == "/b"
        assert (await nexus.invoke("threaded")).value == "/c/d"
        assert (await nexus.invoke("streamed")).value == 5000
        assert web.connections == 1
        pool = nexus.service("http_pool")
        assert (pool.in_use, pool.idle, pool.waiting) == (0, 1, 0)
    assert pool.idle == 0


async def test_two_hundred_calls_at_once(make, web):
    nexus = make(http_pool_max_connections=8, http_pool_size=3, http_pool_timeout=30, max_concurrent_workflows=200)

    @nexus.workflow
    async def work(n: int, context: Context) -> str:
        return (await context.service("http_pool").client.get(f"{web.url}/{n}")).text

    async with nexus:
        results = await asyncio.gather(*(nexus.invoke("work", {"n": n}) for n in range(200)))
        assert [each.value for each in results] == [f"/{n}" for n in range(200)]
        pool = nexus.service("http_pool")
        assert (pool.in_use, pool.waiting) == (0, 0)
        assert 1 <= pool.idle <= 3
    assert 1 <= web.most <= 8


async def test_a_request_waits_for_its_turn_for_a_while(make, web, eventually):
    async with make(http_pool_max_connections=1, http_pool_timeout=30) as nexus:
        pool = nexus.service("http_pool")
        web.gate.clear()
        first = asyncio.create_task(pool.client.get(web.url))
        await eventually(lambda: web.under_way == 1)
        pool.timeout = 0.2
        with pytest.raises(BackendUnavailable) as refused:
            await pool.client.get(web.url)
        assert str(refused.value) == (
            "http_pool had no free connection within 0.2 seconds (http_pool_timeout): "
            "all 1 (http_pool_max_connections) are in use."
        )
        pool.timeout = 30
        second = asyncio.create_task(pool.client.get(web.url))
        await eventually(lambda: pool.waiting == 1)
        assert pool.in_use == 1
        web.gate.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert (pool.in_use, pool.waiting) == (0, 0)


async def test_a_streamed_response_has_its_place_until_it_is_closed(make, web):
    async with make(http_pool_max_connections=1, http_pool_timeout=20) as nexus:
        pool = nexus.service("http_pool")
        async with pool.client.stream("GET", f"{web.url}/long") as response:
            assert pool.in_use == 1
            assert len(await response.aread()) == 5000
            assert pool.in_use == 0
        async with pool.client.stream("GET", f"{web.url}/long"):
            assert pool.in_use == 1
        assert pool.in_use == 0
        assert (await pool.client.get(web.url)).text == "/"


async def test_cancelled_and_failed_requests_free_their_place(make, web, eventually):
    async with make(http_pool_max_connections=1, http_pool_timeout=20) as nexus:
        pool = nexus.service("http_pool")
        web.gate.clear()
        first = asyncio.create_task(pool.client.get(web.url))
        await eventually(lambda: web.under_way == 1)
        second = asyncio.create_task(pool.client.get(web.url))
        await eventually(lambda: pool.waiting == 1)
        for each in (second, first):
            each.cancel()
            with pytest.raises(asyncio.CancelledError):
                await each
        assert (pool.in_use, pool.waiting) == (0, 0)
        web.gate.set()
        with pytest.raises(httpx2.ConnectError):
            await pool.client.get("http://127.0.0.1:1/")
        assert pool.in_use == 0
        assert (await pool.client.get(web.url)).text == "/"


async def test_connections_that_broke_are_replaced(make, web, eventually):
    async with make(http_pool_timeout=20) as nexus:
        pool = nexus.service("http_pool")
        assert (await pool.client.get(web.url)).text == "/"
        web.hang_up()
        await eventually(lambda: not web._writers)
        await asyncio.sleep(0)
        assert (await pool.client.get(web.url)).text == "/"
        assert web.connections == 2


async def test_no_caller_gets_anothers_cookies(make, web):
    async with make() as nexus:
        client = nexus.service("http_pool").client
        assert (await client.get(f"{web.url}/cookie")).headers["set-cookie"].startswith("user=alice")
        await client.get(web.url)
        await client.get(web.url, headers={"cookie": "own=1"})
        await client.get(web.url)
        assert [each.get("cookie") for each in web.headers] == [None, None, "own=1", None]


class Trace:
    trace_id, span_id = "a" * 32, "b" * 16

    def headers(self):
        return {"traceparent": f"00-{self.trace_id}-{self.span_id}-01"}


async def test_requests_join_the_trace_of_the_call(make, web):
    nexus = make()

    @nexus.workflow
    async def awaited(context: Context) -> None:
        await context.service("http_pool").client.get(web.url)

    @nexus.workflow
    def threaded(context: Context) -> None:
        context.service("http_pool").sync().client.get(web.url, headers={"own": "1"})

    @nexus.workflow
    async def told(context: Context) -> None:
        await context.service("http_pool").client.get(web.url, headers={"traceparent": "mine"})

    async with nexus:
        await nexus.invoke("awaited")
        current_trace.set(Trace())
        for name in ("awaited", "threaded", "told"):
            await nexus.invoke(name)
    expected = f"00-{'a' * 32}-{'b' * 16}-01"
    assert [each.get("traceparent") for each in web.headers] == [None, expected, expected, "mine"]


async def test_nobody_closes_it_for_the_others(make, web):
    async with make() as nexus:
        client = nexus.service("http_pool").client
        async with client:
            pass
        await client.aclose()
        assert (await client.get(web.url, follow_redirects=True)).text == "/"
        assert (await client.get(f"{web.url}/moved", follow_redirects=True)).text == "/there"
        assert (await client.get(f"{web.url}/moved")).status_code == 302
    with pytest.raises(BackendUnavailable, match="http_pool is closed"):
        await client.get(web.url)
    with pytest.raises(BackendUnavailable, match="http_pool is closed"):
        _ = nexus.service("http_pool").client


def test_each_start_has_its_own(make):
    nexus = make()

    async def work():
        async with nexus, WebServer() as web:
            return (await nexus.service("http_pool").client.get(web.url)).text

    assert [asyncio.run(work()) for _ in range(2)] == ["/", "/"]


async def test_two_platforms_have_their_own(make, web):
    one, other = make(http_pool_max_connections=1), make(http_pool_max_connections=1)
    async with one, other:
        assert one.service("http_pool").client is not other.service("http_pool").client
        async with one.service("http_pool").client.stream("GET", web.url):
            assert (await other.service("http_pool").client.get(web.url)).text == "/"


async def test_many_threads_share_it(make, web):
    nexus = make(http_pool_max_connections=4, http_pool_timeout=30)
    seen, lock = [], threading.Lock()

    @nexus.workflow
    def work(n: int, context: Context) -> None:
        text = context.service("http_pool").sync().client.get(f"{web.url}/{n}").text
        with lock:
            seen.append(text)

    async with nexus:
        await asyncio.gather(*(nexus.invoke("work", {"n": n}) for n in range(40)))
    assert sorted(seen) == sorted(f"/{n}" for n in range(40))
    assert web.most <= 4
