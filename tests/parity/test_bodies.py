"""Bodies on every channel that speaks HTTP: who sends one is known before it is read, and gzip is taken."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import guarded_app
import httpx2
import pytest
from token_issuer import secret_token

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
ADDRESSES = {
    "api": ("/api/workflows/echo/execute", {"value": "x"}, b'"result":"x"'),
    "cli": ("/cli", {"command": "execute", "workflow": "echo", "params": {"value": "x"}}, b'"result":"x"'),
    "mcp": ("/mcp", INITIALIZE, b'"serverInfo"'),
}
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
GOOD = secret_token(guarded_app.SECRET, exp=time.time() + 86_400)  # it is made long before the tests run
WRONG = secret_token("another secret, which is long enough too")
LIMIT = 200_000


class Served:
    """The addresses of a platform, and a client of them."""

    def __init__(self, urls: dict[str, str], client: httpx2.AsyncClient) -> None:
        self.urls = urls
        self._client = client

    async def post(self, channel: str, body: bytes, token: str | None = GOOD, **headers: str) -> httpx2.Response:
        credential = {} if token is None else {"authorization": f"Bearer {token}"}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = self.urls[channel] + ADDRESSES[channel][0]
        return await self._client.post(url, content=body, headers=HEADERS | credential | named)

    async def unsent(self, channel: str, token: str) -> bytes:
        """Announce a body, send none of it, and return the first line of the answer."""
        address = urlsplit(self.urls[channel])
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        lines = [f"POST {ADDRESSES[channel][0]} HTTP/1.1", f"host: {address.netloc}", f"authorization: Bearer {token}",
                 *(f"{name}: {value}" for name, value in HEADERS.items()), "content-length: 99999", "", ""]  # fmt: skip
        writer.write("\r\n".join(lines).encode())
        try:
            return await asyncio.wait_for(reader.readline(), 20)
        finally:
            writer.close()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> Served:
            guards = {
                "enable_auth": True,
                "jwt_secret": guarded_app.SECRET,
                "max_body_bytes": LIMIT,
                "body_timeout": 60,
            }
            nexus = Nexus(api_port=0, cli_port=0, mcp_port=0, **{**guards, **options})

            @nexus.workflow
            async def echo(value: str) -> str:
                return value

            listeners = await stack.enter_async_context(nexus.serving())
            client = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
            return Served({name: each.url for each in listeners for name in each.channels}, client)

        yield start


def _body(channel: str) -> bytes:
    return json.dumps(ADDRESSES[channel][1]).encode()


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_who_sends_a_large_body_is_known_before_it_is_read(serve: Any, channel: str) -> None:
    served = await serve()
    assert b" 401 " in await served.unsent(channel, WRONG)


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_what_is_wrong_with_a_body_is_told_to_known_callers_only(serve: Any, channel: str) -> None:
    served = await serve()
    for body in (b"{", b'{"a":1,"a":2}', b"[" * 500, b" " * 100_000 + b"{", b"x" * (LIMIT + 1)):
        answers = [await served.post(channel, body, token) for token in (None, WRONG, GOOD)]
        too_large = len(body) > LIMIT  # known from a header, and no work
        assert [answer.status_code for answer in answers] == ([413] * 3 if too_large else [401, 401, 400])


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_wrong_credentials_count_whatever_the_body_holds(serve: Any, channel: str) -> None:
    served = await serve(enable_rate_limiting=True, auth_failures_per_minute=3)
    bodies = (b"{", b" " * 100_000, _body(channel), b"[" * 500)
    statuses = [(await served.post(channel, body, WRONG + str(n))).status_code for n, body in enumerate(bodies)]
    assert statuses == [401, 401, 401, 429]


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_calls_count_once(serve: Any, channel: str) -> None:
    served = await serve(enable_rate_limiting=True, rate_limit_per_minute=5, rate_limit_before_auth=True)
    for body in (_body(channel), b" " * 50_000 + _body(channel)):
        assert (await served.post(channel, body)).status_code == 200
    refused = [(await served.post(channel, _body(channel))).status_code for _ in range(4)]
    assert refused == [200, 200, 200, 429] if channel != "mcp" else 429 in refused


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_bodies_may_be_gzip(serve: Any, channel: str) -> None:
    served = await serve()
    for coding in ("gzip", "x-gzip", "GZIP"):
        answer = await served.post(channel, gzip.compress(_body(channel)), content_encoding=coding)
        assert answer.status_code == 200, answer.text
        assert ADDRESSES[channel][2] in answer.content
    halves = gzip.compress(_body(channel)[:10]) + gzip.compress(_body(channel)[10:])
    assert (await served.post(channel, halves, content_encoding="gzip")).status_code == 200
    assert (await served.post(channel, _body(channel), content_encoding="identity")).status_code == 200


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_compressed_bodies_are_bounded(serve: Any, channel: str) -> None:
    served = await serve()
    packed = gzip.compress(_body(channel))
    bomb = gzip.compress(b" " * 100_000_000)
    for body, status in (
        (bomb, 413), (gzip.compress(b" " * (LIMIT + 1)), 413),
        (packed[:-3], 400), (b"{}", 400), (packed + b"rest", 400),
        (packed + gzip.compress(b"") * 2000, 400),
    ):  # fmt: skip
        assert (await served.post(channel, body, content_encoding="gzip")).status_code == status
        assert (await served.post(channel, body, WRONG, content_encoding="gzip")).status_code == 401


@pytest.mark.parametrize("channel", ADDRESSES)
async def test_other_encodings_are_refused_by_name(serve: Any, channel: str) -> None:
    served = await serve()
    for coding in ("deflate", "br", "gzip, gzip", "zstd"):
        answer = await served.post(channel, zlib.compress(_body(channel)), content_encoding=coding)
        assert answer.status_code == 415
        assert answer.headers["accept-encoding"] == "gzip"
        assert b"unsupported_encoding" in answer.content
