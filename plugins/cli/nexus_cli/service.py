"""`Service`: answers the command line's requests on a `Nexus`. Both ways in use it: in process and over the port.

An answer is a sequence of lines, each a JSON object: ``{"event": ...}`` while something happens, then one
``{"reply": ...}``. What goes wrong is raised as a `NexusError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.requests import LARGEST_PAGE, LONGEST_WAIT, Request
from nexus_core.errors import MalformedRequest
from nexus_core.runs import RunStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nexus_core.access import View
    from nexus_core.app import Nexus
    from nexus_core.invocation import Invocation
    from nexus_core.runs import Run

_encode = msgspec.json.Encoder().encode


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
