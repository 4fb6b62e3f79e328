"""`Service`: answers the requests of command lines, in process and over the port.

An answer is a sequence of lines, each a JSON object: ``{"event": ...}`` for each event, then one ``{"reply": ...}``.
Errors are raised as `NexusError`.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from nexus_cli.server import questions, streams
from nexus_cli.server.requests import LONGEST_WAIT, PARAMS, Request
from nexus_cli.server.streams import reply_line
from nexus_core.app.repeats import MOST_AT_ONCE
from nexus_core.events.event import WORKFLOW_ANSWERED, WORKFLOW_QUESTION
from nexus_core.pipeline.invocation import Caller, Invocation
from nexus_core.runs.listing import FILTERS, STEP_RANGE, filter_of
from nexus_core.types.result import Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from nexus_core import Platform
    from nexus_core.app.view import CallerView

QUESTION_EVENTS = (WORKFLOW_QUESTION, WORKFLOW_ANSWERED)

_encode = msgspec.json.Encoder().encode


class RequestAnswer(NamedTuple):
    """The answer to a request.

    Attributes:
        caller: The caller of the request; of a call, the `Invocation`. From the first line on, it has the rate limit.
        lines: The lines, the reply last. Closing them early cancels the run, unless there is an idempotency key.
        is_endless: Whether the lines go on until the client or the server ends them.
    """

    caller: Caller
    lines: AsyncGenerator[bytes]
    is_endless: bool = False


class Service:
    """Answers requests on a platform."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def answer(self, value: Any, caller: Caller, text: bytes, idempotency_key: str | None) -> RequestAnswer:
        """Return the answer to a request. Its lines raise a `NexusError` if the request is refused or fails.

        Args:
            value: The request: decoded JSON of any shape.
            caller: The caller.
            text: The JSON text of the request.
            idempotency_key: The caller's key for safe repeats of a call.

        Raises:
            MalformedRequest: The request is malformed.
        """
        request = Request(value)
        match request.command:
            case "execute":
                name, params = request.text("workflow"), request.any("params")
                if request.flag("by_data"):
                    params = self._params_of_data(name, params)
                invocation = Invocation.of(caller, name, params, idempotency_key)
                invocation.source = (text, PARAMS)
                return RequestAnswer(invocation, self._execute(request, invocation))
            case "runs.follow":
                return RequestAnswer(caller, self._follow_run(request, caller))
            case "events.follow":
                return RequestAnswer(caller, self._follow_events(request, caller), is_endless=True)
            case _:
                return RequestAnswer(caller, self._look_up(request, caller))

    def _execute(self, request: Request, invocation: Invocation) -> AsyncGenerator[bytes]:
        invocation.timeout = request.seconds("timeout", lambda value: value > 0, "above 0")
        wait = request.seconds("wait", lambda value: 0 <= value <= LONGEST_WAIT, f"from 0 to {LONGEST_WAIT:g}")
        if wait is not None and self._platform.options.enable_async_execution:
            return _reply(self._detached(invocation, wait))
        return self._followed(invocation) if request.flag("events") else self._called(invocation)

    def _params_of_data(self, name: str, data: Any) -> Any:
        """Return the parameters of ``--data``: its value, or that value as the parameter ``data``.

        It is the parameter's if the workflow has one, and no member of the object is a parameter.
        """
        workflow = self._platform.workflows.find(name)
        if workflow is None or not isinstance(data, dict) or not data or not workflow.takes("data"):
            return data
        return data if any(map(workflow.takes, data)) else {"data": data}

    async def _called(self, invocation: Invocation) -> AsyncGenerator[bytes]:
        """Yield the reply to a call; before it, if the run waits for answers, its events about questions."""
        found = await self._platform.invoke_within(invocation, LONGEST_WAIT)
        if isinstance(found, Result):
            yield reply_line(found.reply())
            return
        with found.hold() as run:
            try:
                async with aclosing(streams.of_run(run, only=QUESTION_EVENTS)) as lines:
                    async for line in lines:
                        yield line
                yield reply_line((await run.outcome()).reply())
            finally:
                run.abandon()

    async def _detached(self, invocation: Invocation, wait: float) -> bytes:
        with self._platform.submit(invocation).hold() as run:
            await run.started_or_rejected()  # a refusal is an error, not a run
            with self._platform.credentials.lease(invocation):
                await run.settled(wait)
            if run.done:
                return (await run.outcome()).reply()
            return _encode(run.to_dict())

    async def _followed(self, invocation: Invocation) -> AsyncGenerator[bytes]:
        with self._platform.submit(invocation).hold() as run:
            try:
                async with aclosing(streams.of_run(run)) as lines:
                    async for line in lines:
                        yield line
                yield reply_line((await run.outcome()).reply())
            finally:
                run.abandon()

    async def _follow_run(self, request: Request, caller: Caller) -> AsyncGenerator[bytes]:
        run_id, after = request.text("run_id"), request.number("after", 0, 0, 2**53)
        view = await self._platform.view(caller)
        with (await view.run(run_id)).hold() as run:
            yield streams.event_line({"type": streams.FOLLOWING})
            async with aclosing(streams.of_run(run, after)) as lines:
                async for line in lines:
                    yield line
            kept = run.error is not None or run.result is not None  # else it went to its caller
            yield reply_line((await run.outcome()).reply() if kept else _encode(run.to_dict()))

    async def _follow_events(self, request: Request, caller: Caller) -> AsyncGenerator[bytes]:
        after, session_id = request.optional_text("after"), request.optional_text("session_id")
        view = await self._platform.view(caller)
        events = streams.of_caller(view, after) if session_id is None else streams.of_session(view, session_id, after)
        async with aclosing(events) as lines:
            async for line in lines:
                yield line

    async def _look_up(self, request: Request, caller: Caller) -> AsyncGenerator[bytes]:
        yield reply_line(_encode(await _look_up(await self._platform.view(caller), request)))


async def _reply(work: Awaitable[bytes]) -> AsyncGenerator[bytes]:
    """Yield the only line of an answer without events."""
    yield reply_line(await work)


async def _look_up(view: CallerView, request: Request) -> dict[str, Any]:
    """Answer a request that returns at once."""
    if request.command.startswith("sessions."):
        return await _session(view, request)
    if request.command.startswith("questions."):
        return await questions.answer(view, request)
    match request.command:
        case "list":
            return {"workflows": [each.summary() for each in await view.workflows()]}
        case "describe":
            return (await view.workflow(request.text("workflow"))).describe()
        case "runs.list":
            return await view.page(filter_of({name: request.any(name) for name in FILTERS}))
        case "runs.steps":
            asked = {name: request.any(name) for name in STEP_RANGE}
            return await view.steps_page(request.text("run_id"), asked)
        case "runs.prune":
            return await view.prune(dry_run=request.flag("dry_run"))
        case "runs.cancel":
            run = await view.run(request.text("run_id"))
            is_asked = await view.cancel(run)
            return run.to_dict() | {"cancelled": is_asked}
        case "runs.retry" | "runs.fork" | "runs.retry_all":
            return await _repeat(view, request)
        case _:
            return await questions.run_with_questions(view, await view.run(request.text("run_id")))


async def _repeat(view: CallerView, request: Request) -> dict[str, Any]:
    """Repeat a run, or many."""
    match request.command:
        case "runs.retry":
            return (await view.repeats.retry(request.text("run_id"))).to_dict()
        case "runs.fork":
            params = None if request.any("params") is None else request.object("params")
            return (await view.repeats.fork(request.text("run_id"), request.text("from_step"), params)).to_dict()
        case _:
            wanted = filter_of({name: request.any(name) for name in FILTERS}, MOST_AT_ONCE, MOST_AT_ONCE)
            is_dry = request.flag("dry_run")
            return await view.repeats.retry_all(wanted, request.optional_text("batch"), dry_run=is_dry)


async def _session(view: CallerView, request: Request) -> dict[str, Any]:
    """Answer a request about a session."""
    match request.command:
        case "sessions.create":
            return (await view.create_session("cli")).to_dict()
        case "sessions.set":
            given = request.text("session_id"), request.object("state"), request.optional_number("version")
            return (await view.update_session(*given)).to_dict()
        case "sessions.renew":
            return (await view.renew_session(request.text("session_id"))).to_dict()
        case "sessions.revoke":
            await view.remove_session(request.text("session_id"))
            return {"session_id": request.text("session_id"), "revoked": True}
        case _:
            return (await view.session(request.text("session_id"))).to_dict()
