"""`RemoteKeys`: the public keys of an issuer, kept, and asked for again when they may have changed."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from nexus_auth.keyring import Keyring, members_of
from nexus_auth.refusal import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_auth.issuer import Issuer
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
        ttl: Seconds after which the keys are asked for again.
        cooldown: Seconds between two asks for a key that is not there.
        clock: Returns the time in seconds, which never goes back.
    """

    def __init__(
        self, web: Web, jwks_url: str | None, issuer: Issuer | None, *, ttl: float = 300.0, cooldown: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._web = web
        self._jwks_url = jwks_url
        self._issuer = issuer
        self._ttl = ttl
        self._cooldown = cooldown
        self._clock = clock
        self._ring: Keyring | None = None
        self._asked_at = 0.0
        self._missed_at: float | None = None
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
        ring = self._ring
        if ring is None:
            return await asyncio.shield(self._ask())
        if self._clock() - self._asked_at > self._ttl:
            self._asked_at = self._clock()  # whatever comes of it, the next ask is due one ttl later
            self._ask()
        return ring

    async def newer(self, than: Keyring) -> Keyring | None:
        """See `KeySource.newer`."""
        if self._ring is not None and self._ring is not than:
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

    def _ask(self) -> asyncio.Task[Keyring]:
        """Return the task that asks; there is one at a time."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._fetched(), name="nexus-auth-keys")
            self._asking.add_done_callback(self._asked)
        return self._asking

    def _asked(self, task: asyncio.Task[Keyring]) -> None:
        if self._asking is task:
            self._asking = None
        if not task.cancelled():
            task.exception()  # those who wait have it; the log has it too

    async def _fetched(self) -> Keyring:
        url, name = self._jwks_url, None
        if self._issuer is not None:
            metadata = await self._issuer.metadata()
            name = metadata["issuer"]
            url = url or self._issuer.address(metadata, "jwks_uri")
        assert url is not None
        members = members_of(_keys(await self._web.get(url)))
        if not members:
            log.warning("%s has no key that can be used", url)
            raise Unavailable(f"{url} has no key that can be used")
        self._asked_at = self._clock()
        self._ring = Keyring(members, name)
        return self._ring


def _keys(found: Any) -> Any:
    return found.get("keys") if isinstance(found, dict) else None
