"""``/api/ws``: concurrent calls over one WebSocket, with progress.

Each message is a JSON object. From the client: ``{"type": "execute", "id": ..., "workflow": ..., "params": {...}}``
with optional ``timeout``, ``session`` and ``idempotency_key``,
``{"type": "cancel", "id": ...}``, ``{"type": "follow", "id": ..., "run_id": ..., "after": 0}``, ``{"type":
"events", "id": ...}`` for the events of all of the caller's runs, until cancelled, ``{"type": "questions", "id": ...}``
with the filters of ``/api/questions`` for open questions, and ``{"type": "answer", "id": ..., "run_id": ..., "number":
..., "answer": ...}``. The server sends
``{"type": "event", "id": ..., "event": {...}}``, and last ``{"type": "result", "id": ..., "result": ...,
"run_id": ...}`` or ``{"type": "error", "id": ..., "error": {...}}``, with the client's ``id``; ``run_id`` with results
of runs only.
The connection ends with the caller's credential: an error without ``id``, and the close code 4401.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from nexus_toolkit.endpoints import Endpoint

from nexus_api.event_stream import LAST_SECONDS
from nexus_api.handshake import Handshakes, handshake_headers, subprotocol_of
from nexus_api.questions import answer_in
from nexus_api.translate import caller_of_request, encode, invocation_of
from nexus_core import MalformedRequest, NexusError, Overloaded, Run
from nexus_core.errors import CredentialEnded, RunCancelled
from nexus_core.jsontext import parse_object
from nexus_core.runs.listing import QUESTION_FILTERS
from nexus_core.server.asgi import send_error
from nexus_core.server.caller import check_length

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Set

    from nexus_core import Caller, Platform
    from nexus_core.app.view import CallerView
    from nexus_core.runs.hold import Hold
    from nexus_core.runs.stored_run import StoredRun
    from nexus_core.server.channel import Receive, Scope, Send

CREDENTIAL_CLOSE = 4401
"""Close code when the credential of the connection has ended: 401, in the private range."""

_TYPES = '"execute", "follow", "events", "questions", "answer", "cancel"'
_OF_ANSWERS = frozenset({"type", "id", "run_id", "number"})

UNREAD_ERRORS = 1000
"""Unread error messages after which a connection is closed."""


class WebSocketCalls:
    """The WebSocket endpoint.

    Args:
        platform: The platform.
        limit: Concurrent calls of one connection.
        handshakes: Concurrent handshakes of one address.
    """

    endpoints = (Endpoint("/api/ws", ("WebSocket",), "Run workflows and follow events over one connection.", (101,)),)

    def __init__(self, platform: Platform, limit: int, handshakes: int) -> None:
        self._platform = platform
        self._limit = limit
        self._handshakes = Handshakes(platform, handshakes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection until it closes; then cancel its calls."""
        if (await receive())["type"] != "websocket.connect":
            return
        try:
            headers = handshake_headers(scope)
            view = await self._handshakes.admit(scope, headers)
        except NexusError as exc:
            await send_error(scope, send, exc, close=True)
            return
        await send({"type": "websocket.accept", "subprotocol": subprotocol_of(scope)})
        connection = _WebSocketConnection(self._platform, self._limit, scope, headers, send)
        try:
            with view.lease():
                # Nothing in this loop waits for the client to read: a disconnect is noticed at any time.
                while (message := await receive())["type"] != "websocket.disconnect":
                    connection.take(message.get("text") or message.get("bytes") or "")
        except CredentialEnded as exc:
            await connection.end(exc)
        finally:
            connection.close()


class _Call(NamedTuple):
    task: asyncio.Task[None]
    run: Run | None  # None for a run that is only followed


class _WebSocketConnection:
    def __init__(self, platform: Platform, limit: int, scope: Scope, headers: dict[bytes, bytes], send: Send) -> None:
        self._platform = platform
        self._limit = limit
        self._scope = scope
        self._headers = headers
        self._send_message = send
        self._sending = asyncio.Lock()
        self._calls: dict[str | int, _Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._given_up = False

    def take(self, text: str | bytes) -> None:
        """Process one message of the client."""
        if self._given_up:
            return
        call_id = None
        try:
            written = text.encode(errors="surrogatepass") if isinstance(text, str) else text
            message = parse_object(written, "message")
            call_id = _call_id(message)
            match message.get("type"):
                case "execute":
                    self._execute(call_id, message, written)
                case "follow":
                    self._follow(call_id, message)
                case "events":
                    self._follow_events(call_id, message)
                case "questions":
                    self._list_questions(call_id, message)
                case "answer":
                    self._answer(call_id, message)
                case "cancel":
                    self._cancel(call_id)
                case _:
                    raise MalformedRequest(f"/type: expected one of {_TYPES}.")
        except NexusError as exc:
            self._start(self._error(call_id, exc))
        if len(self._tasks) > self._limit + UNREAD_ERRORS:
            self._give_up()

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _admit(self, call_id: str | int) -> None:
        if call_id in self._calls:
            raise MalformedRequest("/id: a call with this id is active.")
        if len(self._calls) >= self._limit:
            raise Overloaded(f"{self._limit} calls are active on this connection (websocket_calls).", retry_after=1)

    def _execute(self, call_id: str | int, message: dict[str, Any], text: bytes) -> None:
        key = _short(message, "idempotency_key")  # one of the connection's would be every call's
        invocation = invocation_of(self._scope, self._headers, *_call(message), key)
        invocation.source = (text, ("params",))
        invocation.timeout = _timeout(message)
        invocation.session_id = _short(message, "session") or invocation.session_id
        self._admit(call_id)
        run = self._platform.submit(invocation)
        self._calls[call_id] = _Call(self._start(self._report(call_id, run.hold(), 0)), run)

    def _follow(self, call_id: str | int, message: dict[str, Any]) -> None:
        run_id, after = message.get("run_id"), message.get("after", 0)
        if not isinstance(run_id, str) or type(after) is not int:
            raise MalformedRequest("/run_id: expected string; /after: expected integer.")
        caller = caller_of_request(self._scope, self._headers)
        self._admit(call_id)
        self._calls[call_id] = _Call(self._start(self._find(call_id, caller, run_id, after)), None)

    def _follow_events(self, call_id: str | int, message: dict[str, Any]) -> None:
        after, session = message.get("after"), message.get("session")
        if not (after is None or isinstance(after, str)) or not (session is None or isinstance(session, str)):
            raise MalformedRequest("/after: expected string; /session: expected string.")
        caller = caller_of_request(self._scope, self._headers)
        self._admit(call_id)
        self._calls[call_id] = _Call(self._start(self._send_events(call_id, caller, after, session)), None)

    async def _send_events(self, call_id: str | int, caller: Caller, after: str | None, session: str | None) -> None:
        try:
            follower = await (await self._platform.view(caller)).events(after, session_id=session)
        except NexusError as exc:
            del self._calls[call_id]
            await self._error(call_id, exc)
            return
        try:
            await self._send({"type": "following", "id": call_id, "after": follower.position})
            while (event := await follower.next()) is not None:
                shown = event.to_dict()
                if event.id:
                    shown["id"] = event.id
                await self._send({"type": "event", "id": call_id, "event": shown})
        finally:
            follower.close()

    def _list_questions(self, call_id: str | int, message: dict[str, Any]) -> None:
        _refuse_others(message, QUESTION_FILTERS.keys())
        asked = {name: message.get(name) for name in QUESTION_FILTERS}
        self._request(call_id, lambda view: view.questions.page(asked))

    def _answer(self, call_id: str | int, message: dict[str, Any]) -> None:
        run_id, number = message.get("run_id"), message.get("number")
        if not isinstance(run_id, str) or type(number) is not int:
            raise MalformedRequest("/run_id: expected string; /number: expected integer.")
        value = answer_in({name: each for name, each in message.items() if name not in _OF_ANSWERS})

        async def answered(view: CallerView) -> dict[str, Any]:
            return (await view.questions.answer(run_id, number, value)).to_dict(with_answer=True)

        self._request(call_id, answered)

    def _request(self, call_id: str | int, work: Callable[[CallerView], Awaitable[dict[str, Any]]]) -> None:
        caller = caller_of_request(self._scope, self._headers)
        self._admit(call_id)
        self._calls[call_id] = _Call(self._start(self._reply(call_id, caller, work)), None)

    async def _reply(
        self, call_id: str | int, caller: Caller, work: Callable[[CallerView], Awaitable[dict[str, Any]]]
    ) -> None:
        try:
            result = await work(await self._platform.view(caller))
        except NexusError as exc:
            del self._calls[call_id]
            await self._error(call_id, exc)
        else:
            del self._calls[call_id]
            await self._send({"type": "result", "id": call_id, "result": result})

    def _cancel(self, call_id: str | int) -> None:
        call = self._calls.get(call_id)
        if call is None:
            raise MalformedRequest("/id: no call with this id is active.")
        if call.run is not None:
            call.run.cancel()  # its report will say so
        else:
            call.task.cancel()
            del self._calls[call_id]
            raise RunCancelled("The run is no longer followed.")

    async def _find(self, call_id: str | int, caller: Caller, run_id: str, after: int) -> None:
        try:
            run = await (await self._platform.view(caller)).run(run_id)
        except NexusError as exc:
            del self._calls[call_id]
            await self._error(call_id, exc)
        else:
            await self._report(call_id, run.hold(), after)

    async def _report(self, call_id: str | int, hold: Hold[Run] | StoredRun, after: int) -> None:
        with hold as run:
            async for event in run.follow(after):
                if not event.is_terminal:
                    await self._send({"type": "event", "id": call_id, "event": event.to_dict()})
            del self._calls[call_id]  # once answered, the id may be used again
            if run.error is not None:
                error = run.error.copy()
                error.reply = await run.reply()
                await self._error(call_id, error)
            else:
                result = {} if run.result is None else {"result": msgspec.Raw(run.result.json)} | run.result.flags()
                await self._send({"type": "result", "id": call_id, "run_id": run.id} | result)

    async def _error(self, call_id: str | int | None, error: NexusError) -> None:
        await self._send({"type": "error", "id": call_id, "error": error.answer()})

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._send_message({"type": "websocket.send", "text": encode(message).decode()})

    def _give_up(self) -> None:
        """Close the connection of a client that sends without reading."""
        self.close()
        self._given_up = True
        self._start(self._send_message({"type": "websocket.close", "code": 1008, "reason": "Responses are not read."}))  # type: ignore[arg-type]

    async def end(self, error: CredentialEnded) -> None:
        """Close the connection because the caller's credential has ended, with that reason."""
        self.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._error(None, error)
                await self._send_message(
                    {"type": "websocket.close", "code": CREDENTIAL_CLOSE, "reason": error.message[:120]}
                )

    def close(self) -> None:
        """Cancel the calls of a closed connection."""
        for call in self._calls.values():
            if call.run is not None:
                call.run.abandon()
        for task in list(self._tasks):
            task.cancel()


def _call_id(message: dict[str, Any]) -> str | int:
    call_id = message.get("id")
    if type(call_id) is int or (isinstance(call_id, str) and len(call_id) <= 200):
        return call_id
    raise MalformedRequest("/id: expected a string of at most 200 characters, or an integer.")


def _call(message: dict[str, Any]) -> tuple[str, Any]:
    name = message.get("workflow")
    if not isinstance(name, str):
        raise MalformedRequest("/workflow: expected string.")
    _refuse_others(message, {"workflow", "params", "timeout", "session", "idempotency_key"})
    return name, message.get("params")


def _refuse_others(message: dict[str, Any], known: Set[str]) -> None:
    if unknown := sorted(message.keys() - {"type", "id"} - known):
        raise MalformedRequest(f"/{unknown[0][:100]}: unknown name.")


def _timeout(message: dict[str, Any]) -> float | None:
    timeout = message.get("timeout")
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0):
        raise MalformedRequest("/timeout: expected a number of seconds above 0.")
    return timeout


def _short(message: dict[str, Any], name: str) -> str | None:
    value = message.get(name)
    if value is not None and not isinstance(value, str):
        raise MalformedRequest(f"/{name}: expected string.")
    return None if value is None else check_length(f"/{name}", value)
