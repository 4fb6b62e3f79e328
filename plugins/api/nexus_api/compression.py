"""Compresses answers for callers that ask for it, without holding up the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nexus_core.server.channel import ASGIApp, Message, Receive, Scope, Send

COMPRESS_FROM = 1024
"""Bytes below which compressing an answer costs more than it saves."""

PIECE = 256 * 1024
"""Bytes that are compressed in one go, some milliseconds of work; the event loop then takes care of others."""


def compressed(app: ASGIApp, level: int) -> ASGIApp:
    """Return an application that answers in zstd, brotli or gzip where the caller takes it.

    Args:
        app: The application behind.
        level: How hard, from 1 to 9.
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
    """Hands on large bodies piece by piece, with a turn of the event loop after each."""

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
