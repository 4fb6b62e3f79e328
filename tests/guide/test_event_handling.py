"""Pattern 2: an event handler that sees every channel, tells every session, and words errors for each channel."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served

from nexus_core import WorkflowError
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from nexus_core import EventHandler, Nexus

HEADING = "Pattern 2: Multi-Channel Event Handling"


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the block defines; the handler that it makes is kept."""
    made: list[EventHandler] = []
    from nexus_core import Nexus

    register = Nexus.register_event_handler
    monkeypatch.setattr(Nexus, "register_event_handler", lambda self, each: made.append(each) or register(self, each))
    found = run(HEADING)
    found["handler"] = made[0]

    @found["nexus"].workflow
    async def work(fail: bool = False) -> int:
        if fail:
            raise WorkflowError("no paint left")
        return 7

    return found


async def test_it_sees_every_channel_and_counts(space: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    nexus, handler = space["nexus"], space["handler"]
    async with served(nexus) as urls:
        for channel in CHANNELS:
            assert (await Client(urls).call(channel, "work", {})).result == 7
        await eventually(lambda: handler.durations.get("work", (0,))[0] == 3)
    assert handler.calls == {(channel, "work"): 1 for channel in CHANNELS}
    for channel in CHANNELS:
        assert f"Workflow work started via {channel}" in caplog.messages


async def test_every_active_session_is_told_of_completion(space: dict[str, Any]) -> None:
    nexus: Nexus = space["nexus"]
    async with served(nexus) as urls:
        from nexus_core import Caller

        follower = await (await nexus.view(Caller())).events()
        assert (await Client(urls).api("work", {})).result == 7
        while (told := await follower.next(10)) is not None and told.type != "session.notification":
            pass
    assert told is not None
    assert told.data == {"message": "Workflow work completed"}


async def test_errors_are_worded_for_each_channel(space: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    async with served(space["nexus"]) as urls:
        caller = Client(urls)
        answer = await caller.http("POST", "/api/workflows/work/execute", json={"fail": True})
        assert (answer.status_code, answer.json()) == (
            500, {"error": True, "message": "no paint left", "code": "workflow_error"},
        )  # fmt: skip
        code, _, err = await caller.nexus("execute", "work", "--fail")
        assert code == 1
        assert "no paint left" in err
        reply = await caller.mcp_request("tools/call", name="work", arguments={"fail": True})
        assert reply["result"]["isError"]
        assert json.loads(reply["result"]["content"][0]["text"]) == {"error": {"code": -1, "message": "no paint left"}}
    assert "CLI error: no paint left" in caplog.messages
