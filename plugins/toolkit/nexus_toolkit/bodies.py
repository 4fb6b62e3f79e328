"""Request bodies: read after authentication, and decompressed within `max_body_bytes`."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, TypeVar

from nexus_core.errors import MalformedRequest, RequestTooLarge, UnsupportedEncoding, ValidationError
from nexus_core.server.asgi import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nexus_core import Caller, Platform
    from nexus_core.server.channel import Receive

SMALL = 16 * 1024
"""Bytes up to which a body is read before authentication, which costs less than to authenticate twice."""

_GZIP = (b"gzip", b"x-gzip")
_WINDOW = 31
"""The value of zlib for a gzip header and the largest window."""

MAX_MEMBERS = 1000
"""Most members of a gzip body: an empty one has 20 bytes, and costs as much as a call."""

_PIECE = 64 * 1024
"""Compressed bytes that are processed at once: zlib copies the part that belongs to the next member."""

Parsed = TypeVar("Parsed")


async def read_parsed(
    platform: Platform, caller: Caller, receive: Receive, parse: Callable[[bytes], Parsed]
) -> Parsed | None:
    """Return the parsed body of a request, or None if the client has disconnected.

    The caller is authenticated before a body is read that is large, compressed or of unknown length, and before an
    error of a small one is reported: an unauthenticated request costs next to nothing, and an invalid credential is
    counted whatever the body holds.

    Args:
        platform: Authenticates the caller.
        caller: The caller, with its credentials and headers.
        receive: The ASGI ``receive``.
        parse: Parses the body, or raises `MalformedRequest`.

    Raises:
        AuthenticationError: The credentials are missing or invalid.
        MalformedRequest, RequestTooLarge: The body is invalid or too large.
        UnsupportedEncoding: The body has another encoding than gzip.
    """
    headers = caller.headers or {}
    is_small = _is_small(headers)
    if not is_small:
        await platform.authenticate(caller)
    try:
        body = await read_body(receive)
        return None if body is None else parse(decoded(body, headers, platform.options.max_body_bytes))
    except ValidationError:
        if is_small:
            await platform.authenticate(caller)
        raise


def _is_small(headers: Mapping[bytes, bytes]) -> bool:
    length = headers.get(b"content-length", b"")
    return length.isdigit() and len(length) <= len(str(SMALL)) and int(length) <= SMALL and not _coding(headers)


def _coding(headers: Mapping[bytes, bytes]) -> bytes:
    coding = headers.get(b"content-encoding", b"").strip().lower()
    return b"" if coding == b"identity" else coding


def decoded(body: bytes, headers: Mapping[bytes, bytes], limit: int) -> bytes:
    """Return a body without its Content-Encoding (RFC 9110, section 8.4).

    Args:
        body: The body.
        headers: The headers of the request.
        limit: The most bytes of the decompressed body.

    Raises:
        UnsupportedEncoding: The encoding is not gzip.
        RequestTooLarge: The decompressed body is larger.
        MalformedRequest: The body is not valid gzip data.
    """
    coding = _coding(headers)
    if not coding:
        return body
    if coding not in _GZIP:
        raise UnsupportedEncoding("The Content-Encoding of the body is not supported; gzip is.")
    return b"".join(_inflated(memoryview(body), limit))


def _inflated(body: memoryview, limit: int) -> Iterator[bytes]:
    """Yield the content of a body of gzip members, in pieces."""
    left, members, inflate = limit, 0, None
    for start in range(0, len(body), _PIECE):
        piece: bytes | memoryview = body[start : start + _PIECE]
        while piece:
            if inflate is None:
                members, inflate = members + 1, zlib.decompressobj(_WINDOW)
            if members > MAX_MEMBERS:
                raise MalformedRequest(f"The body has more than {MAX_MEMBERS} gzip members.")
            try:
                part = inflate.decompress(piece, left + 1)
            except zlib.error:
                raise MalformedRequest("The body is not gzip data, but Content-Encoding is gzip.") from None
            left -= len(part)
            if left < 0:
                raise RequestTooLarge(f"The body is larger than max_body_bytes ({limit}) when decompressed.")
            yield part
            piece = inflate.unused_data
            if inflate.eof:
                inflate = None
    if inflate is not None:
        raise MalformedRequest("The body is incomplete: its gzip data has no end.")
