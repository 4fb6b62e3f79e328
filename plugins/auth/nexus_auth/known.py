"""`KnownCredentials`: remembers who sent which credential, so that it need not be checked for each call."""

from __future__ import annotations

import time
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from nexus_auth.credentials import MAX_BYTES
from nexus_core.pipeline.credentials import CHECK_SECONDS
from nexus_core.types.principal import Validity

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.types.principal import Principal


class Verified(NamedTuple):
    """Who sent a credential.

    Attributes:
        principal: Who.
        seconds: For how long that may be taken for granted. 0 for this once.
        expires_at: When the credential itself ends, in seconds since the epoch.
        leeway: Seconds for which it is accepted after that, because clocks may differ.
    """

    principal: Principal
    seconds: float = inf
    expires_at: float = inf
    leeway: float = 0.0


class Accepted(NamedTuple):
    """What is remembered of a credential.

    Attributes:
        principal: Who sent it.
        validity: For how long it is good.
        until: When it has to be checked again, for each call.
    """

    principal: Principal
    validity: Validity
    until: float


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
        self._entries: dict[bytes, Accepted] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, authorization: str) -> Accepted | None:
        """Return who is known to have sent this, or None."""
        if len(authorization) > MAX_BYTES:
            return None
        entry = self._entries.get(key_of(authorization))
        # Two clocks: an expiry is a date, which a machine that has slept or set its clock must not miss.
        if entry is not None and self._clock() < entry.until and self._now() < entry.validity.refused_at:
            return entry
        return None

    def add(self, authorization: str, verified: Verified) -> Accepted:
        """Remember who sent this, for as long as may be."""
        principal, seconds, expires_at, leeway = verified
        key, now = key_of(authorization), self._clock()
        # What is checked for each call is checked now and then for a stream.
        check_at = now + (seconds if seconds > 0 else CHECK_SECONDS)
        accepted = Accepted(principal, Validity(expires_at, expires_at + leeway, check_at, key), now + seconds)
        if seconds > 0:
            self._entries.pop(key, None)  # its place is at the end
            self._entries[key] = accepted
            while len(self._entries) > self._limit:
                del self._entries[next(iter(self._entries))]
        return accepted

    def forget(self, authorization: str) -> None:
        """Forget who sent this."""
        self._entries.pop(key_of(authorization), None)

    def clear(self) -> None:
        """Forget everybody."""
        self._entries.clear()


def key_of(authorization: str) -> bytes:
    """Return what a credential is known by."""
    return sha256(authorization.encode("utf-8", "surrogatepass")).digest()
