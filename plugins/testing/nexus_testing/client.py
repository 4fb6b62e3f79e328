"""`NexusTestClient`: a client of every channel of a platform."""

from __future__ import annotations

import shlex
import weakref
from typing import TYPE_CHECKING, Any, Self

import httpx2

from nexus_core.errors import ConfigurationError
from nexus_testing import mcp
from nexus_testing.engine import SECONDS, Engine
from nexus_testing.websocket import WebSocketSession

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nexus_core import Nexus

BASE_URL = "http://127.0.0.1"
CLIENT = ("127.0.0.1", 50000)


class McpError(Exception):
    """A JSON-RPC error of MCP.

    Attributes:
        code: The error's number.
        problem: The problem details, if the error has any.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code = error.get("code")
        self.problem = error.get("data")


class NexusTestClient:
    """Calls a platform through its real channels, in this process and without ports.

    The platform is started at the first call, on an event loop in a separate thread. It is stopped by `close`, at the
    end of a ``with`` block, or when the client is garbage-collected. Workflows may be registered at any time.

    Args:
        nexus: The platform.
        token: The caller's credential on every channel: a token, or ``SCHEME CREDENTIAL``.
        session: The session of the calls on every channel.

    Example::

        with NexusTestClient(nexus) as client:
            assert client.post("/api/workflows/greet/execute", {"name": "Ada"}).status_code == 200
            assert client.cli("execute greet --name Ada").exit_code == 0
            assert client.mcp_call("greet", {"name": "Ada"})["success"]
    """

    def __init__(self, nexus: Nexus, *, token: str | None = None, session: str | None = None) -> None:
        self.nexus = nexus
        self.token = token
        self.session = session
        self._engine = Engine(nexus)
        self._finalizer = weakref.finalize(self, self._engine.abandon)
        self._finalizer.atexit = False  # the thread is a daemon

    def as_user(self, token: str | None = None, *, session: str | None = None) -> NexusTestClient:
        """Return a client with another credential on the same platform. It must not outlive this one."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), token=token, session=session, _origin=self)
        return other

    def __enter__(self) -> Self:
        """Start the platform: errors of the start are raised here."""
        _ = self._engine.app
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the platform."""
        self.close()

    def close(self) -> None:
        """Stop the platform, as at the end of a process. The client can't be used afterwards."""
        self._finalizer.detach()
        self._engine.close()

    # REST

    def request(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        """Send an HTTP request and return the complete response.

        Args:
            method: ``GET``, ``POST``, ...
            path: Such as ``/api/workflows/greet/execute``.
            json: The JSON body as a value; None for no body.
            headers: Further headers.
            options: Further arguments of ``httpx2.AsyncClient.request``: ``params``, ``content``, ``cookies``, ...
        """
        given = options if json is None else {"json": json, **options}
        return self._engine.call(self._send(self._engine.app, method, path, self._headers(headers), given))

    async def _send(
        self, app: Any, method: str, path: str, headers: Mapping[str, str], given: dict[str, Any]
    ) -> httpx2.Response:
        transport = httpx2.ASGITransport(app, client=CLIENT)
        async with httpx2.AsyncClient(transport=transport, base_url=BASE_URL, timeout=None) as client:
            return await client.request(method, path, headers=headers, **given)

    def _headers(self, given: Mapping[str, str] | None) -> httpx2.Headers:
        """Return the caller's headers; the given ones override them."""
        found = httpx2.Headers({} if self.session is None else {"x-nexus-session": self.session})
        if self.token is not None:
            found["authorization"] = self.token if " " in self.token else f"Bearer {self.token}"
        found.update(given)
        return found

    def get(self, path: str, **options: Any) -> httpx2.Response:
        """See `request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, json: Any = None, **options: Any) -> httpx2.Response:
        """See `request`."""
        return self.request("POST", path, json, **options)

    def put(self, path: str, json: Any = None, **options: Any) -> httpx2.Response:
        """See `request`."""
        return self.request("PUT", path, json, **options)

    def patch(self, path: str, json: Any = None, **options: Any) -> httpx2.Response:
        """See `request`."""
        return self.request("PATCH", path, json, **options)

    def delete(self, path: str, **options: Any) -> httpx2.Response:
        """See `request`."""
        return self.request("DELETE", path, **options)

    def websocket(self, path: str = "/api/ws", *, headers: Mapping[str, str] | None = None) -> WebSocketSession:
        """Return a WebSocket, for use as a context manager."""
        return WebSocketSession(self._engine, path, self._headers(headers))

    # Command line

    def cli(self, command: str | Sequence[str]) -> Any:
        """Run a command line, without ``nexus`` in front, as if its output were piped.

        Args:
            command: The command line, such as ``execute greet --name Ada``, or its arguments as a list.

        Returns:
            An object with ``exit_code``, ``output`` (its stdout), ``stderr`` and ``json()``, the parsed output.

        Raises:
            ConfigurationError: The plugin "cli" is not active.
            TimeoutError: A call takes longer than 60 s.
        """
        words = shlex.split(command) if isinstance(command, str) else list(command)
        line = self.nexus.service("command_line")
        _ = self._engine.app
        words = words[1:] if words[:1] == ["nexus"] else words
        return line.run(words, self._engine.loop, self.token, self.session, SECONDS)

    # MCP

    def mcp_request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request of the protocol and return its result.

        Raises:
            McpError: The response is an error.
            ConfigurationError: The plugin "mcp" is not active.
        """
        _ = self._engine.app
        if self.nexus.channel("mcp") is None:
            raise ConfigurationError('There is no MCP channel. It needs the plugin "mcp": pip install nexus-hub-mcp')
        sent = mcp.request(method, params, self.session)
        reply = mcp.answer(self.request("POST", mcp.PATH, sent["json"], headers=sent["headers"]))
        if "error" in reply:
            raise McpError(reply["error"])
        if "result" not in reply:
            raise McpError({"code": reply.get("status"), "message": reply.get("detail"), "data": reply})
        return reply["result"]  # type: ignore[no-any-return]

    def mcp_call(self, tool: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool.

        Returns:
            ``{"success": True, "result": ..., "run_id": ...}``, or ``{"success": False, "error": ...}`` with the
            problem details and ``text``, the content of the result.
        """
        try:
            result = self.mcp_request("tools/call", name=tool, arguments=dict(arguments or {}))
        except McpError as exc:
            return {"success": False, "error": exc.problem or {"detail": str(exc)}}
        if result.get("isError"):
            error = result.get("_meta", {}).get("nexus/error")
            return {"success": False, "error": error, "text": result["content"][0]["text"]}
        return {"success": True, **result["structuredContent"]}

    def mcp_tools(self) -> list[dict[str, Any]]:
        """Return the tools that the caller may call."""
        return self.mcp_request("tools/list")["tools"]  # type: ignore[no-any-return]

    def mcp_read(self, uri: str) -> Any:
        """Return the content of a resource, such as ``nexus://sessions/ID``, as a value."""
        (content,) = self.mcp_request("resources/read", uri=uri)["contents"]
        return httpx2.Response(200, text=content["text"]).json()
