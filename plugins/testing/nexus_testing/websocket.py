"""`WebSocketSession`: the client side of a WebSocket to an ASGI application."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.server.channel import Message
    from nexus_testing.engine import Engine


class WebSocketClosed(Exception):
    """The platform has closed the connection, or refused it.

    Attributes:
        code: The close code (RFC 6455); for a refusal the HTTP status.
        reason: The reason in words.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".strip())
        self.code = code
        self.reason = reason


class WebSocketSession:
    """A WebSocket connection, as a context manager that closes it.

    Args:
        engine: Runs the platform.
        path: The path, such as ``/api/ws``.
        headers: The headers of the handshake.
    """

    def __init__(self, engine: Engine, path: str, headers: Mapping[str, str]) -> None:
        self._engine = engine
        self._path, _, self._query = path.partition("?")
        self._headers = headers
        self._in: asyncio.Queue[Message] = asyncio.Queue()
        self._out: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __enter__(self) -> Self:
        """Open the connection.

        Raises:
            WebSocketClosed: The platform refuses it.
        """
        app = self._engine.app
        headers = {"host": "127.0.0.1", **{name.lower(): value for name, value in self._headers.items()}}
        scope: dict[str, Any] = {
            "type": "websocket", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1",
            "scheme": "ws", "path": self._path, "raw_path": self._path.encode(), "root_path": "",
            "query_string": self._query.encode(), "subprotocols": [], "state": {},
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 80),
            "extensions": {"websocket.http.response": {}},
        }  # fmt: skip

        async def begin() -> None:
            self._in.put_nowait({"type": "websocket.connect"})
            self._task = asyncio.create_task(app(scope, self._in.get, self._out.put))  # type: ignore[arg-type]
            self._task.add_done_callback(lambda _: self._out.put_nowait({"type": "websocket.close", "code": 1006}))

        self._engine.call(begin())
        first = self._next()
        if first["type"] == "websocket.http.response.start":
            raise WebSocketClosed(first["status"], self._next().get("body", b"").decode())
        if first["type"] != "websocket.accept":
            raise WebSocketClosed(first.get("code", 1000), first.get("reason") or "")
        return self

    def _next(self) -> Message:
        return self._engine.call(self._out.get())

    def send_text(self, text: str) -> None:
        """Send a text message."""
        message = {"type": "websocket.receive", "text": text}
        self._engine.loop.call_soon_threadsafe(self._in.put_nowait, message)

    def send_json(self, value: Any) -> None:
        """Send a value as JSON text."""
        self.send_text(json.dumps(value))

    def receive_text(self) -> str:
        """Return the next message.

        Raises:
            WebSocketClosed: The platform has closed the connection.
            TimeoutError: No message arrives within 60 s.
        """
        if self._closed:
            raise WebSocketClosed(1006)
        message = self._next()
        if message["type"] == "websocket.close":
            self._closed = True
            raise WebSocketClosed(message.get("code", 1000), message.get("reason") or "")
        text = message.get("text")
        return str(text) if text is not None else bytes(message["bytes"]).decode()

    def receive_json(self) -> Any:
        """Return the next message as a value; see `receive_text`."""
        return json.loads(self.receive_text())

    def close(self, code: int = 1000) -> None:
        """Close the connection, and wait until the platform has closed it too."""
        task = self._task
        if task is None:
            return
        self._task = None
        if task.done():
            return

        async def end() -> None:
            self._in.put_nowait({"type": "websocket.disconnect", "code": code})
            await asyncio.wait({task})

        self._engine.call(end())

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()
