"""`Service`: answers the command line's requests on a `Nexus`. Both ways in use it: in process and over the port.

An answer is a sequence of lines, each a JSON object: ``{"event": ...}`` while something happens, then one
``{"reply": ...}``. What goes wrong is raised as a `NexusError`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.requests import LARGEST_PAGE, LONGEST_WAIT, Request
from nexus_core.errors import MalformedRequest, SessionNotFound
from nexus_core.events import SESSION_EXPIRED, SESSION_REMOVED, SESSION_UPDATED
from nexus_core.runs import RunStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nexus_core.access import View
    from nexus_core.app import Nexus
    from nexus_core.invocation import Invocation
    from nexus_core.runs import Run

_encode = msgspec.json.Encoder().encode

FOLLOWING = "events.following"
"""The type of the first line of a stream of events: its ``id`` is where the stream begins."""

HEARTBEAT_SECONDS = 15.0
"""Silence after which an empty line says that the stream goes on."""


class Service:
    """Answers requests."""

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus

    async def answer(self, value: Any, caller: Invocation) -> AsyncIterator[bytes]:
        """Yield the lines that answer a request, the reply last.

        Closing the iterator early cancels what it began, unless the caller gave an idempotency key.

        Args:
            value: The request: decoded JSON of any shape.
            caller: Who asks: an invocation without name and parameters. From the first line on it has what is left
                of its budget.

        Raises:
            NexusError: The request is malformed or refused, or what it asked for failed.
        """
        request = Request(value)
        match request.command:
            case "execute":
                async for line in self._execute(request, caller):
                    yield line
            case "runs.follow":
                run = (await self._nexus.view(caller)).run(request.text("run_id"))
                async for line in _events(run, request.number("after", 0, 0, 2**53)):
                    yield line
                kept = run.error is not None or run.result is not None  # its caller may have taken the result
                yield _reply((await run.outcome()).reply() if kept else _encode(run.to_dict()))
            case "events.follow":
                async for line in _followed_events(await self._nexus.view(caller), request):
                    yield line
            case _:
                yield _reply(_encode(await _look_up(await self._nexus.view(caller), request)))

    async def _execute(self, request: Request, invocation: Invocation) -> AsyncIterator[bytes]:
        invocation.name, invocation.params = request.text("workflow"), request.any("params")
        invocation.timeout = request.seconds("timeout", lambda value: value > 0, "above 0")
        wait = request.seconds("wait", lambda value: 0 <= value <= LONGEST_WAIT, f"from 0 to {LONGEST_WAIT:g}")
        if wait is not None:
            yield _reply(await self._detached(invocation, wait))
        elif request.flag("events"):
            async for line in self._followed(invocation):
                yield line
        else:
            yield _reply((await self._nexus.invoke(invocation)).reply())

    async def _detached(self, invocation: Invocation, wait: float) -> bytes:
        run = self._nexus.submit(invocation)
        await run.settled()  # what the policies refuse is refused at once
        if await run.wait(wait):
            return (await run.outcome()).reply()
        return _encode(run.to_dict())

    async def _followed(self, invocation: Invocation) -> AsyncIterator[bytes]:
        run = self._nexus.submit(invocation)
        try:
            async for line in _events(run):
                yield line
            yield _reply((await run.outcome()).reply())
        finally:
            run.abandon()


async def _events(run: Run, after: int = 0) -> AsyncIterator[bytes]:
    """Yield a run's events but the last, which says what the reply says again."""
    async for event in run.follow(after):
        if not event.is_terminal:
            yield b'{"event":%b}' % _encode(event.to_dict())


async def _followed_events(view: View, request: Request) -> AsyncIterator[bytes]:
    """Yield the caller's events; with a session, that session's, with its state where it changes, up to its end."""
    session_id = request.optional_text("session_id")
    follower = await view.events(request.optional_text("after"), session_id=session_id)
    try:
        yield b'{"event":%b}' % _encode({"type": FOLLOWING, "id": follower.position})
        while True:
            event = await follower.next(HEARTBEAT_SECONDS)
            if event is None:
                yield b"{}"
                continue
            told = event.to_dict() | ({"id": event.id} if event.id else {})
            if session_id is not None and event.type == SESSION_UPDATED:
                with suppress(SessionNotFound):  # its end comes next
                    told["state"] = (await view.session(session_id)).state
            yield b'{"event":%b}' % _encode(told)
            if session_id is not None and event.type in (SESSION_REMOVED, SESSION_EXPIRED):
                yield _reply(_encode({"session_id": session_id, "ended": True}))
                return
    finally:
        follower.close()


def _reply(text: bytes) -> bytes:
    return b'{"reply":%b}' % text


async def _look_up(view: View, request: Request) -> dict[str, Any]:
    """Answer what needs no waiting."""
    match request.command:
        case "list":
            found = [{"name": each.name, "description": each.description} for each in await view.workflows()]
            return {"workflows": found}
        case "describe":
            return (await view.workflow(request.text("workflow"))).describe()
        case "runs.list":
            return {"runs": _runs(view, request)}
        case "sessions.create":
            return (await view.create_session("cli")).to_dict()
        case "sessions.show":
            return (await view.session(request.text("session_id"))).to_dict()
        case "sessions.set":
            given = request.text("session_id"), request.object("state"), request.optional_number("version")
            return (await view.update_session(*given)).to_dict()
        case "sessions.renew":
            return (await view.renew_session(request.text("session_id"))).to_dict()
        case "sessions.revoke":
            await view.remove_session(request.text("session_id"))
            return {"session_id": request.text("session_id"), "revoked": True}
        case "runs.cancel":
            run = view.run(request.text("run_id"))
            asked = run.cancel()
            return run.to_dict() | {"cancelled": asked}
        case _:
            return view.run(request.text("run_id")).to_dict()


def _runs(view: View, request: Request) -> list[dict[str, Any]]:
    status = request.optional_text("status")
    if status is not None and status not in list(RunStatus):
        raise MalformedRequest(f"status must be one of {', '.join(RunStatus)}.")
    limit = request.number("limit", 100, 1, LARGEST_PAGE)
    found = view.runs(workflow=request.optional_text("workflow"), status=status, limit=limit)
    return [run.to_dict(with_result=False) for run in found]
