"""`KnownCredentials`: remembers who sent which credential, so that it need not be checked for each call."""

from __future__ import annotations

import time
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from nexus_auth.credentials import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.invocation import Principal


class Verified(NamedTuple):
    """Who sent a credential.

    Attributes:
        principal: Who.
        seconds: For how long that may be taken for granted. 0 for this once.
        expires_at: When the credential itself ends, in seconds since the epoch.
    """

    principal: Principal
    seconds: float = inf
    expires_at: float = inf


class KnownCredentials:
    """Principals by the hash of their credential: the credentials themselves are not kept.

    Only credentials that were accepted are here: nobody can fill it with made-up ones.

    Args:
        limit: How many. The oldest make room.
        clock: Returns the time in seconds, which never goes back.
        now: Returns the seconds since the epoch.
    """

    def __init__(
        self,
        limit: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._now = now
        self._entries: dict[bytes, tuple[Principal, float, float]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, authorization: str) -> Principal | None:
        """Return who is known to have sent this, or None."""
        if len(authorization) > MAX_BYTES:
            return None
        entry = self._entries.get(_key(authorization))
        # Two clocks: an expiry is a date, which a machine that has slept or set its clock must not miss.
        return entry[0] if entry is not None and self._clock() < entry[1] and self._now() < entry[2] else None

    def add(self, authorization: str, verified: Verified) -> None:
        """Remember who sent this, for as long as may be."""
        principal, seconds, expires_at = verified
        if seconds <= 0:
            return
        key = _key(authorization)
        self._entries.pop(key, None)  # its place is at the end
        self._entries[key] = (principal, self._clock() + seconds, expires_at)
        while len(self._entries) > self._limit:
            del self._entries[next(iter(self._entries))]

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()


def _key(authorization: str) -> bytes:
    return sha256(authorization.encode("utf-8", "surrogatepass")).digest()
