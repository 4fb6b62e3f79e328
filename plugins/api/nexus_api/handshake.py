"""`Handshakes`: lets WebSockets in. Callers are authenticated before a connection is accepted and kept.

A page can't set headers on a WebSocket. Its credential is its cookie, or comes as a subprotocol:
``new WebSocket(url, ["nexus", "nexus.bearer." + token])``. The answer names ``nexus`` alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from nexus_api.translate import invocation_of
from nexus_core import MalformedRequest, Overloaded
from nexus_core.server.caller import headers_of
from nexus_core.types.addresses import network_of

if TYPE_CHECKING:
    from nexus_core import Platform
    from nexus_core.app.view import CallerView
    from nexus_core.server.channel import Scope

SUBPROTOCOL = "nexus"
BEARER = "nexus.bearer."

HANDSHAKE_SECONDS = 10.0
"""How long a handshake may take, whatever the policies wait for."""


class Handshakes:
    """Authenticates those who open WebSockets.

    Args:
        nexus: Whose policies decide.
        limit: Handshakes of one address that may be under way.
    """

    def __init__(self, platform: Platform, limit: int) -> None:
        self._platform = platform
        self._limit = limit
        self._pending: Counter[str] = Counter()

    async def admit(self, scope: Scope, headers: dict[bytes, bytes]) -> CallerView:
        """Return what a caller sees who may open a WebSocket.

        Args:
            scope: The handshake's scope.
            headers: Its headers, as `handshake_headers` returns them.

        Raises:
            NexusError: It may not; the error is the answer.
        """
        client = scope.get("client")
        network = network_of(client[0]) if client else ""
        if self._pending[network] >= self._limit:
            raise Overloaded(
                f"{self._limit} WebSocket handshakes of this address are under way (websocket_handshakes).",
                retry_after=1,
            )
        self._pending[network] += 1
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                return await self._platform.view(invocation_of(scope, headers, "", None))
        except TimeoutError:
            raise Overloaded("The handshake was not decided in time.", retry_after=1) from None
        finally:
            self._pending[network] -= 1
            if not self._pending[network]:
                del self._pending[network]


def handshake_headers(scope: Scope) -> dict[bytes, bytes]:
    """Return a handshake's headers, with a credential that came as a subprotocol where it belongs.

    Raises:
        MalformedRequest: There are two credentials.
    """
    headers = headers_of(scope)
    offered = scope.get("subprotocols") or ()
    tokens = [each[len(BEARER) :] for each in offered if each.startswith(BEARER)]
    if not tokens:
        return headers
    if len(tokens) > 1 or b"authorization" in headers:
        raise MalformedRequest("There is more than one credential: Authorization, or one subprotocol nexus.bearer.")
    others = ", ".join(each for each in offered if not each.startswith(BEARER))
    return headers | {b"authorization": f"Bearer {tokens[0]}".encode(), b"sec-websocket-protocol": others.encode()}


def subprotocol_of(scope: Scope) -> str | None:
    """Return the subprotocol that the connection will speak, if the caller has offered it."""
    return SUBPROTOCOL if SUBPROTOCOL in (scope.get("subprotocols") or ()) else None
