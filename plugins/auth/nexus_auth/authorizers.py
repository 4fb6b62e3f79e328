"""Authorizers: the built-in one, and the application's own."""

from __future__ import annotations

import inspect
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nexus_auth.permissions import Grants
from nexus_auth.principals import user_of
from nexus_auth.provider import split_permission
from nexus_auth.rejection import Unavailable, provider_unavailable
from nexus_core.concurrency.threads import ENDS_PROCESS, is_async
from nexus_core.errors import NexusError

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_auth.methods.custom import GuardedCalls
    from nexus_core.types.principal import Principal

log = logging.getLogger(__name__)


class PermissionAuthorizer:
    """Grants what the principal's permissions and scopes contain. See `nexus_auth.permissions`."""

    rule = "the permissions and scopes of the caller's credential decide"

    def __init__(self) -> None:
        self._grants = lru_cache(maxsize=1024)(Grants)  # two frozen sets, whose hash Python remembers

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> Collection[str]:
        """See `Authorizer.granted`."""
        if principal is None:
            return ()
        return self._grants(principal.permissions, principal.scopes).among(permissions)

    def explain(self, principal: Principal, permission: str, granted: bool) -> str:
        """Return why a permission is granted or not, in words."""
        return Grants(principal.permissions, principal.scopes).explain(permission)


class CustomAuthorizer:
    """Calls the ``authorize`` method of the application's provider, once per permission, in one thread for all.

    Args:
        provider: The provider.
        calls: Calls the provider.
        authenticates: Whether the provider has authenticated the principals too.
    """

    def __init__(self, provider: Any, calls: GuardedCalls, *, authenticates: bool) -> None:
        self.rule = f"{type(provider).__name__}.authorize decides"
        self._provider = provider
        self._calls = calls
        self._authenticates = authenticates
        self._ask = self._ask_async if is_async(provider.authorize) else self._ask_in_thread

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> Collection[str]:
        """See `Authorizer.granted`. A permission whose call raises, or does not return in time, is not granted.

        Raises:
            BackendUnavailable: Too many earlier calls have not returned.
        """
        if principal is None:
            return ()
        granted: list[str] = []
        user = user_of(principal, authenticated=self._authenticates)
        try:
            await self._calls(self._ask, user, sorted(permissions), granted)
        except Unavailable:
            raise provider_unavailable() from None
        except Exception as exc:
            log.debug("Authorization ended early: %s", exc)
        return tuple(granted)

    def _ask_in_thread(self, user: dict[str, Any], permissions: list[str], granted: list[str]) -> Any:
        """Ask for all permissions. An awaitable that a sync method returns is awaited on the event loop."""
        waiting: list[tuple[str, Any]] = []
        for permission in permissions:
            try:
                answer = self._provider.authorize(user, *split_permission(permission))
            except (Exception, *ENDS_PROCESS) as exc:
                self._failed(permission, exc)
                continue
            if inspect.isawaitable(answer):
                waiting.append((permission, answer))
            else:
                self._note(permission, answer, granted)
        return self._await(waiting, granted) if waiting else None

    async def _await(self, waiting: list[tuple[str, Any]], granted: list[str]) -> None:
        for permission, answer in waiting:
            try:
                self._note(permission, await answer, granted)
            except Exception as exc:
                self._failed(permission, exc)

    async def _ask_async(self, user: dict[str, Any], permissions: list[str], granted: list[str]) -> None:
        for permission in permissions:
            await self._await([(permission, self._provider.authorize(user, *split_permission(permission)))], granted)

    def _note(self, permission: str, answer: Any, granted: list[str]) -> None:
        if answer is True:
            granted.append(permission)
        elif answer is not False:
            log.error("%s returned a %s for %s, not True or False: not granted", self.rule, type(answer), permission)

    def _failed(self, permission: str, exc: BaseException) -> None:
        if not isinstance(exc, NexusError):
            log.warning("authorize raised %s on %s: not granted", type(exc).__name__, permission)
            log.debug("The exception of authorize", exc_info=exc)

    def explain(self, principal: Principal, permission: str, granted: bool) -> str:
        """Return why a permission is granted or not, in words."""
        resource, action = split_permission(permission)
        return f"authorize(user, {resource!r}, {action!r}) returned {'True' if granted else 'something else than True'}"
