"""Who may do what: by the built-in rule, or by the application's own."""

from __future__ import annotations

import inspect
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nexus_auth.permissions import Grants
from nexus_auth.principals import user_of
from nexus_auth.provider import split_permission
from nexus_auth.refusal import Unavailable, nobody_answers
from nexus_core.concurrency.threads import ENDS_PROCESS, is_async
from nexus_core.errors import NexusError

if TYPE_CHECKING:
    from collections.abc import Collection

    from nexus_auth.own import GuardedCalls
    from nexus_core.types.principal import Principal

log = logging.getLogger(__name__)


class BuiltInRule:
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
        """Return in words why a permission is granted or not."""
        return Grants(principal.permissions, principal.scopes).explain(permission)


class OwnRule:
    """Asks the application's own provider, once for each permission and in one thread for all of them.

    Args:
        provider: The provider.
        calls: How it is called.
        own: Whether it has authenticated the principals too.
    """

    def __init__(self, provider: Any, calls: GuardedCalls, *, own: bool) -> None:
        self.rule = f"{type(provider).__name__}.authorize decides"
        self._provider = provider
        self._calls = calls
        self._own = own
        self._ask = self._ask_async if is_async(provider.authorize) else self._ask_in_thread

    async def granted(self, principal: Principal | None, permissions: frozenset[str]) -> Collection[str]:
        """See `Authorizer.granted`. What raises, or is not back in time, is not granted.

        Raises:
            BackendUnavailable: Too many earlier questions have not come back.
        """
        if principal is None:
            return ()
        granted: list[str] = []
        try:
            await self._calls(self._ask, user_of(principal, own=self._own), sorted(permissions), granted)
        except Unavailable:
            raise nobody_answers() from None
        except Exception as exc:
            log.debug("Asking for permissions ended early: %s", exc)
        return tuple(granted)

    def _ask_in_thread(self, user: dict[str, Any], permissions: list[str], granted: list[str]) -> Any:
        """Ask for all. A sync method that returns something awaitable is awaited on the event loop."""
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
            log.debug("Why it is not granted", exc_info=exc)

    def explain(self, principal: Principal, permission: str, granted: bool) -> str:
        """Return in words why a permission is granted or not."""
        resource, action = split_permission(permission)
        return f"authorize(user, {resource!r}, {action!r}) returned {'True' if granted else 'no True'}"
