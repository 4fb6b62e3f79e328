"""The `Method` for API keys."""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from types import MappingProxyType
from typing import TYPE_CHECKING

from nexus_auth.credential_cache import VerifiedCredential
from nexus_auth.methods.api_keys import PREFIX, ApiKey, matches, parts_of
from nexus_auth.methods.method import Method
from nexus_auth.rejection import Rejected, Unavailable
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_auth.credentials import Credential
    from nexus_auth.methods.key_file import KeyFile
    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.25
"""Seconds between checks of the file, and for which an accepted key is cached: a revoked key is rejected, and what it
has opened ends, after twice that at the latest."""

UNREAD = (-1,)
"""A signature that no file has: the file is read at the next check, changed or not."""


class ApiKeyMethod(Method):
    """Verifies keys with a file, which is read again when it has changed.

    Args:
        file: The file.
        threads: Where it is read.
        clock: Returns monotonic seconds.
        now: Returns the seconds since the epoch.
    """

    name = "api_key"

    def __init__(
        self, file: KeyFile, threads: DaemonThreads, clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._file = file
        self._threads = threads
        self._clock = clock
        self._now = now
        self._keys: dict[str, ApiKey] = {}
        self._signature: tuple[int, ...] = ()
        self._checked_at = 0.0
        self._checking: asyncio.Task[None] | None = None
        self._error = ""

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`."""
        return credential.scheme == "apikey" or (credential.scheme == "bearer" and credential.token.startswith(PREFIX))

    async def verify(self, credential: Credential) -> VerifiedCredential:
        """See `Method.verify`."""
        await self._check()
        if self._error:
            raise Unavailable(self._error)
        key_id, secret = parts_of(credential.token)
        key = self._keys.get(key_id)
        if key is None or not matches(key, secret):
            raise Rejected("unknown API key")
        if (status := key.status(self._now())) != "active":
            raise Rejected(f"the API key {key.id} is {status}")
        return VerifiedCredential(_principal(key), CHECK_SECONDS, inf if key.expires_at is None else key.expires_at)

    async def open(self) -> None:
        """Read the file.

        Raises:
            ConfigurationError: It can't be read. A missing file is not an error: the first key creates it.
        """
        self._signature = self._file.signature()
        self._keys = {key.id: key for key in self._file.read()}
        self._checked_at = self._clock()
        if not self._keys:
            log.warning("%s contains no API keys yet. Create one with: nexus keys create", self._file.path)

    async def _check(self) -> None:
        """Check whether the file has changed, unless that was checked just now."""
        if self._clock() - self._checked_at < CHECK_SECONDS:
            return
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._read_if_changed(), name="nexus-auth-key-file")
        await asyncio.shield(self._checking)

    async def _read_if_changed(self) -> None:
        began = self._clock()
        try:
            await self._threads.call(self._read)
            self._error = ""
        except Exception as exc:
            if self._error != str(exc):
                log.error("API keys are rejected: %s", exc)
            self._error, self._signature = str(exc), UNREAD
        self._checked_at = began

    def _read(self) -> None:
        """Read the file if it has changed. Its signature is taken first: a later change is seen at the next check."""
        signature = self._file.signature()
        if signature != self._signature:
            self._keys = {key.id: key for key in self._file.read()}
            self._signature = signature


def _principal(key: ApiKey) -> Principal:
    claims = MappingProxyType({"key_id": key.id, "key_name": key.name})
    return Principal(key.user, frozenset(key.permissions), tenant_id=key.tenant, claims=claims)
