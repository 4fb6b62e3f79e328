"""What a credential has opened ends with it: every kind of stream of every channel, on real connections."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager

import httpx2
import pytest
import websockets
from nexus_auth.browser.sessions import csrf_token
from nexus_auth.methods.api_keys import new_key, parts_of
from nexus_auth.methods.key_file import KeyFile
from token_issuer import AUDIENCE, SECRET, secret_token

from nexus_core import Context
from nexus_core.pipeline.credentials import EXPIRED, REVOKED

PATIENCE = 30.0
"""Seconds after which a stream that goes on does so for ever."""

LATE = 6.0
"""Seconds by which an end may be late on a slow machine. It takes half a second at most on a quick one."""

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def key(file):
    return new_api_key(file)


@pytest.fixture
def other(file):
    return new_api_key(file)


@pytest.fixture
async def site(served, file, key, other):
    """All channels, and a workflow that goes on."""
    platform = await served(
        channels=("api", "cli", "mcp"),
        auth_providers=["jwt", "api_key"],
        jwt_secret=SECRET,
        api_key_file=str(file.path),
        shutdown_grace=0,
    )
    platform.ended = asyncio.Event()

    @platform.nexus.workflow
    async def endless(context: Context) -> str:
        context.progress(1, 2, "it has begun")
        try:
            await asyncio.Event().wait()
        finally:
            platform.ended.set()

    return platform


def new_api_key(file):
    token, key = new_key("alice", ["data.read"])
    file.add(key)
    return token


async def background_run(http, site):
    """A run that nobody waits for."""
    begun = await http.post(f"{site.urls['api']}/api/workflows/endless/execute?wait=0", json={})
    assert begun.status_code == 202
    return begun.json()["run_id"]


class Stream:
    """An open stream: ``begun`` when something has come, ``rest`` is all that came until it was closed."""

    def __init__(self, chunks):
        self._chunks = chunks

    async def begin(self, sign):
        seen = ""
        async with asyncio.timeout(PATIENCE):
            while sign not in seen:
                seen += await anext(self._chunks)

    async def rest(self):
        async with asyncio.timeout(PATIENCE):
            return "".join([chunk async for chunk in self._chunks])


@asynccontextmanager
async def request(http, method, url, sign, **arguments):
    async with http.stream(method, url, **arguments) as answer:
        assert answer.status_code == 200, await answer.aread()
        stream = Stream(answer.aiter_text())
        if sign:
            await stream.begin(sign)
        yield stream


@asynccontextmanager
async def followed_events(site, http):
    async with request(http, "GET", f"{site.urls['api']}/api/events", "following") as stream:
        yield stream


@asynccontextmanager
async def followed_run(site, http):
    run = await background_run(http, site)
    async with request(http, "GET", f"{site.urls['api']}/api/runs/{run}/events", "progress") as stream:
        yield stream


@asynccontextmanager
async def streamed_call(site, http):
    url, headers = f"{site.urls['api']}/api/workflows/endless/execute", {"accept": "text/event-stream"}
    async with request(http, "POST", url, "progress", json={}, headers=headers) as stream:
        yield stream


@asynccontextmanager
async def websocket(site, http):
    url = site.urls["api"].replace("http", "ws") + "/api/ws"
    sent = {name: value for name, value in http.headers.items() if name in ("authorization", "cookie", "origin")}
    async with websockets.connect(url, additional_headers=sent, open_timeout=PATIENCE) as socket:
        await socket.send(json.dumps({"type": "events", "id": 1}))
        await socket.send(json.dumps({"type": "execute", "id": 2, "workflow": "endless"}))

        async def messages():
            try:
                while True:
                    yield await socket.recv()
            except websockets.ConnectionClosed as exc:
                yield f"closed {exc.rcvd.code} {exc.rcvd.reason}"

        stream = Stream(messages())
        await stream.begin("progress")
        yield stream


@asynccontextmanager
async def command_line(site, http, **body):
    async with request(http, "POST", f"{site.urls['cli']}/cli", "event", json=body) as stream:
        yield stream


@asynccontextmanager
async def followed_on_command_line(site, http):
    async with command_line(site, http, command="events.follow") as stream:
        yield stream


@asynccontextmanager
async def run_on_command_line(site, http):
    async with command_line(site, http, command="runs.follow", run_id=await background_run(http, site)) as stream:
        yield stream


@asynccontextmanager
async def call_on_command_line(site, http):
    async with command_line(site, http, command="execute", workflow="endless", events=True) as stream:
        yield stream


async def mcp_session(site, http):
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    opened = await http.post(f"{site.urls['mcp']}/mcp", json=body, headers=ACCEPT)
    assert opened.status_code == 200, opened.text
    session = {**ACCEPT, "mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
    body = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await http.post(f"{site.urls['mcp']}/mcp", json=body, headers=session)
    return session


@asynccontextmanager
async def mcp_get(site, http):
    async with request(http, "GET", f"{site.urls['mcp']}/mcp", "", headers=await mcp_session(site, http)) as stream:
        yield stream


@asynccontextmanager
async def mcp_listen(site, http):
    headers = {**ACCEPT, "mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}
    params = {"notifications": {"toolsListChanged": True}, "_meta": META}
    body = {"jsonrpc": "2.0", "id": 7, "method": "subscriptions/listen", "params": params}
    async with request(http, "POST", f"{site.urls['mcp']}/mcp", "acknowledged", json=body, headers=headers) as stream:
        yield stream


@asynccontextmanager
async def mcp_call(site, http):
    params = {"name": "endless", "arguments": {}, "_meta": {"progressToken": 1}}
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    session = await mcp_session(site, http)
    async with request(http, "POST", f"{site.urls['mcp']}/mcp", "progress", json=body, headers=session) as stream:
        yield stream


@asynccontextmanager
async def waited_for(site, http):
    """Not a stream, but as long: what waits for a run in the background."""
    url = f"{site.urls['api']}/api/workflows/endless/execute?wait=60"
    async with waiting(http.post(url, json={}), site) as stream:
        yield stream


@asynccontextmanager
async def waited_for_on_command_line(site, http):
    body = {"command": "execute", "workflow": "endless", "wait": 60}
    async with waiting(http.post(f"{site.urls['cli']}/cli", json=body), site) as stream:
        yield stream


@asynccontextmanager
async def waited_for_by_a_model(site, http):
    arguments = {"action": "wait", "run_id": await background_run(http, site), "wait": 60}
    params = {"name": "nexus_runs", "arguments": arguments}
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
    session = await mcp_session(site, http)
    async with waiting(http.post(f"{site.urls['mcp']}/mcp", json=body, headers=session), site) as stream:
        yield stream


@asynccontextmanager
async def waiting(request, site):
    task = asyncio.create_task(request)
    async with asyncio.timeout(PATIENCE):
        while not len(site.nexus.credentials):
            await asyncio.sleep(0.01)

    async def answer():
        yield (await task).text

    yield Stream(answer())
    task.cancel()


STREAMS = [
    followed_events, followed_run, streamed_call, websocket, followed_on_command_line, run_on_command_line,
    call_on_command_line, mcp_get, mcp_listen, mcp_call, waited_for, waited_for_on_command_line, waited_for_by_a_model,
]  # fmt: skip
names = lambda each: each.__name__  # noqa: E731


def client(authorization):
    return httpx2.AsyncClient(headers={"authorization": authorization}, timeout=httpx2.Timeout(PATIENCE))


@pytest.mark.parametrize("opened", STREAMS, ids=names)
async def test_a_stream_ends_when_its_token_does(site, opened):
    async for expires_at, http in tokens():
        async with opened(site, http) as stream:
            if time.time() < expires_at:
                told = await stream.rest()
                break
    late = time.time() - expires_at
    assert 0 <= late < LATE, late
    assert "credential_ended" in told
    assert EXPIRED in told
    assert len(site.nexus.credentials) == 0
    if opened is websocket:
        assert f"closed 4401 {EXPIRED}" in told


async def tokens():
    """Give clients whose tokens end soon: later and later, for a machine that takes long to open a stream."""
    for seconds in (1.0, 4.0, 12.0):
        expires_at = time.time() + seconds
        async with client(f"Bearer {secret_token(exp=expires_at)}") as http:
            yield expires_at, http
    pytest.fail("the machine is too slow to open a stream")


@pytest.mark.parametrize("opened", STREAMS, ids=names)
async def test_a_stream_ends_when_its_key_is_revoked(site, file, key, opened):
    async with client(f"Bearer {key}") as http, opened(site, http) as stream:
        file.revoke(parts_of(key)[0])
        begin = time.monotonic()
        told = await stream.rest()
        assert time.monotonic() - begin < LATE
    assert "credential_ended" in told
    assert REVOKED in told


async def test_runs_in_the_background_go_on_and_others_end_with_their_caller(site, file, key, other):
    async with client(f"Bearer {key}") as http, followed_run(site, http) as stream:
        file.revoke(parts_of(key)[0])
        assert "credential_ended" in await stream.rest()
        [run] = site.nexus.runs.find(workflow="endless")
        assert not run.ended
        run.cancel()
    site.ended.clear()
    async with client(f"Bearer {other}") as http, streamed_call(site, http) as stream:
        file.revoke(parts_of(other)[0])
        await stream.rest()
        async with asyncio.timeout(PATIENCE):
            await site.ended.wait()


async def test_streams_of_other_credentials_go_on(site, file, key, other):
    async with client(f"Bearer {key}") as http, client(f"Bearer {other}") as second:
        async with followed_events(site, http) as ends, followed_events(site, second) as goes_on:
            async with followed_events(site, second):
                assert len(site.nexus.credentials) == 2  # the same credential is watched once
                file.revoke(parts_of(key)[0])
                await ends.rest()
                await background_run(second, site)
                await goes_on.begin("workflow.started")
            assert len(site.nexus.credentials) == 1


async def test_a_session_of_mcp_opens_another_stream_with_another_token(site):
    address = f"{site.urls['mcp']}/mcp"
    async for expires_at, http in tokens():
        session = await mcp_session(site, http)
        async with request(http, "GET", address, "", headers=session) as stream:
            if time.time() < expires_at:
                await stream.rest()
                break
    async with client(f"Bearer {secret_token()}") as renewed:
        async with request(renewed, "GET", address, "", headers=session):
            pass


async def test_a_token_that_is_accepted_past_its_end_is_accepted_for_streams(site):
    """Clocks differ: a client that comes back with it must not be turned away again and again."""
    async with client(f"Bearer {secret_token(exp=int(time.time()) - 5)}") as http:
        async with followed_events(site, http) as stream:
            await background_run(http, site)
            await stream.begin("workflow.started")


@pytest.mark.parametrize("opened", [followed_events, followed_run, websocket], ids=names)
async def test_a_stream_ends_when_its_person_logs_out(served, issuer, opened):
    options = {"auth_browser_login": True, "oauth2_client_id": "pages", "jwt_audience": AUDIENCE}
    platform = await served(channels=("api",), auth_service_url=issuer.url, shutdown_grace=0, **options)

    @platform.nexus.workflow
    async def endless(context: Context) -> str:
        context.progress(1, 2, "it has begun")
        await asyncio.Event().wait()

    url = platform.urls["api"]
    async with httpx2.AsyncClient(base_url=url, timeout=PATIENCE) as browser:
        begun = await browser.get("/auth/login")
        allowed = await browser.get(begun.headers["location"])
        await browser.get(allowed.headers["location"])
        cookie = browser.cookies["nexus"]
        sent = {"cookie": f"nexus={cookie}", "x-csrf-token": csrf_token(cookie), "origin": url}
        async with httpx2.AsyncClient(headers=sent, timeout=PATIENCE) as http, opened(platform, http) as stream:
            begin = time.monotonic()
            assert (await browser.post("/auth/logout", headers=sent)).status_code == 204
            told = await stream.rest()
            assert time.monotonic() - begin < LATE
    assert REVOKED in told


async def test_a_command_line_that_follows_says_why_it_ends(site, file, key):
    follow = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus_core", "--connect", site.urls["cli"], "--token", key, "events", "follow",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        async with client(f"Bearer {key}") as http:
            while not follow.stdout._buffer:
                await background_run(http, site)
                await asyncio.sleep(0.1)
        file.revoke(parts_of(key)[0])
        _, said = await follow.communicate()
    assert follow.returncode == 77
    assert REVOKED in said.decode()
