"""``POST /api/workflows/{name}/execute``: runs a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from nexus_api.event_stream import send_events
from nexus_api.translate import CallerLeaves, encode, invocation_of, read_object, seconds_to_wait, send_json
from nexus_core import NexusError, Run
from nexus_core.options.settings import MAX_SECONDS
from nexus_core.server.asgi import rate_limit_headers, send_error
from nexus_core.server.caller import headers_of, idempotency_key_of
from nexus_core.server.public_address import root_path

if TYPE_CHECKING:
    from nexus_core import Invocation, Platform
    from nexus_core.server.channel import Receive, Scope, Send


class Execute:
    """Runs a workflow with the request's body as parameters.

    The response is the result; with ``Prefer: wait=N`` it is the run (202) if that takes longer than N seconds; with
    ``Accept: text/event-stream`` it is a stream of the run's events. When the client disconnects, the run is cancelled,
    unless the request has ``wait``.

    With ``wait`` it is the run (202) as soon as that waits for an answer, too. Without, that is so for workflows that
    are known to ask; see `Workflow.may_wait`. To leave any other call behind, each would need a separate task, which
    costs more than some calls do.

    Args:
        platform: The platform.
        heartbeat: Seconds without an event after which a stream sends a heartbeat.
    """

    def __init__(self, platform: Platform, heartbeat: float) -> None:
        self._platform = platform
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        headers = headers_of(scope)
        try:
            name = scope["path_params"]["name"]
            invocation = invocation_of(scope, headers, name, None, idempotency_key_of(headers))
            read = await read_object(self._platform, invocation, receive)
            if read is None:
                return
            text, invocation.params = read
            invocation.source = (text, ())
            wait = seconds_to_wait(scope, headers)
            if wait is not None and self._platform.options.enable_async_execution:
                await self._detached(invocation, wait, scope, send)
            elif b"text/event-stream" in headers.get(b"accept", b""):
                await self._streamed(invocation, scope, receive, send)
            elif (workflow := self._platform.workflows.find(name)) is not None and workflow.may_wait:
                await self._until_it_asks(invocation, scope, receive, send)
            else:
                with CallerLeaves(self._platform.timers, receive):
                    result = await self._platform.invoke(invocation)
                    await send_json(send, result.reply(), 200, rate_limit_headers(invocation.rate_limit))
        except NexusError as exc:
            await send_error(scope, send, exc)

    async def _until_it_asks(self, invocation: Invocation, scope: Scope, receive: Receive, send: Send) -> None:
        with CallerLeaves(self._platform.timers, receive):
            outcome = await self._platform.invoke_within(invocation, MAX_SECONDS)
            if isinstance(outcome, Run):
                await _send_run(outcome, invocation, scope, send)
            else:
                await send_json(send, outcome.reply(), 200, rate_limit_headers(invocation.rate_limit))

    async def _detached(self, invocation: Invocation, wait: float, scope: Scope, send: Send) -> None:
        with self._platform.submit(invocation).hold() as run:
            await run.started_or_rejected()  # a refusal by a policy is sent at once
            with self._platform.credentials.lease(invocation):
                await run.settled(wait)
            if run.done:
                result = await run.outcome()
                applied = (b"preference-applied", f"wait={wait:g}".encode())
                await send_json(send, result.reply(), 200, [applied, *rate_limit_headers(invocation.rate_limit)])
                return
        await _send_run(run, invocation, scope, send)

    async def _streamed(self, invocation: Invocation, scope: Scope, receive: Receive, send: Send) -> None:
        lease, caller = self._platform.credentials.lease(invocation), CallerLeaves(self._platform.timers, receive)
        with self._platform.submit(invocation).hold() as run:
            try:
                await run.started_or_rejected()
                if not run.events_after(0)[0].is_terminal:
                    await send_events(run, 0, self._heartbeat, caller, lease, send)
                    return
            finally:
                run.abandon()
            if run.error is not None:
                await run.outcome()
            await send_events(run, 0, self._heartbeat, caller, lease, send)


async def _send_run(run: Run, invocation: Invocation, scope: Scope, send: Send) -> None:
    """Send a run that goes on, with its address."""
    location = (b"location", f"{quote(root_path(scope))}/api/runs/{run.id}".encode())
    left = rate_limit_headers(invocation.rate_limit)
    await send_json(send, encode(run.to_dict()), 202, [location, (b"retry-after", b"1"), *left])
