"""`NexusTestClient`: one caller on every channel of a platform."""

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
    """MCP has answered with a JSON-RPC error.

    Attributes:
        code: Its number.
        problem: The problem details, where the error has some.
    """

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code = error.get("code")
        self.problem = error.get("data")


class NexusTestClient:
    """Calls a platform through its real channels, in this process and without any port.

    The platform is started at the first call, on an event loop in a thread of its own, and stopped by `close`, at the
    end of a ``with`` block, or when nobody has the client any more. Workflows may be registered at any time.

    Args:
        nexus: The platform.
        token: What the caller proves with who it is, on every channel: a token, or ``SCHEME CREDENTIAL``.
        session: The session that its calls belong to, on every channel.
    """

    def __init__(self, nexus: Nexus, *, token: str | None = None, session: str | None = None) -> None:
        self.nexus = nexus
        self.token = token
        self.session = session
        self._engine = Engine(nexus)
        self._finalizer = weakref.finalize(self, self._engine.abandon)
        self._finalizer.atexit = False  # the thread is a daemon

    def as_user(self, token: str | None = None, *, session: str | None = None) -> NexusTestClient:
        """Return another caller of the same started platform. It must not outlive this client."""
        other = object.__new__(type(self))
        vars(other).update(vars(self), token=token, session=session, _origin=self)
        return other

    def __enter__(self) -> Self:
        """Start the platform: what is wrong with it is said here."""
        _ = self._engine.app
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.close()

    def close(self) -> None:
        """Stop the platform, as at the end of a process. The client can't be used any more."""
        self._finalizer.detach()
        self._engine.close()

    # REST

    def request(
        self, method: str, path: str, json: Any = None, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> httpx2.Response:
        """Send a request to the API, or whatever else answers at a path, and return the whole answer.

        Args:
            method: ``GET``, ``POST``, ...
            path: Such as ``/api/workflows/greet/execute``.
            json: The body as a value, if there is one.
            headers: Further headers.
            options: Other arguments of ``httpx2.AsyncClient.request``: ``params``, ``content``, ``cookies``, ...
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
        """Return the caller's own headers, but for those that are given."""
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
        """Return a WebSocket, to be used as a context manager."""
        return WebSocketSession(self._engine, path, self._headers(headers))

    # Command line

    def cli(self, command: str | Sequence[str]) -> Any:
        """Run a command line, without ``nexus`` in front, as if its output were piped.

        Args:
            command: As typed, such as ``execute greet --name Ada``; or its words.

        Returns:
            ``exit_code``, ``output`` (what it wrote to stdout), ``stderr``, and ``json()`` for the output's value.

        Raises:
            ConfigurationError: There is no command line: it needs the plugin "cli".
            TimeoutError: It takes longer than anything may.
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
            McpError: It is an error.
            ConfigurationError: There is no MCP channel.
        """
        _ = self._engine.app
        if self.nexus.channel("mcp") is None:
            raise ConfigurationError('There is no MCP channel: it needs the plugin "mcp": pip install nexus-hub-mcp')
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
            problem details; an event handler's own words for it are in ``text``.
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
        """Return the tools that the caller may use."""
        return self.mcp_request("tools/list")["tools"]  # type: ignore[no-any-return]

    def mcp_read(self, uri: str) -> Any:
        """Return what a resource holds, such as ``nexus://sessions/ID``, as a value."""
        (content,) = self.mcp_request("resources/read", uri=uri)["contents"]
        return httpx2.Response(200, text=content["text"]).json()
