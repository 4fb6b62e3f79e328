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
"""Seconds that a client may take to read the end of a stream whose credential has ended."""


class BoundStream:
    """The response to a GET request.

    Its last line is a comment with the reason: the protocol has no message for it. The client opens another stream, for
    which it needs a valid credential.

    Args:
        scope: The scope of the request.
        send: The ASGI ``send``.
    """

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._has_begun = False

    async def send(self, message: Message) -> None:
        """Send a part of the response."""
        self._has_begun = True
        await self._send(message)

    async def serve(self, lease: Lease, answer: Awaitable[None]) -> None:
        """Await the response, while the caller's credential is valid."""
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
