"""Sessions of calls: by argument, by `_meta`, of a connection; the tool for them; and following what happens."""

from __future__ import annotations

import asyncio
import json

import callers
import pytest

from nexus_core import Caller, Context
from nexus_core.testing import eventually


@pytest.fixture
def visited(build):
    def make(*plugins, **options):
        nexus = build(*plugins, **options)

        @nexus.workflow
        async def visit(context: Context) -> int | None:
            if context.session is None:
                return None
            state = context.session.state
            state["visits"] = state.get("visits", 0) + 1
            return int(state["visits"])

        @nexus.workflow
        async def own(nexus_session: str, context: Context) -> str:
            return nexus_session

        return nexus

    return make


async def sessions(client, **arguments):
    return await client.call_tool("nexus_sessions", arguments)


async def test_the_tool_for_sessions(visited, kit, era):
    async with kit.serving(visited()) as address, kit.connected(address, era) as client:
        made = (await sessions(client, action="create")).structured_content
        named = {"session_id": made["session_id"]}
        assert made["active_channels"] == ["mcp"]
        for count in (1, 2):
            result = await client.call_tool("visit", {"nexus_session": made["session_id"]})
            assert result.structured_content["result"] == count
        changed = await sessions(client, action="update", **named, state={"a": [1], "visits": None}, version=3)
        assert changed.structured_content["state"] == {"a": [1]}
        late = await sessions(client, action="update", **named, state={}, version=3)
        assert (late.is_error, late.meta["nexus/error"]["version"]) == (True, 4)
        renewed = (await sessions(client, action="renew", **named)).structured_content
        assert (await sessions(client, action="show", **named)).is_error
        named = {"session_id": renewed["session_id"]}
        assert (await sessions(client, action="show", **named)).structured_content["state"] == {"a": [1]}
        assert (await sessions(client, action="remove", **named)).structured_content["removed"] is True
        refused = await client.call_tool("visit", {"nexus_session": renewed["session_id"]})
        assert refused.meta["nexus/error"]["code"] == "session_not_found"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"action": "show"}, "/session_id: required for show"),
        ({"action": "update", "session_id": "x"}, "/state: required"),
        ({"action": "show", "session_id": "guessed"}, "There is no session with this id"),
        ({"action": "open"}, "action"),
        ({"action": "update", "session_id": "x", "state": [1]}, "state"),
        ({"action": "update", "session_id": "x", "state": {}, "version": "1"}, "version"),
    ],
)  # fmt: skip
async def test_wrong_arguments_are_named(client, arguments, told):
    result = await sessions(client, **arguments)
    assert result.is_error
    assert told in result.content[0].text


async def test_the_argument_comes_before_the_rest(visited, kit, era):
    nexus = visited()
    async with kit.serving(nexus) as address, kit.connected(address, era) as client:
        one, two = [(await sessions(client, action="create")).structured_content["session_id"] for _ in range(2)]
        call = {"nexus_session": one}
        assert (await client.call_tool("visit", call, meta={"nexus/session": two})).structured_content["result"] == 1
        assert (await client.call_tool("visit", {}, meta={"nexus/session": one})).structured_content["result"] == 2
        assert (await client.call_tool("own", {"nexus_session": "mine"})).structured_content["result"] == "mine"
        for wrong in (5, "x" * 300):
            refused = await client.call_tool("visit", {"nexus_session": wrong})
            assert "nexus_session" in refused.content[0].text
        refused = await client.call_tool("add", {"a": 1, "nexus_session": one})  # it takes no Context
        assert "nexus_session" in refused.content[0].text


async def test_a_connection_has_a_session_of_its_own(visited, kit):
    nexus = visited()
    async with kit.serving(nexus) as address:
        async with kit.connected(address, "legacy") as client, kit.connected(address, "legacy") as other:
            assert "nexus/session" not in ((await client.call_tool("add", {"a": 1})).meta or {})
            results = await asyncio.gather(*(client.call_tool("visit", {}) for _ in range(5)))
            ids = {result.meta["nexus/session"] for result in results}
            assert len(ids) == 1
            [session_id] = ids
            view = await nexus.view(Caller())
            assert (await view.session(session_id)).active_channels == {"mcp"}
            theirs = await other.call_tool("visit", {})
            assert (theirs.structured_content["result"], theirs.meta["nexus/session"] in ids) == (1, False)
            await view.remove_session(session_id)
            anew = await client.call_tool("visit", {})
            assert (anew.structured_content["result"], anew.meta["nexus/session"] in ids) == (1, False)
        async with kit.connected(address, "auto") as client:  # where each request stands for itself
            assert (await client.call_tool("visit", {})).structured_content["result"] is None


async def test_a_connections_session_is_its_callers(visited, kit):
    platform = callers.Callers()
    nexus = visited(platform)
    async with kit.serving(nexus) as address:
        async with kit.connected(address, "legacy", headers={"authorization": "Bearer alice"}) as client:
            result = await client.call_tool("visit", {})
            session_id = result.meta["nexus/session"]
        for token, is_there in (("alice", True), ("bob", False)):
            async with kit.connected(address, "auto", headers={"authorization": f"Bearer {token}"}) as client:
                shown = await sessions(client, action="show", session_id=session_id)
                assert shown.is_error is not is_there
                if not is_there:
                    unknown = await sessions(client, action="show", session_id="guessed")
                    assert (shown.content, shown.meta) == (unknown.content, unknown.meta)


async def events(client, after=None):
    read = await client.read_resource("nexus://events" + ("" if after is None else f"?after={after}"))
    return json.loads(read.contents[0].text)


async def test_events_are_a_resource(visited, kit, era):
    async with kit.serving(visited()) as address, kit.connected(address, era) as client:
        first = await events(client)
        assert first["events"] == []
        made = (await sessions(client, action="create")).structured_content["session_id"]
        await client.call_tool("visit", {"nexus_session": made})
        told = await events(client, first["last"])
        kinds = ["session.created", "workflow.started", "session.updated", "workflow.completed"]
        assert [event["type"] for event in told["events"]] == kinds
        for last in (told["last"], told["events"][-1]["id"]):
            assert (await events(client, last))["events"] == []
        for _ in range(3):  # what passes by moves the place along
            await client.call_tool("add", {"a": 1})
        later = await events(client, told["last"])
        assert len(later["events"]) == 6
        assert (await events(client, later["last"]))["events"] == []
        elsewhere = await events(client, "abc-7")
        assert elsewhere["events"][0]["type"] == "events.missed"


async def test_two_callers_hear_of_their_own_events_only(visited, kit):
    nexus = visited(callers.Callers())
    async with kit.serving(nexus) as address:
        alice = kit.connected(address, "auto", headers={"authorization": "Bearer alice"})
        bob = kit.connected(address, "auto", headers={"authorization": "Bearer bob"})
        async with alice as alice, bob as bob:
            async with alice.listen(resource_subscriptions=["nexus://events"]) as hers:
                async with bob.listen(resource_subscriptions=["nexus://events"]) as his:
                    begin = (await events(bob))["last"]
                    await alice.call_tool("add", {"a": 1})
                    assert "events" in repr(await asyncio.wait_for(anext(hers), 10))
                    assert (await events(bob, begin))["events"] == []
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(anext(his), 0.3)
        await eventually(lambda: not nexus.event_log.followed_by)


@pytest.mark.filterwarnings("ignore:resources/.*subscribe is removed")  # it is what that era has
async def test_sessions_of_the_older_era_follow_events(visited, kit):
    nexus = visited()
    heard = asyncio.Event()

    async def hear(message):
        if "nexus://events" in repr(message):
            heard.set()

    async with kit.serving(nexus) as address:
        async with kit.connected(address, "legacy", message_handler=hear) as client:
            await client.subscribe_resource("nexus://events")
            await client.subscribe_resource("nexus://events")
            await nexus.invoke("add", {"a": 1})
            await asyncio.wait_for(heard.wait(), 10)
            await client.unsubscribe_resource("nexus://events")
            heard.clear()
            await nexus.invoke("add", {"a": 1})
            await client.call_tool("add", {"a": 1})
            assert not heard.is_set()
            await client.subscribe_resource("nexus://events")
        await eventually(lambda: not nexus.event_log.followed_by)
