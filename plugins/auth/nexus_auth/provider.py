"""`AuthProvider`: the base of an application's own authentication and authorization."""

from __future__ import annotations

from typing import Any

from nexus_auth.permissions import Grants
from nexus_auth.rejection import NOT_VALID
from nexus_core.concurrency.threads import overridden
from nexus_core.errors import AuthenticationError


class AuthProvider:
    """Authenticates and authorizes callers. Subclass it and override one method or both.

    Methods may be sync, and may block: those run in a thread. If a method raises, or takes longer than
    ``auth_timeout``, the caller is rejected.

    Example::

        class Directory(AuthProvider):
            def authenticate(self, credentials):
                return {"user_id": USERS[credentials["token"]], "permissions": ["stock.read"]}

    Attributes:
        cache_seconds: Seconds for which the result for a credential is cached. 0 disables caching: `authenticate` runs
            for each call, and blocking a user takes effect at once.
    """

    cache_seconds: float = 0.0

    def authenticate(self, credentials: dict[str, Any]) -> Any:
        """Return the user of a credential.

        Args:
            credentials: ``{"authorization": "Bearer abc", "scheme": "bearer", "token": "abc"}``.

        Returns:
            A dictionary with ``user_id`` (a string or an integer), and optionally ``permissions`` and ``scopes`` (lists
            of strings) and ``tenant_id``. Other members are passed on to `authorize`. ``exp``, in seconds since the
            epoch, limits caching.

        Raises:
            AuthenticationError: The credential is not valid. The caller sees the message.
        """
        raise AuthenticationError(NOT_VALID)

    def authorize(self, user: dict[str, Any], resource: str, action: str) -> Any:
        """Return True if a user has a permission. Any other value denies it.

        Args:
            user: What `authenticate` returned, or the same members from a token.
            resource: The part of a required permission before the last ``.`` or ``:``: ``data`` of ``data.read``.
            action: The part after it: ``read``; empty without one.
        """
        permission = f"{resource}.{action}" if action else resource
        return Grants.of_user(user).contain(permission)


def authenticates(provider: Any) -> bool:
    """Whether an ``auth_provider`` authenticates callers."""
    return callable(overridden(provider, AuthProvider, "authenticate"))


def authenticates_alone(provider: Any) -> bool:
    """Whether an ``auth_provider`` authenticates callers without the platform's options."""
    return authenticates(provider) and getattr(provider, "uses_options", False) is not True


def authorizes(provider: Any) -> bool:
    """Whether an ``auth_provider`` authorizes callers."""
    return callable(overridden(provider, AuthProvider, "authorize"))


def split_permission(permission: str) -> tuple[str, str]:
    """Return the resource and the action of a permission: ``data`` and ``read`` of ``data.read`` or ``data:read``."""
    at = max(permission.rfind("."), permission.rfind(":"))
    return (permission, "") if at < 0 else (permission[:at], permission[at + 1 :])
