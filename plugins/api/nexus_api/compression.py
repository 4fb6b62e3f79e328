"""Compresses responses for clients that accept it, without delaying other requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send

COMPRESS_FROM = 1024
"""Bytes below which compressing a response costs more than it saves."""

PIECE = 256 * 1024
"""Bytes that are compressed at once, some milliseconds of work; then the event loop gets a turn."""


def compressed(app: ASGIApp, level: int) -> ASGIApp:
    """Return an application whose responses are compressed with zstd, brotli or gzip if the client accepts it.

    Args:
        app: The application.
        level: The compression level, from 1 to 9.
    """
    from starlette_compress import CompressMiddleware

    compress = CompressMiddleware(
        _InPieces(app), minimum_size=COMPRESS_FROM, gzip_level=level, brotli_quality=level, zstd_level=level
    )

    def compress_if_asked(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        for name, _ in scope["headers"]:
            if name == b"accept-encoding":
                return compress(scope, receive, send)
        return app(scope, receive, send)

    return compress_if_asked


class _InPieces:
    """Passes large bodies on in pieces, with a turn of the event loop after each."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        def send_in_pieces(message: Message) -> Awaitable[None]:
            return send(message) if len(message.get("body", b"")) <= PIECE else _send_pieces(message, send)

        return self._app(scope, receive, send_in_pieces)


async def _send_pieces(message: Message, send: Send) -> None:
    body = memoryview(message["body"])
    for begin in range(0, len(body), PIECE):
        is_last = begin + PIECE >= len(body)
        more = message.get("more_body", False) if is_last else True
        await send({**message, "body": bytes(body[begin : begin + PIECE]), "more_body": more})
        await asyncio.sleep(0)
