"""The value under a cache key: a result, or the lease of the process that works on it. It is JSON, never pickled."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

import msgspec

from nexus_core import Result

if TYPE_CHECKING:
    from collections.abc import Callable


class CachedResult(msgspec.Struct, tag_field="nexus_cache", tag="result.1"):
    """A result.

    Attributes:
        created: Time of caching, in seconds since the epoch.
        run_id: The run that produced it.
        duration: Seconds that the run took.
        check: CRC-32 of key and result, which detects damaged entries and entries of other keys.
        result: The value as JSON text.
    """

    created: float
    run_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    duration: float
    check: int
    result: msgspec.Raw

    def is_fresh(self, ttl: float) -> bool:
        """Whether it is younger than ``ttl`` seconds; the store may keep it longer."""
        return time.time() - self.created < ttl

    def to_result(self) -> Result:
        """Return the result of a call."""
        return Result(bytes(self.result), self.run_id, self.duration, cached=True)


class ResultLease(msgspec.Struct, tag_field="nexus_cache", tag="lease.1"):
    """Marks a result that a process is working on. It is renewed until the work ends.

    Attributes:
        owner: Unique id of the call that works on it.
        beat: Number of renewals.
    """

    owner: str
    beat: int = 0


encode: Callable[[CachedResult | ResultLease], bytes] = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CachedResult | ResultLease).decode


def encode_result(key: str, result: Result) -> bytes:
    """Return the entry for a result under a key."""
    entry = CachedResult(
        time.time(), result.run_id, result.duration, _check(key, result.json), msgspec.Raw(result.json)
    )
    return encode(entry)


def decode(key: str, text: bytes) -> CachedResult | ResultLease | None:
    """Return the entry under a key; None for a value that this program did not write there."""
    try:
        entry: CachedResult | ResultLease = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(entry, CachedResult) and entry.check != _check(key, entry.result):
        return None
    return entry


def _check(key: str, result: bytes | msgspec.Raw) -> int:
    return crc32(result, crc32(key.encode()))
