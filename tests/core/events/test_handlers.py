"""`EventHandler`: the guide's handler, its replies, and handlers that are slow, raise or hang."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from nexus_core import Caller, ConfigurationError, Context, Invocation, NexusError, ValidationError, WorkflowError
from nexus_core.events.event import REPLY_SECONDS, ChannelEvent
from nexus_core.events.handlers import EventHandler
from nexus_core.testing import eventually


class CustomEventHandler(EventHandler):
    """As in the guide."""

    def handle_workflow_start(self, event: ChannelEvent):
        self.logger.info(f"Workflow {event.workflow_name} started via {event.channel}")
        if event.channel == "api":
            self.record_api_metric(event)
        elif event.channel == "cli":
            self.log_cli_usage(event)
        elif event.channel == "mcp":
            self.track_ai_interaction(event)

    def handle_workflow_complete(self, event: ChannelEvent):
        self.result = event.result
        self.notify_sessions(f"Workflow {event.workflow_name} completed")
        self.update_workflow_metrics(event.workflow_name, event.duration)

    def handle_error(self, event: ChannelEvent):
        error = event.error
        if event.channel == "api":
            return {
                "error": True,
                "message": str(error),
                "code": error.code if hasattr(error, "code") else 500,
            }
        elif event.channel == "cli":
            self.logger.error(f"CLI error: {error}")
            return 1
        elif event.channel == "mcp":
            return {"error": {"code": -1, "message": str(error)}}


@pytest.fixture(name="nexus")
async def nexus_fixture(make: Any) -> Any:
    nexus = make()

    @nexus.workflow
    async def work(fail: bool = False) -> int:
        if fail:
            raise WorkflowError("no")
        return 7

    async with nexus:
        yield nexus


async def failure(nexus: Any, channel: str = "api", **params: Any) -> NexusError:
    with pytest.raises(NexusError) as caught:
        await nexus.invoke(Invocation("work", params or {"fail": True}, channel))
    return caught.value


async def test_the_guides_handler(nexus: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    handler = CustomEventHandler()
    nexus.register_event_handler(handler)
    follower = await (await nexus.view(Caller())).events()
    for channel in ("api", "cli", "mcp", "mcp", "python"):
        await nexus.invoke(Invocation("work", {}, channel))
    await eventually(lambda: handler.durations.get("work", (0,))[0] == 5)
    assert handler.calls == {("api", "work"): 1, ("cli", "work"): 1, ("mcp", "work"): 2}
    assert handler.durations["work"][1] > 0
    assert handler.result.value == 7
    told = []
    while len(told) < 5:
        event = await follower.next(5)
        assert event is not None
        if event.type == "session.notification":
            told.append(event.data)
    assert told == [{"message": "Workflow work completed"}] * 5
    assert "Workflow work started via cli" in caplog.text

    replies = {channel: (await failure(nexus, channel)).reply for channel in ("api", "cli", "mcp", "python")}
    assert replies == {
        "api": {"error": True, "message": "no", "code": "workflow_error"},
        "cli": 1,
        "mcp": {"error": {"code": -1, "message": "no"}},
        "python": None,
    }
    refused = await failure(nexus, unknown=1)
    assert isinstance(refused, ValidationError)
    assert refused.reply["code"] == "validation_error"
    run = nexus.submit(Invocation("work", {"fail": True}, "mcp"))
    with pytest.raises(NexusError) as caught:
        await run.outcome()
    assert caught.value.reply == replies["mcp"]
    assert run.error.reply is None  # the record is not the reply


async def test_async_methods_and_other_events(nexus: Any) -> None:
    seen: list[str] = []

    class Handler(EventHandler):
        async def handle_error(self, event: ChannelEvent) -> Any:
            await asyncio.sleep(0)
            return {"instead": event.error.code if event.error else None}

        async def handle_event(self, event: ChannelEvent) -> None:
            seen.append(event.type)

    nexus.register_event_handler(Handler())
    assert (await failure(nexus)).reply == {"instead": "workflow_error"}
    nexus.register("another", lambda: None)
    await eventually(lambda: seen == ["workflow.registered"])


async def test_the_first_of_several_that_says_something_counts(nexus: Any, caplog: Any) -> None:
    def handler(value: Any) -> EventHandler:
        class Handler(EventHandler):
            def handle_error(self, event: ChannelEvent) -> Any:
                if isinstance(value, Exception):
                    raise value
                return value

        return Handler()

    for value in (RuntimeError("broken"), None, object(), "one", "two"):
        nexus.register_event_handler(handler(value))
    assert (await failure(nexus)).reply == "one"
    assert "raised on workflow.failed" in caplog.text


async def test_each_run_in_order_and_never_two_at_a_time(nexus: Any) -> None:
    seen: dict[str, list[str]] = {}
    busy = threading.Lock()

    class Handler(EventHandler):
        def note(self, event: ChannelEvent) -> None:
            assert busy.acquire(blocking=False)
            seen.setdefault(event.run_id, []).append(event.type)
            busy.release()

        handle_workflow_start = handle_workflow_complete = handle_error = note

    nexus.register_event_handler(Handler())
    await asyncio.gather(
        *(nexus.invoke("work") for _ in range(50)), *(failure(nexus) for _ in range(50)), return_exceptions=True
    )
    await eventually(lambda: sum(map(len, seen.values())) == 200)
    assert all(kinds[0] == "workflow.started" and len(kinds) == 2 for kinds in seen.values())


async def test_a_hanging_handler_harms_nobody(nexus: Any) -> None:
    gate = threading.Event()

    class Hanging(EventHandler):
        def handle_error(self, event: ChannelEvent) -> Any:
            gate.wait(30)
            return "late"

    nexus.register_event_handler(Hanging())
    try:
        begin = time.monotonic()
        assert (await failure(nexus)).reply is None
        waited = time.monotonic() - begin
        assert REPLY_SECONDS * 0.9 < waited < REPLY_SECONDS + 1
        begin = time.monotonic()
        for _ in range(20):  # it is known to be behind: nobody waits for it any more
            assert (await failure(nexus)).reply is None
        for _ in range(20):
            await nexus.invoke("work")
        assert time.monotonic() - begin < REPLY_SECONDS
    finally:
        gate.set()
    await eventually(lambda: not nexus.events._deliveries[-1]._waiting)
    assert (await failure(nexus)).reply == "late"  # it has caught up


async def test_a_handler_that_sleeps_does_not_hold_up_the_event_loop(nexus: Any) -> None:
    class Sleeping(EventHandler):
        def handle_workflow_start(self, event: ChannelEvent) -> None:
            time.sleep(0.5)

    nexus.register_event_handler(Sleeping())
    await nexus.invoke("work")
    lags, end = [], time.monotonic() + 0.4
    while time.monotonic() < end:
        begin = time.monotonic()
        await asyncio.sleep(0.001)
        lags.append(time.monotonic() - begin)
    assert sorted(lags)[len(lags) // 2] < 0.05


async def test_a_message_about_an_event_is_its_callers_alone(make: Any) -> None:
    class Telling(EventHandler):
        def handle_workflow_complete(self, event: ChannelEvent) -> None:
            self.notify_sessions("yours", about=event)

    nexus = make()
    nexus.register_event_handler(Telling())

    @nexus.workflow
    def work(context: Context) -> None:
        pass

    async with nexus:
        view = await nexus.view(Caller())
        session = await view.create_session("python")
        wanted: list[ChannelEvent] = []
        nexus.events.listen(lambda event: wanted.append(event) if event.type == "session.notification" else None)
        await nexus.invoke(Invocation("work", {}, session_id=session.id))
        await eventually(lambda: wanted)
        assert (wanted[0].session_id, wanted[0].owner, wanted[0].is_public) == (session.id, None, False)


async def test_a_handler_belongs_to_one_platform(make: Any) -> None:
    handler = CustomEventHandler()
    with pytest.raises(ConfigurationError, match="not registered"):
        handler.notify_sessions("hello")
    one, two = make(), make()
    one.register_event_handler(handler)
    one.register_event_handler(handler)
    with pytest.raises(ConfigurationError, match="belongs to one Nexus"):
        two.register_event_handler(handler)
