"""`BoundStream`: an open GET stream, which ends when its caller's credential does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core.errors import CredentialEnded
from nexus_core.server.asgi import send_error

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.pipeline.credentials import Lease
    from nexus_core.server.channel import Message, Scope, Send

LAST_SECONDS = 1.0
"""How long a client who does not read may keep a stream whose credential has ended."""


class BoundStream:
    """The answer to a GET request.

    Its last line is a comment with the reason: the protocol has no message for it. The client opens another one, and is
    asked for another credential then.

    Args:
        scope: The request.
        send: Where the answer goes.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._has_begun = False

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on."""
        self._has_begun = True
        await self._send(message)

    async def serve(self, lease: Lease, answer: Awaitable[None]) -> None:
        """Await the answer, as long as the caller's credential is good."""
        try:
            with lease:
                await answer
        except CredentialEnded as exc:
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._end(exc)

    async def _end(self, error: CredentialEnded) -> None:
        if self._has_begun:
            body = f": {error.code}: {error.message}\n\n".encode()
            await self._send({"type": "http.response.body", "body": body, "more_body": False})
        else:
            await send_error(self._scope, self._send, error)
