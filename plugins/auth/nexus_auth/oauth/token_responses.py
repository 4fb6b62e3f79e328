"""Bounds for the responses of token endpoints, which authlib's client reads whatever their size. Imports httpx2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from nexus_auth.oauth.json_client import MAX_BYTES
from nexus_auth.rejection import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVER_ERROR = 500


async def bound(response: httpx2.Response) -> None:
    """Bound the body by `MAX_BYTES`: an event hook of the client, called before the body is read.

    Raises:
        Unavailable: It is a redirect or a server error.
    """
    if response.is_redirect or response.status_code >= SERVER_ERROR:
        raise Unavailable(f"status {response.status_code}")
    response.headers.pop("content-encoding", None)  # not requested; a small body could decompress to a large one
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    response.stream = _Bounded(response.stream)


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > MAX_BYTES:
                raise Unavailable(f"the response has more than {MAX_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
