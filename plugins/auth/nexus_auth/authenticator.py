"""`Authenticator`: the stage of the pipeline that authenticates callers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nexus_auth.credentials import authorization_of, read
from nexus_auth.rejection import NOT_VALID, Rejected, Unavailable, provider_unavailable
from nexus_core.errors import AuthenticationError
from nexus_core.pipeline.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from nexus_auth.challenge import Challenges
    from nexus_auth.credential_cache import CacheEntry, CredentialCache, VerifiedCredential
    from nexus_auth.credentials import CookieReader
    from nexus_auth.methods.method import Method
    from nexus_core.pipeline.stage import AnyCaller, CallNext
    from nexus_core.types.result import Result

log = logging.getLogger(__name__)

CREDENTIAL_NEEDED = (
    "A credential is required: Authorization: Bearer TOKEN (on the command line --token, or NEXUS_TOKEN)."
)
DEFAULT_CHALLENGE = AuthenticationError("").challenge

SPARE_SECONDS = 1.0
"""Seconds that a method gets beyond ``auth_timeout``, within which it should have given up itself."""


class Authenticator:
    """Sets the principal of each invocation, or rejects the invocation.

    A credential in the cache costs one dictionary look-up. An invocation that has a principal already passes: only
    code of this process can set one.

    Args:
        cache: Credentials that were accepted.
        timeout: Seconds that a method gets for one credential.
        challenges: The ``WWW-Authenticate`` header of each channel.
        read_cookie: Reads the cookie of the browser login, where that is on.
    """

    stage = Stage.AUTHENTICATE

    def __init__(
        self, cache: CredentialCache, timeout: float, challenges: Challenges, read_cookie: CookieReader | None = None
    ) -> None:
        self._cache = cache
        self._timeout = timeout
        self._challenges = challenges
        self._read_cookie = read_cookie
        self._methods: Sequence[Method] = ()

    async def open(self, methods: Sequence[Method]) -> None:
        """Use these methods, in this order, after opening them.

        Raises:
            ConfigurationError: One of them can't be used.
        """
        self._methods = methods
        for method in methods:
            await method.open()

    async def close(self) -> None:
        """Close the methods."""
        for method in self._methods:
            await method.close()

    def __call__(self, caller: AnyCaller, call_next: CallNext[AnyCaller]) -> Awaitable[Result]:
        """Pass the caller on with its principal, or reject it."""
        if caller.principal is None:
            authorization = authorization_of(caller, self._read_cookie)
            entry = None if authorization is None else self._cache.get(authorization)
            if entry is None:
                return self._authenticated(caller, authorization, call_next)
            caller.principal, caller.validity, _ = entry
        return call_next(caller)

    async def _authenticated(
        self, caller: AnyCaller, authorization: str | None, call_next: CallNext[AnyCaller]
    ) -> Result:
        entry = await self._authenticate(authorization, caller.channel)
        caller.principal, caller.validity, _ = entry
        return await call_next(caller)

    async def _authenticate(self, authorization: str | None, channel: str) -> CacheEntry:
        """Return the entry of a credential that was not in the cache.

        Raises:
            AuthenticationError: There is no credential, or it is not valid.
            BackendUnavailable: It can't be verified now.
        """
        if authorization is None:
            raise AuthenticationError(CREDENTIAL_NEEDED, challenge=self._challenges.missing(channel))
        try:
            _, verified = await self.verify(authorization)
        except Rejected as exc:
            log.debug("A credential is rejected: %s", exc)
            raise AuthenticationError(NOT_VALID, challenge=self._challenges.invalid(channel)) from None
        except AuthenticationError as exc:  # raised by the application's own provider
            if exc.challenge == DEFAULT_CHALLENGE or not exc.challenge.isprintable():
                exc.challenge = self._challenges.invalid(channel)
            raise
        except Unavailable as exc:
            log.debug("A credential can't be verified: %s", exc)
            raise provider_unavailable() from None
        return self._cache.add(authorization, verified)

    async def verify(self, authorization: str) -> tuple[str, VerifiedCredential]:
        """Return the name of the first method that accepts a credential, and its result. The cache is not used.

        Raises:
            Rejected: The credential is not valid.
            Unavailable: It can't be verified now.
            NexusError: The application's own provider raised it.
        """
        credential = read(authorization)
        unavailable: Unavailable | None = None
        reasons: list[str] = []
        for method in self._methods:
            if not method.takes(credential):
                continue
            try:
                async with asyncio.timeout(self._timeout + SPARE_SECONDS):
                    return method.name, await method.verify(credential)
            except Rejected as exc:
                reasons.append(f"{method.name}: {exc}")
            except Unavailable as exc:
                unavailable = exc
            except TimeoutError:
                unavailable = Unavailable(f"{method.name}: no response in time")
        if unavailable is not None:
            raise unavailable
        raise Rejected("; ".join(reasons) or "no authentication method takes a credential of this form")
