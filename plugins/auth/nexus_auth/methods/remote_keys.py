"""`RemoteKeys`: the public keys of an issuer, cached, and fetched again when they may have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_auth.methods.keyring import Keyring, KeySource, members_of
from nexus_auth.oauth.json_client import PAUSE_SECONDS
from nexus_auth.rejection import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_auth.methods.keyring import VerificationKey
    from nexus_auth.oauth.issuer import Issuer
    from nexus_auth.oauth.json_client import JsonClient

log = logging.getLogger(__name__)


class RemoteKeys(KeySource):
    """A `KeySource` of an issuer's key set.

    Keys older than ``ttl`` are used while newer ones are fetched, and while the issuer is unavailable. However many
    tokens name an unknown key, the keys are fetched at most once in ``cooldown`` seconds.

    Args:
        http: The HTTP client.
        jwks_url: URL of the keys; None for the one in the issuer's metadata.
        issuer: The issuer, if its metadata are used.
        changed: Called when the keys have changed: what was accepted with the old ones must be verified again.
        ttl: Seconds after which the keys are fetched again.
        cooldown: Minimum seconds between two fetches for an unknown key.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self, http: JsonClient, jwks_url: str | None, issuer: Issuer | None, changed: Callable[[], object], *,
        ttl: float = 300.0, cooldown: float = 30.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._http = http
        self._jwks_url = jwks_url
        self._issuer = issuer
        self._changed = changed
        self._ttl = ttl
        self._cooldown = cooldown
        self._clock = clock
        self._ring: Keyring | None = None
        self._due_at = 0.0
        self._missed_at: float | None = None
        self._failed_at: float | None = None
        self._error = ""
        self._fetching: asyncio.Task[Keyring] | None = None

    async def open(self) -> None:
        """Start fetching the keys, so that the first call need not wait."""
        self._fetch()

    async def close(self) -> None:
        """Stop fetching."""
        task, self._fetching = self._fetching, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def current(self) -> Keyring:
        """See `KeySource.current`."""
        now = self._clock()
        if self._ring is None:
            if self._fetching is None and self._failed_at is not None and now - self._failed_at < PAUSE_SECONDS:
                raise Unavailable(f"fetching the keys failed a moment ago: {self._error}")
            return await asyncio.shield(self._fetch())
        if now >= self._due_at:
            self._due_at = now + self._ttl  # also if it fails, the next fetch is due one ttl later
            self._fetch()
        return self._ring

    async def newer(self, than: Keyring) -> Keyring | None:
        """See `KeySource.newer`."""
        if self._ring is not than:
            return self._ring
        if self._fetching is None:
            now = self._clock()
            if self._missed_at is not None and now - self._missed_at < self._cooldown:
                return None
            self._missed_at = now
        try:
            return await asyncio.shield(self._fetch())
        except Unavailable:
            return None

    async def check(self) -> dict[str, int]:
        """Return the number of keys, if the last fetch succeeded.

        Raises:
            Unavailable: It failed, or no key is usable.
        """
        ring = await self.current()
        if self._error:
            raise Unavailable(f"{self._error}; the previous keys are used")
        if not ring.members:
            raise Unavailable("the issuer has no usable key: its tokens are rejected")
        return {"keys": len(ring.members)}

    def seconds(self) -> float:
        """See `KeySource.seconds`: until they are fetched again."""
        return self._due_at - self._clock()

    def _fetch(self) -> asyncio.Task[Keyring]:
        """Return the task that fetches the keys; there is one at a time."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetched(), name="nexus-auth-keys")
            self._fetching.add_done_callback(self._finished)
        return self._fetching

    def _finished(self, task: asyncio.Task[Keyring]) -> None:
        if self._fetching is task:
            self._fetching = None
        if task.cancelled():
            return
        exc = task.exception()
        self._error = "" if exc is None else str(exc) or type(exc).__name__
        if exc is not None:  # those who wait get it; the HTTP client logs it
            self._failed_at = self._clock()

    async def _fetched(self) -> Keyring:
        url, name = self._jwks_url, None
        if self._issuer is not None:
            metadata = await self._issuer.metadata()
            name = metadata["issuer"]
            url = url or self._issuer.address(metadata, "jwks_uri")
        assert url is not None
        before, self._ring = self._ring, Keyring(_members(await self._http.get(url), url), name)
        self._due_at = self._clock() + self._ttl
        if before is not None and before != self._ring:
            self._changed()
        return self._ring


def _members(found: Any, url: str) -> list[VerificationKey]:
    """Return the keys of a response. An empty set counts: keys that signed before are withdrawn."""
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list):
        raise Unavailable(f"{url} is not a key set")
    members = members_of(keys)
    if not members:
        log.warning("%s has no usable key: the tokens of this issuer are rejected", url)
    return members
