"""What is kept under a key: a result, or the claim of whoever works on it. It is JSON, and nothing else is read."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated
from zlib import crc32

import msgspec

from nexus_core import Result

if TYPE_CHECKING:
    from collections.abc import Callable


class Kept(msgspec.Struct, tag_field="nexus_cache", tag="result.1"):
    """A result.

    Attributes:
        created: When it was kept, in seconds since the epoch.
        run_id: The run that gave it.
        duration: Seconds that run took.
        check: The CRC-32 of key and result: neither a damaged entry nor one of another key is taken for this one's.
        result: The value as JSON text.
    """

    created: float
    run_id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
    duration: float
    check: int
    result: msgspec.Raw

    def is_fresh(self, ttl: float) -> bool:
        """Whether it is younger than so many seconds; the store may keep it longer."""
        return time.time() - self.created < ttl

    def to_result(self) -> Result:
        """Return it as the answer to a call."""
        return Result(bytes(self.result), self.run_id, self.duration, cached=True)


class Claim(msgspec.Struct, tag_field="nexus_cache", tag="claim.1"):
    """Says that a process works on the result. Its beat goes up as long as it does.

    Attributes:
        owner: Who: unique to one call.
        beat: How often it has been renewed.
    """

    owner: str
    beat: int = 0


encode: Callable[[Kept | Claim], bytes] = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept | Claim).decode


def keep(key: str, result: Result) -> bytes:
    """Return the text of a result, to be kept under a key."""
    kept = Kept(time.time(), result.run_id, result.duration, _check(key, result.json), msgspec.Raw(result.json))
    return encode(kept)


def decode(key: str, text: bytes) -> Kept | Claim | None:
    """Return what is kept under a key; None for what this program did not write there."""
    try:
        entry: Kept | Claim = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(entry, Kept) and entry.check != _check(key, entry.result):
        return None
    return entry


def _check(key: str, result: bytes | msgspec.Raw) -> int:
    return crc32(result, crc32(key.encode()))
