"""``/api/ws``: many calls at once over one WebSocket, with progress.

Each message is a JSON object. From the caller: ``{"type": "execute", "id": ..., "workflow": ..., "params": {...}}``,
``{"type": "cancel", "id": ...}``, ``{"type": "follow", "id": ..., "run_id": ..., "after": 0}``. Back come
``{"type": "event", "id": ..., "event": {...}}``, and last ``{"type": "result", "id": ..., "result": ...,
"run_id": ...}`` or ``{"type": "error", "id": ..., "error": {...}}``, where ``id`` is the caller's own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nexus_api.translate import encode, invocation_of
from nexus_core import MalformedRequest, NexusError, Overloaded
from nexus_core.jsontext import parse_object

if TYPE_CHECKING:
    from nexus_core import Nexus, Run
    from nexus_core.channel import Receive, Scope, Send


class WebSocketCalls:
    """The endpoint.

    Args:
        nexus: What is called.
        limit: Calls that one connection may have under way.
    """

    def __init__(self, nexus: Nexus, limit: int) -> None:
        self._nexus = nexus
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it closes; then cancel what it has under way."""
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept"})
        connection = _Connection(self._nexus, self._limit, scope, send)
        try:
            while (message := await receive())["type"] != "websocket.disconnect":
                await connection.take(message.get("text") or message.get("bytes") or "")
        finally:
            connection.close()


class _Connection:
    def __init__(self, nexus: Nexus, limit: int, scope: Scope, send: Send) -> None:
        self._nexus = nexus
        self._limit = limit
        self._scope = scope
        self._headers = dict(scope["headers"])
        self._send_message = send
        self._sending = asyncio.Lock()
        self._calls: dict[Any, asyncio.Task[None]] = {}
        self._runs: dict[Any, Run] = {}

    async def take(self, text: str | bytes) -> None:
        """Act on one message of the caller's."""
        call_id = None
        try:
            message = parse_object(text.encode(errors="surrogatepass") if isinstance(text, str) else text)
            call_id = _call_id(message)
            match message.get("type"):
                case "execute":
                    self._begin(call_id, self._execute(call_id, message))
                case "follow":
                    self._begin(call_id, self._follow(call_id, message))
                case "cancel":
                    self._cancel(call_id)
                case _:
                    raise MalformedRequest('/type: expected one of "execute", "follow", "cancel".')
        except NexusError as exc:
            await self._error(call_id, exc)

    def _begin(self, call_id: Any, work: Any) -> None:
        error: NexusError | None = None
        if call_id in self._calls:
            error = MalformedRequest("/id: a call with this id is under way.")
        elif len(self._calls) >= self._limit:
            error = Overloaded(f"websocket_calls ({self._limit}) are under way on this connection.", retry_after=1)
        if error is not None:
            work.close()
            raise error
        task = asyncio.get_running_loop().create_task(work)
        self._calls[call_id] = task
        task.add_done_callback(lambda _: self._calls.pop(call_id, None))

    def _cancel(self, call_id: Any) -> None:
        run, task = self._runs.get(call_id), self._calls.get(call_id)
        if task is None:
            raise MalformedRequest("/id: no call with this id is under way.")
        if run is None:
            task.cancel()
        else:
            run.cancel()

    async def _execute(self, call_id: Any, message: dict[str, Any]) -> None:
        try:
            name, params, timeout = _call(message)
            invocation = invocation_of(self._scope, self._headers, name, params)
            invocation.timeout = timeout
            run = self._runs[call_id] = self._nexus.submit(invocation)
            try:
                await self._report(call_id, run, 0)
            finally:
                run.cancel()
                del self._runs[call_id]
        except NexusError as exc:
            await self._error(call_id, exc)

    async def _follow(self, call_id: Any, message: dict[str, Any]) -> None:
        try:
            run_id, after = message.get("run_id"), message.get("after", 0)
            if not isinstance(run_id, str) or type(after) is not int:
                raise MalformedRequest("/run_id: expected string; /after: expected integer.")
            await self._report(call_id, self._nexus.runs.get(run_id), after)
        except NexusError as exc:
            await self._error(call_id, exc)

    async def _report(self, call_id: Any, run: Run, after: int) -> None:
        async for event in run.follow(after):
            if not event.is_terminal:
                await self._send({"type": "event", "id": call_id, "event": event.to_dict()})
        reply = {"run_id": run.id} | ({} if run.result is None else {"result": run.result.value})
        if run.error is not None:
            await self._error(call_id, run.error)
        else:
            await self._send({"type": "result", "id": call_id} | reply)

    async def _error(self, call_id: Any, error: NexusError) -> None:
        await self._send({"type": "error", "id": call_id, "error": error.problem()})

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._send_message({"type": "websocket.send", "text": encode(message).decode()})

    def close(self) -> None:
        """Cancel what is under way: nobody is left to take it."""
        for run in list(self._runs.values()):
            run.cancel()
        for task in list(self._calls.values()):
            task.cancel()


def _call_id(message: dict[str, Any]) -> str | int:
    call_id = message.get("id")
    if type(call_id) is int or (isinstance(call_id, str) and len(call_id) <= 200):
        return call_id
    raise MalformedRequest("/id: expected a string of at most 200 characters, or an integer.")


def _call(message: dict[str, Any]) -> tuple[str, Any, float | None]:
    name, timeout = message.get("workflow"), message.get("timeout")
    if not isinstance(name, str):
        raise MalformedRequest("/workflow: expected string.")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
        raise MalformedRequest("/timeout: expected a number of seconds above 0.")
    unknown = sorted(message.keys() - {"type", "id", "workflow", "params", "timeout"})
    if unknown:
        raise MalformedRequest(f"/{unknown[0][:100]}: unknown name.")
    return name, message.get("params"), timeout
