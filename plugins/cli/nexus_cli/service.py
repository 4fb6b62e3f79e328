"""`Service`: answers the command line's requests on a `Nexus`. Both ways in use it: in process and over the port.

An answer is a sequence of lines, each a JSON object: ``{"event": ...}`` while something happens, then one
``{"reply": ...}``, with what is left of the caller's budget where calls are limited. What
goes wrong is raised as a `NexusError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.requests import LARGEST_PAGE, LONGEST_WAIT, Request
from nexus_core.errors import MalformedRequest
from nexus_core.invocation import Invocation
from nexus_core.runs import RunStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nexus_core.access import View
    from nexus_core.app import Nexus
    from nexus_core.invocation import RateLimit
    from nexus_core.runs import Run

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True, frozen=True)
class Caller:
    """What is known of a caller beside its request."""

    credentials: Mapping[str, str] | None = None
    session_id: str | None = None
    idempotency_key: str | None = None
    trace: Mapping[str, str] | None = None
    client_address: str | None = None
    headers: Mapping[bytes, bytes] | None = None

    def members(self) -> dict[str, Any]:
        """Return it as members of an `Invocation`."""
        return {name: getattr(self, name) for name in self.__slots__}


class Service:
    """Answers requests."""

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus

    async def answer(self, value: Any, caller: Caller) -> AsyncIterator[bytes]:
        """Yield the lines that answer a request, the reply last. Closing the iterator early cancels what it began.

        Args:
            value: The request: decoded JSON of any shape.
            caller: Who asks.

        Raises:
            NexusError: The request is malformed or refused, or what it asked for failed.
        """
        request = Request(value)
        match request.command:
            case "execute":
                async for line in self._execute(request, caller):
                    yield line
            case "runs.follow":
                run = (await self._view(caller)).run(request.text("run_id"))
                async for line in _events(run, request.number("after", 0, 0, 2**53)):
                    yield line
                kept = run.error is not None or run.result is not None  # its caller may have taken the result
                yield _reply((await run.outcome()).reply() if kept else _encode(run.to_dict()))
            case _:
                view = await self._view(caller)
                yield _reply(_encode(await _look_up(view, request)), view.rate_limit)

    async def _view(self, caller: Caller) -> View:
        return await self._nexus.view(Invocation("", None, "cli", **caller.members()))

    async def _execute(self, request: Request, caller: Caller) -> AsyncIterator[bytes]:
        invocation = Invocation(
            request.text("workflow"),
            request.any("params"),
            "cli",
            timeout=request.seconds("timeout", lambda value: value > 0, "above 0"),
            **caller.members(),
        )
        invocation.session_id = caller.session_id or request.optional_text("session")
        invocation.idempotency_key = caller.idempotency_key or request.optional_text("idempotency_key")
        wait = request.seconds("wait", lambda value: 0 <= value <= LONGEST_WAIT, f"from 0 to {LONGEST_WAIT:g}")
        if wait is not None:
            yield _reply(await self._detached(invocation, wait), invocation.rate_limit)
        elif request.flag("events"):
            async for line in self._followed(invocation):
                yield line
        else:
            yield _reply((await self._nexus.invoke(invocation)).reply(), invocation.rate_limit)

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
            yield _reply((await run.outcome()).reply(), invocation.rate_limit)
        finally:
            run.abandon()


async def _events(run: Run, after: int = 0) -> AsyncIterator[bytes]:
    """Yield a run's events but the last, which says what the reply says again."""
    async for event in run.follow(after):
        if not event.is_terminal:
            yield b'{"event":%b}' % _encode(event.to_dict())


def _reply(text: bytes, limit: RateLimit | None = None) -> bytes:
    if limit is None:
        return b'{"reply":%b}' % text
    return b'{"reply":%b,"rate_limit":%b}' % (text, _encode(limit))


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
