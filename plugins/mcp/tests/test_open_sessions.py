"""Sessions are bounded, in all and for each caller, and nobody can keep others out by opening them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import callers
import httpx2
import pytest
from nexus_mcp.open_sessions import OpenSessions

from nexus_core import Overloaded, Principal, Stage, hookimpl
from nexus_core.errors import RateLimited

CALLERS = [f"caller{number}" for number in range(6)]
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture(autouse=True)
def more_callers(monkeypatch):
    for name in CALLERS:
        monkeypatch.setitem(callers.TOKENS, f"Bearer {name}", Principal(name))


class Client:
    """Speaks raw HTTP as one caller."""

    def __init__(self, http, address, kit, name=None):
        self.http, self.address, self.kit = http, address, kit
        self.credential = {"authorization": f"Bearer {name}"} if name else {}

    async def post(self, body, session=None, **headers):
        if session is not None:
            headers |= {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
        return await self.http.post(self.address, json=body, headers={**self.credential, **headers})

    async def initialize(self):
        return await self.post(self.kit.initialize())

    async def opened(self):
        answer = await self.initialize()
        assert answer.status_code == 200
        return answer.headers["mcp-session-id"]

    async def status(self, session):
        return (await self.post(PING, session)).status_code

    async def sessionless(self, name, **arguments):
        return await self.http.post(
            self.address, json=self.kit.call(name, **arguments), headers={**self.credential, **self.kit.modern(name)}
        )


@pytest.fixture
def served(build, kit):
    """Serve a platform that knows its callers; gives a function that returns a client for one of them."""

    @asynccontextmanager
    async def serve(*plugins, knows=True, **options):
        nexus = build(*([callers.Callers()] if knows else []), *plugins, **options)
        async with kit.serving(nexus) as address, httpx2.AsyncClient(headers=kit.accept, timeout=60) as http:

            def client(name=None):
                return Client(http, address, kit, name)

            client.nexus = nexus
            yield client

    return serve


@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-session-id"])
async def test_a_header_that_comes_twice_opens_no_session(served, kit, name):
    async with served(max_concurrent_sessions=4, mcp_max_sessions_per_caller=2) as client:
        one = client("caller0")
        twice = [*one.credential.items(), (name, "2025-06-18"), (name, "2025-06-18")]
        for _ in range(3):
            answer = await one.http.post(one.address, json=kit.initialize(), headers=twice)
            assert answer.status_code == 400
            assert "is repeated" in answer.json()["error"]["message"]
            assert "mcp-session-id" not in answer.headers


async def test_a_callers_longest_idle_session_makes_room_for_its_next(served):
    async with served(max_concurrent_sessions=10, mcp_max_sessions_per_caller=2) as client:
        one, other = client("caller0"), client("caller1")
        theirs = await other.opened()
        first, second = await one.opened(), await one.opened()
        assert await one.status(first) == 200  # so the second is idle for longer
        third = await one.opened()
        assert [await one.status(each) for each in (first, second, third)] == [200, 404, 200]
        for _ in range(8):
            await one.opened()
        assert await other.status(theirs) == 200


async def test_without_authentication_an_address_is_a_caller(served):
    async with served(knows=False, max_concurrent_sessions=5) as client:
        sessions = [await client().opened() for _ in range(20)]
        assert [await client().status(each) for each in sessions] == [404] * 17 + [200] * 3  # half of five, rounded up


async def test_forgotten_clients_do_not_keep_others_out(served):
    async with served(max_concurrent_sessions=4) as client:
        forgotten = [await client(name).opened() for name in CALLERS[:4]]
        newcomer = client("caller4")
        session = await newcomer.opened()
        assert await newcomer.status(session) == 200
        states = [await client(name).status(session) for name, session in zip(CALLERS, forgotten, strict=False)]
        assert states == [404, 200, 200, 200]


async def test_the_caller_with_most_sessions_makes_room(served):
    async with served(max_concurrent_sessions=4, mcp_max_sessions_per_caller=3) as client:
        few, many = client("caller0"), client("caller1")
        oldest = await few.opened()
        hoard = [await many.opened() for _ in range(3)]
        await client("caller2").opened()
        assert await few.status(oldest) == 200
        assert [await many.status(each) for each in hoard] == [404, 200, 200]


async def test_a_session_with_a_request_under_way_stays(served, seen, kit, caplog):
    async with served(max_concurrent_sessions=2) as client:
        busy = [(client(name), await client(name).opened()) for name in CALLERS[:2]]
        calls = [asyncio.create_task(one.post(kit.call("sleep", seconds=60), session)) for one, session in busy]
        await kit.until(lambda: seen.started == 2)
        newcomer = client("caller2")
        refused = await newcomer.initialize()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        error = refused.json()["error"]
        assert (error["code"], "max_concurrent_sessions" in error["message"]) == (-32014, True)
        own = await busy[0][0].initialize()  # its own bound is one session
        assert (own.status_code, "mcp_max_sessions_per_caller" in own.json()["error"]["message"]) == (429, True)
        [check] = [check for check in client.nexus.health_checks() if check.name == "mcp_sessions"]
        with pytest.raises(RuntimeError, match="max_concurrent_sessions"):
            await check.check()
        warnings = [each.getMessage() for each in caplog.records if each.name.startswith("nexus_mcp")]
        assert [("max_concurrent_sessions" in each) for each in warnings] == [True]
        # Requests without a session need none.
        assert (await newcomer.sessionless("add", a=1)).status_code == 200
        for run in client.nexus.runs.running():
            run.cancel()
        await asyncio.gather(*calls)
        session = await newcomer.opened()
        assert await newcomer.status(session) == 200
        assert await check.check() == {"open": 2, "limit": 2}


async def test_an_open_stream_is_idle_but_leaves_last(served, kit):
    async with served(max_concurrent_sessions=2, mcp_max_sessions_per_caller=2) as client:
        one = client("caller0")
        listening, silent = await one.opened(), await one.opened()
        headers = {**one.credential, "mcp-session-id": listening, "accept": "text/event-stream"}
        async with one.http.stream("GET", one.address, headers=headers) as stream:
            assert stream.status_code == 200
            third = await one.opened()
            assert [await one.status(each) for each in (listening, silent)] == [200, 404]
            call = asyncio.create_task(one.post(kit.call("sleep", seconds=60), third))
            await kit.until(lambda: client.nexus.places_in_use == 1)
            await one.opened()
            async for _ in stream.aiter_bytes():  # ends with its session
                pass
            assert await one.status(listening) == 404
            client.nexus.runs.running()[0].cancel()
            await call


@pytest.mark.parametrize(
    "body",
    [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize"},
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 5}},
        {"jsonrpc": "2.0", "method": "initialize", "params": {}},
        {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}, PING, [], {},
    ],
)  # fmt: skip
async def test_what_opens_no_session_leaves_none_and_ends_none(served, kit, body):
    async with served(max_concurrent_sessions=1) as client:
        one = client("caller0")
        session = await one.opened()
        for _ in range(3):
            answer = await one.post(body)
            assert answer.status_code == 400 or "error" in answer.text
        transport = await client.nexus.channel("mcp")._transport()
        await kit.until(lambda: transport.sessions == 1)
        assert await one.status(session) == 200


class Limit:
    """Lets a few calls pass."""

    stage = Stage.LIMIT

    def __init__(self, calls):
        self.left = calls

    @hookimpl
    def nexus_register_interceptors(self):
        return [self]

    async def __call__(self, invocation, call_next):
        self.left -= 1
        if self.left < 0:
            raise RateLimited("Too many calls.", retry_after=7)
        return await call_next(invocation)


async def test_opening_a_session_counts_as_a_call(served):
    async with served(Limit(3)) as client:
        one = client("caller0")
        sessions = [await one.opened() for _ in range(3)]
        refused = await one.initialize()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        assert refused.json()["error"]["data"]["code"] == "rate_limited"
        transport = await client.nexus.channel("mcp")._transport()
        assert transport.sessions == len(sessions)


async def test_many_at_once_stay_within_the_bounds(served, kit):
    async with served(max_concurrent_sessions=6, mcp_max_sessions_per_caller=2) as client:
        answers = await asyncio.gather(*(client(name).initialize() for name in CALLERS * 10))
        assert {answer.status_code for answer in answers} <= {200, 429, 503}
        channel = client.nexus.channel("mcp")
        assert channel.check_sessions()["open"] <= 6
        transport = await channel._transport()
        await kit.until(lambda: transport.sessions <= 6)  # those that made room wind down
        for name in CALLERS:  # and nothing is stuck
            await client(name).opened()


async def test_streams_of_changes_are_bounded_for_each_caller(served, kit):
    listen = kit.call("x") | {"method": "subscriptions/listen"}
    listen["params"] = {"notifications": {"toolsListChanged": True}, "_meta": listen["params"]["_meta"]}
    modern = {"mcp-protocol-version": "2026-07-28", "mcp-method": "subscriptions/listen"}

    def opening(client):
        headers = {**client.credential, **modern}
        return client.http.send(
            client.http.build_request("POST", client.address, json=listen, headers=headers), stream=True
        )

    async with served(max_concurrent_sessions=4) as client:
        one, other = client("caller0"), client("caller1")
        hers = [await opening(one), await opening(one)]
        refused = await one.http.post(one.address, json=listen, headers={**one.credential, **modern})
        assert "mcp_max_sessions_per_caller" in refused.text
        theirs = await opening(other)
        lines = theirs.aiter_lines()
        assert "error" not in await anext(lines)
        for stream in hers:
            await stream.aclose()
        listening = (await client.nexus.channel("mcp")._transport()).server._listening
        await kit.until(lambda: listening.total() == 1)
        again = await opening(one)
        assert "error" not in await anext(again.aiter_lines())
        await again.aclose()
        await theirs.aclose()


class Ended:
    is_terminated = False

    async def terminate(self):
        self.is_terminated = True


def test_a_session_that_makes_room_is_promised_once():
    sessions = OpenSessions(limit=2, per_caller=2)
    first, second = Ended(), Ended()
    for name, transport in (("a", first), ("b", second)):
        assert sessions.commit(sessions.begin(name), name, transport) is None
    one, two = sessions.begin("c"), sessions.begin("d")
    with pytest.raises(Overloaded):
        sessions.begin("e")
    sessions.abandon(two)
    assert sessions.commit(one, "c", Ended()) is first
    assert sessions.commit(sessions.begin("e"), "e", Ended()) is second
