"""`CredentialCache`: remembers whose a verified credential is, so that it is not verified again for each call."""

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


class VerifiedCredential(NamedTuple):
    """The result of verifying a credential.

    Attributes:
        principal: Whose it is.
        seconds: Seconds for which the result may be cached; 0 for not at all.
        expires_at: When the credential itself expires, in seconds since the epoch.
        leeway: Seconds for which it is accepted after that, because clocks may differ.
    """

    principal: Principal
    seconds: float = inf
    expires_at: float = inf
    leeway: float = 0.0


class CacheEntry(NamedTuple):
    """A credential that was accepted.

    Attributes:
        principal: Whose it is.
        validity: How long the credential is valid.
        until: When it must be verified again, on the cache's clock.
    """

    principal: Principal
    validity: Validity
    until: float


class CredentialCache:
    """Principals by the SHA-256 hash of their credential; the credentials themselves are not stored.

    Only accepted credentials are stored: invalid ones can't fill the cache.

    Args:
        limit: Maximum number of entries; the oldest are evicted.
        clock: Returns monotonic seconds.
        now: Returns the seconds since the epoch.
        recheck: Called with the key of a credential that is removed, or with nothing when all are: what callers have
            open with it is to be verified again.
    """

    def __init__(
        self,
        limit: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        recheck: Callable[..., object] = lambda key=None: None,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._now = now
        self._recheck = recheck
        self._entries: dict[bytes, CacheEntry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, authorization: str) -> CacheEntry | None:
        """Return the entry of a credential, or None."""
        if len(authorization) > MAX_BYTES:
            return None
        entry = self._entries.get(key_of(authorization))
        # Two clocks: an expiry is a date, which a machine that has slept or set its clock must not miss.
        if entry is not None and self._clock() < entry.until and self._now() < entry.validity.refused_at:
            return entry
        return None

    def add(self, authorization: str, verified: VerifiedCredential) -> CacheEntry:
        """Store a verified credential for as long as allowed, and return its entry."""
        principal, seconds, expires_at, leeway = verified
        key, now = key_of(authorization), self._clock()
        # Open streams: a credential that may not be cached is verified every CHECK_SECONDS.
        check_at = now + (seconds if seconds > 0 else CHECK_SECONDS)
        entry = CacheEntry(principal, Validity(expires_at, expires_at + leeway, check_at, key), now + seconds)
        if seconds > 0:
            self._entries.pop(key, None)  # its place is at the end
            self._entries[key] = entry
            while len(self._entries) > self._limit:
                del self._entries[next(iter(self._entries))]
        return entry

    def forget(self, authorization: str) -> None:
        """Remove a credential that is no longer valid."""
        key = key_of(authorization)
        self._entries.pop(key, None)
        self._recheck(key)

    def clear(self) -> None:
        """Remove every credential: the keys that they were verified with have changed."""
        self._entries.clear()
        self._recheck()


def key_of(authorization: str) -> bytes:
    """Return the key of a credential in the cache: its hash."""
    return sha256(authorization.encode("utf-8", "surrogatepass")).digest()
