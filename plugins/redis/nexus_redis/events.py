"""`RedisEvents`: the events of all processes in one Redis stream, which numbers them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.events.shared_log import BEFORE_ALL
from nexus_redis.exchange import DedicatedConnection
from nexus_redis.scripts import APPEND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core.events.shared_log import Entry
    from nexus_redis.client import RedisClient

WAIT_SECONDS = 2.0
"""Seconds that one read waits for new events."""

KEEP_SECONDS = 86_400.0
"""Seconds for which the stream is kept after its last event, and a process' event number after its last one."""


class RedisEvents:
    """See `nexus_core.events.shared_log.EventTransport`.

    Args:
        client: The client.
        kept: Approximate maximum length of the stream.
    """

    name = "redis"

    def __init__(self, client: RedisClient, kept: int) -> None:
        self._client = client
        self._kept = kept
        self._reader = DedicatedConnection()
        self._stream = f"{client.prefix}events".encode()

    async def append(self, origin: str, first: int, texts: Sequence[bytes]) -> None:
        """See `EventTransport.append`."""
        sent = self._stream + b":sent:" + origin.encode()
        await self._client.run(APPEND, self._stream, sent, first, self._kept, round(KEEP_SECONDS * 1000), *texts)

    async def latest(self) -> str:
        """See `EventTransport.latest`."""
        entries = _entries(await self._client.execute("XREVRANGE", self._stream, "+", "-", "COUNT", 1))
        return entries[0][0] if entries else BEFORE_ALL

    async def has_all_after(self, event_id: str) -> bool:
        """See `EventTransport.has_all_after`. An event that still exists is followed by all later ones."""
        if event_id != BEFORE_ALL:
            return bool(await self._client.execute("XRANGE", self._stream, event_id, event_id, "COUNT", 1))
        if not await self._client.execute("EXISTS", self._stream):
            return True
        facts = await self._client.execute("XINFO", "STREAM", self._stream)
        info = dict(zip(facts[::2], facts[1::2], strict=True))
        return bool(info[b"entries-added"] == info[b"length"])

    async def between(self, after: str, to: str, limit: int) -> Sequence[Entry]:
        """See `EventTransport.between`."""
        return _entries(await self._client.execute("XRANGE", self._stream, f"({after}", to, "COUNT", limit))

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        """See `EventTransport.read`."""
        block = ("COUNT", limit, "BLOCK", round(WAIT_SECONDS * 1000))
        command = ("XREAD", *block, "STREAMS", self._stream, after)
        streams = await self._client.wait_for(self._reader, WAIT_SECONDS, *command)
        return _entries(streams[0][1]) if streams else ()


def _entries(reply: Any) -> list[Entry]:
    """Return the entries of a reply. Entries of other programs keep their id, with an empty text."""
    return [(event_id.decode(), _text(fields or ())) for event_id, fields in reply]


def _text(fields: Sequence[bytes]) -> bytes:
    return fields[1] if len(fields) == 2 and fields[0] == b"e" else b""
