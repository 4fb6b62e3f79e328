"""What pages may do: CORS, the Origin and the Host header, compression."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest
import zstandard
from nexus_api.compression import compressed

EXECUTE = "/api/workflows/add/execute"
FRIEND = "https://app.example.com"
EVIL = ["https://evil.example", "null", "https://app.example.com.evil", "http://app.example.com",
        "https://app.example.com:8443", "https://xapp.example.com", "https://app.example.com@evil.example", "",
        "http://[", "file://", "https://APP.example.com.", "\xff"]  # fmt: skip


@pytest.fixture
async def browser(make_nexus, serve):
    async with httpx2.AsyncClient(base_url=await serve(make_nexus(cors_origins=[FRIEND]))) as client:
        yield client


def preflight(origin):
    return {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type"}


async def test_an_allowed_origin(browser):
    answer = await browser.options(EXECUTE, headers=preflight(FRIEND))
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (204, FRIEND)
    called = await browser.post(EXECUTE, json={"a": 1}, headers={"origin": FRIEND})
    assert (called.status_code, called.headers["access-control-allow-origin"]) == (200, FRIEND)
    assert "access-control-allow-credentials" not in called.headers
    assert "origin" in called.headers["vary"].lower()


async def test_errors_are_readable_for_an_allowed_origin(browser):
    answer = await browser.post(EXECUTE, json={}, headers={"origin": FRIEND})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (422, FRIEND)


@pytest.mark.parametrize("origin", EVIL)
async def test_other_origins(browser, origin):
    origin = origin.encode("latin-1")
    answer = await browser.options(EXECUTE, headers=preflight(origin))
    assert answer.status_code in (400, 403)
    assert "access-control-allow-origin" not in answer.headers
    answer = await browser.post(EXECUTE, json={"a": 1}, headers={"origin": origin})
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in answer.headers
    read = await browser.get("/api/workflows", headers={"origin": origin})
    assert "access-control-allow-origin" not in read.headers


async def test_no_origin_is_allowed_by_default(client):
    answer = await client.options(EXECUTE, headers=preflight(FRIEND))
    assert "access-control-allow-origin" not in answer.headers
    assert (await client.post(EXECUTE, json={"a": 1}, headers={"origin": FRIEND})).status_code == 403


async def test_the_same_origin_may_call(client):
    origin = str(client.base_url).rstrip("/")
    assert (await client.post(EXECUTE, json={"a": 1}, headers={"origin": origin})).status_code == 200


async def test_every_origin_never_with_credentials(make_nexus, serve, client):
    url = await serve(make_nexus(cors_origins=["*"]))
    answer = await client.post(url + EXECUTE, json={"a": 1}, headers={"origin": EVIL[0]})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, EVIL[0])
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_name_that_was_rebound_to_this_machine_is_not_answered(client):
    """The page is then of the same origin as what it reads; only the Host header gives it away."""
    for path, method in ((EXECUTE, "POST"), ("/api/workflows", "GET"), ("/openapi.json", "GET"), ("/docs", "GET")):
        answer = await client.request(
            method, path, headers={"host": "evil.example:8000", "origin": "http://evil.example:8000"}
        )
        assert answer.status_code == 421
        assert "allowed_hosts" in answer.json()["detail"]
    for host in ("localhost.evil.example", "127.0.0.1.evil.example", "evil.example#localhost", "0x7f.1", "xlocalhost"):
        refused = 400 if "#" in host else 421
        assert (await client.get("/api/workflows", headers={"host": host})).status_code == refused


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1234", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:80", "app.localhost", "10.0.0.1"],
)
async def test_names_that_cannot_be_rebound(client, host):
    assert (await client.get("/api/workflows", headers={"host": host})).status_code == 200


async def test_allowed_hosts(make_nexus, serve, client):
    url = await serve(make_nexus(allowed_hosts=["api.example.com"]))
    for host, status in (("api.example.com", 200), ("API.example.com:443", 200), ("api.example.com.evil", 421)):
        assert (await client.get(url + "/api/workflows", headers={"host": host})).status_code == status
    anyone = await serve(make_nexus(allowed_hosts=["*"]))
    assert (await client.get(anyone + "/api/workflows", headers={"host": "x.example"})).status_code == 200


@pytest.mark.parametrize(
    ("accepts", "coding"),
    [("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"), ("identity", None), ("", None), ("gzip;q=0", None), ("x", None)],
)
async def test_compression(client, accepts, coding):
    headers = {"accept-encoding": accepts}
    large = await client.post("/api/workflows/blob/execute", json={"size": 50_000}, headers=headers)
    assert large.headers.get("content-encoding") == coding
    content = (
        zstandard.ZstdDecompressor().decompressobj().decompress(large.content) if coding == "zstd" else large.content
    )
    assert len(json.loads(content)["result"]) == 50_000
    if coding:
        assert "accept-encoding" in large.headers["vary"].lower()
        assert large.num_bytes_downloaded < 5000
    small = await client.post(EXECUTE, json={"a": 1}, headers=headers)
    assert "content-encoding" not in small.headers


async def test_compression_switched_off(make_nexus, serve, client):
    url = await serve(make_nexus(compression_level=0))
    answer = await client.post(url + "/api/workflows/blob/execute", json={"size": 50_000})
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("accepts", ["gzip", "br", "zstd"])
async def test_while_a_large_answer_is_compressed_others_get_their_turn(accepts):
    turns, sent = 0, []

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"[1, 2, 3]" * 300_000})

    async def send(message):
        sent.append(message)

    async def take_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    others = asyncio.create_task(take_turns())
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"accept-encoding", accepts.encode())]}
    await compressed(large, 4)(scope, None, send)
    others.cancel()
    assert dict(sent[0]["headers"])[b"content-encoding"] == accepts.encode()
    assert [message.get("more_body", False) for message in sent[1:]] == [True] * (len(sent) - 2) + [False]
    assert turns >= 10
