"""The `Method` of callers who bring an API key."""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from nexus_auth.api_keys import PREFIX, ApiKey, is_of, parts_of
from nexus_auth.known import Verified
from nexus_auth.refusal import Refused, Unavailable
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_auth.credentials import Credential
    from nexus_auth.key_file import KeyFile
    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25
"""How old what is known of the file may be, and how long an accepted key is taken for granted: a key that is revoked
is refused, and what it has opened ends, after twice that at the latest."""

UNREAD = (-1,)
"""No file's signature: the file is to be read, changed or not."""


class ApiKeyMethod:
    """Looks keys up in a file, which is read again when it has changed.

    Args:
        file: The file.
        threads: Where it is read.
        clock: Returns the time in seconds, which never goes back.
    """

    name = "api_key"

    def __init__(self, file: KeyFile, threads: DaemonThreads, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._threads = threads
        self._clock = clock
        self._keys: dict[str, ApiKey] = {}
        self._signature: tuple[int, ...] = ()
        self._looked_at = 0.0
        self._looking: asyncio.Task[None] | None = None
        self._flaw = ""

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`."""
        return credential.scheme == "apikey" or (credential.scheme == "bearer" and credential.token.startswith(PREFIX))

    async def verify(self, credential: Credential) -> Verified:
        """See `Method.verify`."""
        await self._look()
        if self._flaw:
            raise Unavailable(self._flaw)
        key_id, secret = parts_of(credential.token)
        key = self._keys.get(key_id)
        if key is None or not is_of(key, secret):
            raise Refused("there is no such API key")
        if (status := key.status(time.time())) != "active":
            raise Refused(f"the API key {key.id} is {status}")
        return Verified(_principal(key), LOOK_SECONDS, inf if key.expires_at is None else key.expires_at)

    async def open(self) -> None:
        """Read the file.

        Raises:
            ConfigurationError: It can't be read. That there is none is no error: the first key makes it.
        """
        self._signature = self._file.signature()
        self._keys = {key.id: key for key in self._file.read()}
        self._looked_at = self._clock()
        if not self._keys:
            log.warning("There are no API keys in %s yet: nexus keys create", self._file.path)

    async def close(self) -> None:
        """See `Method.close`."""

    async def _look(self) -> None:
        """Look whether the file has changed, unless somebody has just done so."""
        if self._clock() - self._looked_at < LOOK_SECONDS:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._looked(), name="nexus-auth-key-file")
        await asyncio.shield(self._looking)

    async def _looked(self) -> None:
        began = self._clock()
        try:
            await self._threads.call(self._read)
            self._flaw = ""
        except Exception as exc:
            if self._flaw != str(exc):
                log.error("Nobody is let in by API key: %s", exc)
            self._flaw, self._signature = str(exc), UNREAD
        self._looked_at = began

    def _read(self) -> None:
        """Read the file if it has changed. Its signature is taken before: a later change is seen the next time."""
        signature = self._file.signature()
        if signature != self._signature:
            self._keys = {key.id: key for key in self._file.read()}
            self._signature = signature


def _principal(key: ApiKey) -> Principal:
    claims = MappingProxyType({"key_id": key.id, "key_name": key.name})
    return Principal(key.user, frozenset(key.permissions), tenant_id=key.tenant, claims=claims)
