"""`RemoteKeys`: the public keys of an issuer, kept, and asked for again when they may have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_auth.keyring import Keyring, members_of
from nexus_auth.refusal import Unavailable
from nexus_auth.web import PAUSE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_auth.issuer import Issuer
    from nexus_auth.keyring import Member
    from nexus_auth.web import Web

log = logging.getLogger(__name__)


class RemoteKeys:
    """A `KeySource` of an issuer's key set.

    Keys that are older than ``ttl`` go on being used while newer ones are asked for, and for as long as the issuer
    does not answer. However many tokens name a key that is not there, it is asked for once in ``cooldown`` seconds,
    by all of them together.

    Args:
        web: Who asks.
        jwks_url: Where the keys are; None for where the issuer says.
        issuer: The issuer, if it shall be asked where the keys are and what it is called.
        changed: Called when there are other keys than before: what was accepted with those must be checked again.
        ttl: Seconds after which the keys are asked for again.
        cooldown: Seconds between two asks for a key that is not there.
        clock: Returns the time in seconds, which never goes back.
    """

    def __init__(
        self, web: Web, jwks_url: str | None, issuer: Issuer | None, changed: Callable[[], object], *,
        ttl: float = 300.0, cooldown: float = 30.0, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._web = web
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
        self._trouble = ""
        self._asking: asyncio.Task[Keyring] | None = None

    async def open(self) -> None:
        """Ask for the keys, so that the first caller need not wait. Nobody waits for the answer."""
        self._ask()

    async def close(self) -> None:
        """Stop asking."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait({asking})

    async def current(self) -> Keyring:
        """See `KeySource.current`."""
        now = self._clock()
        if self._ring is None:
            if self._asking is None and self._failed_at is not None and now - self._failed_at < PAUSE_SECONDS:
                raise Unavailable(f"the keys could not be had a moment ago: {self._trouble}")
            return await asyncio.shield(self._ask())
        if now >= self._due_at:
            self._due_at = now + self._ttl  # whatever comes of it, the next ask is due one ttl later
            self._ask()
        return self._ring

    async def newer(self, than: Keyring) -> Keyring | None:
        """See `KeySource.newer`."""
        if self._ring is not than:
            return self._ring
        if self._asking is None:
            now = self._clock()
            if self._missed_at is not None and now - self._missed_at < self._cooldown:
                return None
            self._missed_at = now
        try:
            return await asyncio.shield(self._ask())
        except Unavailable:
            return None

    async def check(self) -> dict[str, int]:
        """Look whether the issuer gave its keys when it was asked last, and return how many.

        Raises:
            Unavailable: It did not, or they are of no use.
        """
        ring = await self.current()
        if self._trouble:
            raise Unavailable(f"{self._trouble}; the keys from before are used")
        if not ring.members:
            raise Unavailable("the issuer gives no key that can be used: nobody is let in")
        return {"keys": len(ring.members)}

    def seconds(self) -> float:
        """See `KeySource.seconds`: until they are asked for again."""
        return self._due_at - self._clock()

    def _ask(self) -> asyncio.Task[Keyring]:
        """Return the task that asks; there is one at a time."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._fetched(), name="nexus-auth-keys")
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[Keyring]) -> None:
        if self._asking is task:
            self._asking = None
        if task.cancelled():
            return
        exc = task.exception()
        self._trouble = "" if exc is None else str(exc) or type(exc).__name__
        if exc is not None:  # those who wait have it; the log has it too
            self._failed_at = self._clock()

    async def _fetched(self) -> Keyring:
        url, name = self._jwks_url, None
        if self._issuer is not None:
            metadata = await self._issuer.metadata()
            name = metadata["issuer"]
            url = url or self._issuer.address(metadata, "jwks_uri")
        assert url is not None
        before, self._ring = self._ring, Keyring(_members(await self._web.get(url), url), name)
        self._due_at = self._clock() + self._ttl
        if before is not None and before != self._ring:
            self._changed()
        return self._ring


def _members(found: Any, url: str) -> list[Member]:
    """Return the keys of an answer. None at all is an answer too: whoever signed before may do so no longer."""
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list):
        raise Unavailable(f"{url} gives no key set")
    members = members_of(keys)
    if not members:
        log.warning("%s has no key that can be used: nobody is let in", url)
    return members
