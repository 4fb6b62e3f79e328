"""The `Method` for the application's own provider, whose methods can neither block nor hang the platform."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any

from nexus_auth.credential_cache import VerifiedCredential
from nexus_auth.methods.method import Method
from nexus_auth.principals import principal_of_user
from nexus_auth.rejection import Rejected, Unavailable
from nexus_core.concurrency.guarded import GuardedCaller, TimeLimitPassed, TooManyCalls
from nexus_core.errors import ConfigurationError, NexusError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_auth.credentials import Credential
    from nexus_auth.methods.keyring import KeySource
    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)

_FAR = 2.0**53
"""Later than any date."""

MAX_CALLS = 100
"""Maximum calls of a provider that have not returned: one that hangs must not use up all threads."""


class GuardedCalls:
    """Calls a provider's functions: one that raises, or does not return in time, rejects the credential.

    Args:
        threads: Where sync functions are called.
        seconds: The time limit.
    """

    def __init__(self, threads: DaemonThreads, seconds: float) -> None:
        self._caller = GuardedCaller(threads, seconds, MAX_CALLS, waits=False, counts_async=True)

    async def __call__(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Return the result of a function.

        Raises:
            Rejected: It raised, or did not return in time.
            Unavailable: Too many calls have not returned.
            NexusError: It raised this.
        """
        try:
            return await self._caller.call(function, *args)
        except NexusError:
            raise
        except TooManyCalls:
            log.error("%s: %d calls have not returned; further calls are rejected", _name(function), MAX_CALLS)
            raise Unavailable("too many calls have not returned") from None
        except TimeLimitPassed as exc:
            log.error("%s did not return within %g s", _name(function), exc.seconds)
            raise Rejected("no return in time") from None
        except Exception as exc:
            log.warning("%s raised %s; see the debug log for the traceback", _name(function), type(exc).__name__)
            log.debug("The exception of the provider", exc_info=exc)
            raise Rejected(f"it raised {type(exc).__name__}") from None


def _expiry(exp: Any) -> float:
    """Return when a credential expires. Numbers of a provider, or of a token that it read, may exceed any float."""
    return max(-_FAR, min(exp, _FAR)) if type(exp) in (int, float) else inf


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


class CustomProvider(Method):
    """The `Method` for a provider that authenticates callers.

    Args:
        provider: The provider.
        calls: Calls the provider.
        keys: The keys that it verifies tokens with, if it is a `JWTAuthProvider`.

    Raises:
        ConfigurationError: Its ``cache_seconds`` is not a number of seconds.
    """

    def __init__(self, provider: Any, calls: GuardedCalls, keys: KeySource | None = None) -> None:
        self.name = type(provider).__name__
        self._provider = provider
        self._calls = calls
        self._keys = keys
        self._seconds = getattr(provider, "cache_seconds", 0.0)
        if type(self._seconds) not in (int, float) or not self._seconds >= 0:  # nor is NaN
            raise ConfigurationError(f"auth_provider: {self.name}.cache_seconds must be a number of seconds.")

    def takes(self, credential: Credential) -> bool:
        """See `Method.takes`: the provider decides about every credential."""
        return True

    async def verify(self, credential: Credential) -> VerifiedCredential:
        """See `Method.verify`."""
        user = await self._calls(self._provider.authenticate, credential.to_dict())
        try:
            principal = principal_of_user(user)
        except Rejected as exc:
            log.error("%s.authenticate: %s; the caller is rejected", self.name, exc)
            raise
        return VerifiedCredential(principal, self._seconds, _expiry(user.get("exp")))

    async def open(self) -> None:
        """See `Method.open`."""
        if self._keys is not None:
            await self._keys.open()

    async def close(self) -> None:
        """See `Method.close`."""
        if self._keys is not None:
            await self._keys.close()
