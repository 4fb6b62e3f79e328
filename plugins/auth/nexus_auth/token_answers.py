"""What may come back from a token endpoint, which authlib's client would read whatever its size. Imports httpx2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from nexus_auth.refusal import Unavailable
from nexus_auth.web import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SERVER_ERROR = 500


async def bound(response: httpx2.Response) -> None:
    """Let no more be read than `MAX_BYTES`, as it comes: a hook of the client, called before the body is read.

    Raises:
        Unavailable: It is not the answer of a token endpoint at all.
    """
    if response.is_redirect or response.status_code >= SERVER_ERROR:
        raise Unavailable(f"it answered {response.status_code}")
    response.headers.pop("content-encoding", None)  # nobody has asked for it, and little could become much
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
                raise Unavailable(f"the answer has more than {MAX_BYTES} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
