"""WebSockets are authenticated before they are accepted; who is refused leaves nothing behind."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets
from joserfc import jwt
from joserfc.jwk import OctKey

SECRET = "s" * 40


def token(subject="ann"):
    claims = {"sub": subject, "aud": "shop", "exp": 4_000_000_000}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))


@pytest.fixture
async def url(served):
    platform = await served(jwt_secret=SECRET, jwt_audience="shop")
    return platform.urls["api"].replace("http", "ws") + "/api/ws"


async def whoami(socket):
    await socket.send(json.dumps({"type": "execute", "id": 1, "workflow": "whoami", "params": {}}))
    while (message := json.loads(await socket.recv()))["type"] == "event":
        pass
    return message["result"]["user"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"additional_headers": {"Authorization": "Bearer wrong"}},
        {"additional_headers": {"X-API-Key": "nxk_wrong"}},
        {"additional_headers": {"Cookie": "nexus_session=wrong"}},
        {"subprotocols": ["nexus"]},
        {"subprotocols": ["nexus", "nexus.bearer.wrong"]},
        {"subprotocols": ["nexus", "nexus.bearer."]},
    ],
)
async def test_without_a_good_credential_the_handshake_is_answered_401(url, options):
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url, **options)
    answer = refused.value.response
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert json.loads(answer.body)["code"] == "authentication_failed"


async def test_a_header(url):
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {token()}"}) as socket:
        assert await whoami(socket) == "ann"


async def test_pages_bring_a_token_as_a_subprotocol(url):
    """`new WebSocket(url, ["nexus", "nexus.bearer." + token])`"""
    async with websockets.connect(url, subprotocols=["nexus", f"nexus.bearer.{token()}"]) as socket:
        assert socket.subprotocol == "nexus"
        assert await whoami(socket) == "ann"


@pytest.mark.parametrize(
    "options",
    [
        {"subprotocols": [f"nexus.bearer.{token()}", f"nexus.bearer.{token('bob')}"]},
        {"subprotocols": [f"nexus.bearer.{token()}"], "additional_headers": {"Authorization": f"Bearer {token()}"}},
    ],
)
async def test_two_credentials_are_none(url, options):
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(url, **options)
    assert refused.value.response.status_code == 400


HANDSHAKE = (
    b"GET /api/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


async def test_refused_connections_are_closed_though_the_caller_stays(url, raw):
    connections = [raw(url.replace("ws://", "http://").removesuffix("/api/ws")) for _ in range(100)]
    for connection in connections:
        await connection.send(HANDSHAKE + b"\r\n")
    for connection in connections:
        received = await connection.read(seconds=20)  # to its end
        assert received.startswith(b"HTTP/1.1 401 ")


class Slow:
    """A provider that decides when it is told to."""

    def __init__(self):
        self.asked = 0
        self.decided = asyncio.Event()

    async def authenticate(self, credentials):
        self.asked += 1
        await self.decided.wait()
        return {"user_id": "ann"}


async def test_handshakes_that_wait_are_bounded_for_each_address(served, raw, eventually):
    provider = Slow()
    platform = await served(auth_provider=provider, websocket_handshakes=5, auth_timeout=60.0)
    url = platform.urls["api"]
    connections = [raw(url) for _ in range(20)]
    for number, connection in enumerate(connections):
        await connection.send(HANDSHAKE + b"Authorization: Own %d\r\n\r\n" % number)
        await eventually(lambda number=number: provider.asked > min(number, 4))
    refused = [await connection.read(b"}") for connection in connections[5:]]
    assert all(each.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in each for each in refused)
    assert all(b"websocket_handshakes" in each for each in refused)
    assert provider.asked == 5
    provider.decided.set()
    for connection in connections[:5]:
        assert b" 101 " in await connection.read(b"\r\n\r\n")
    last = raw(url)
    assert b" 101 " in await last.ask(HANDSHAKE + b"Authorization: Own 1\r\n\r\n", b"\r\n\r\n")


async def test_callers_behind_one_proxy_do_not_share_their_handshakes(served, raw, eventually):
    provider = Slow()
    platform = await served(
        auth_provider=provider, websocket_handshakes=2, auth_timeout=60.0, trusted_proxies=["127.0.0.1"]
    )
    url = platform.urls["api"]
    behind = HANDSHAKE + b"X-Forwarded-For: 192.0.2.%d\r\nAuthorization: Own %d\r\n\r\n"
    for number in range(2):
        await raw(url).send(behind % (1, number))
    await eventually(lambda: provider.asked == 2)
    assert (await raw(url).ask(behind % (1, 2), b"}")).startswith(b"HTTP/1.1 503 ")
    other = raw(url)
    await other.send(behind % (2, 3))
    await eventually(lambda: provider.asked == 3)
    provider.decided.set()
    assert b" 101 " in await other.read(b"\r\n\r\n")
