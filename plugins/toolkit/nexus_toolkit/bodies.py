"""A request's body: read once it is known who has sent it, and decompressed within `max_body_bytes`."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, TypeVar

from nexus_core.errors import MalformedRequest, RequestTooLarge, UnsupportedEncoding, ValidationError
from nexus_core.server.asgi import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nexus_core import Platform
    from nexus_core.pipeline.invocation import Invocation
    from nexus_core.server.channel import Receive

SMALL = 16 * 1024
"""Bytes up to which a body is read first: that costs less than to authenticate its caller twice."""

_GZIP = (b"gzip", b"x-gzip")
_WINDOW = 31
"""zlib's name for: a gzip header and the largest window."""

MAX_MEMBERS = 1000
"""Members that a gzip body may have one after the other: an empty one has 20 bytes, and costs as much as a call."""

_PIECE = 64 * 1024
"""Compressed bytes that are read at once: zlib copies what it has been given of the next member."""

Parsed = TypeVar("Parsed")


async def read_parsed(
    platform: Platform, caller: Invocation, receive: Receive, parse: Callable[[bytes], Parsed]
) -> Parsed | None:
    """Return what a request's body says, or None when the caller has left.

    A caller is authenticated before a body is read that is large, compressed or of unknown length, and before it is
    told what is wrong with another: reading costs an unknown caller's request next to nothing, and a wrong credential
    counts as one whatever the body holds.

    Args:
        platform: Authenticates the caller.
        caller: An `Invocation` with what the channel knows of the caller, its headers among that.
        receive: The request's.
        parse: Reads the body, or raises `MalformedRequest`.

    Raises:
        AuthenticationError: The credentials are missing or wrong.
        MalformedRequest, RequestTooLarge: The body can't be read.
        UnsupportedEncoding: It is encoded otherwise than with gzip.
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
    """Return a body as it was before its Content-Encoding (RFC 9110, section 8.4).

    Args:
        body: The body.
        headers: Its request's.
        limit: Bytes that it may have.

    Raises:
        UnsupportedEncoding: It is not gzip.
        RequestTooLarge: It would be larger.
        MalformedRequest: It is not what the header says.
    """
    coding = _coding(headers)
    if not coding:
        return body
    if coding not in _GZIP:
        raise UnsupportedEncoding("Bodies are read as they are, or with Content-Encoding: gzip.")
    return b"".join(_inflated(memoryview(body), limit))


def _inflated(body: memoryview, limit: int) -> Iterator[bytes]:
    """Yield what is in a body of gzip members, in pieces."""
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
                raise MalformedRequest("The body is not gzip, although Content-Encoding says so.") from None
            left -= len(part)
            if left < 0:
                raise RequestTooLarge(f"The body is larger than max_body_bytes ({limit}) when decompressed.")
            yield part
            piece = inflate.unused_data
            if inflate.eof:
                inflate = None
    if inflate is not None:
        raise MalformedRequest("The body is cut short: its gzip data has no end.")
