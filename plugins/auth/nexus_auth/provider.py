"""`AuthProvider`: the base of an application's own authentication and authorization."""

from __future__ import annotations

from typing import Any

from nexus_auth.permissions import Grants
from nexus_core.errors import AuthenticationError


class AuthProvider:
    """Says who callers are and what they may do. Subclass it and override one method or both.

    Methods may be sync, and may block: those are called in a thread. Whatever they raise, and whatever takes longer
    than ``auth_timeout``, refuses the caller.

    Attributes:
        cache_seconds: For how long the answer to the same credentials may be used again. 0 for not at all: then
            `authenticate` is asked for each call, and a user who is locked out is out at once.
    """

    cache_seconds: float = 0.0

    def authenticate(self, credentials: dict[str, Any]) -> Any:
        """Return the user that credentials belong to.

        Args:
            credentials: ``{"authorization": "Bearer abc", "scheme": "bearer", "token": "abc"}``.

        Returns:
            A dictionary with ``user_id`` (text or a number) and, where there are such, ``permissions`` and
            ``scopes`` (lists of texts) and ``tenant_id``. What else it has comes along to `authorize`. With ``exp``,
            in seconds since the epoch, it is not remembered for longer than that.

        Raises:
            AuthenticationError: They belong to nobody. The caller sees its message.
        """
        raise AuthenticationError("The credential is not accepted.")

    def authorize(self, user: dict[str, Any], resource: str, action: str) -> Any:
        """Return True if a user may do something. Anything else means no.

        Args:
            user: What `authenticate` returned, or the same members made of a token.
            resource: The part of a required permission before its last ``.`` or ``:``: ``data`` of ``data.read``.
            action: The part after it: ``read``. Empty where there is none.
        """
        permission = f"{resource}.{action}" if action else resource
        return Grants.of_user(user).contain(permission)


def authenticates(provider: Any) -> bool:
    """Whether an ``auth_provider`` says who callers are."""
    return _overrides(provider, "authenticate")


def authenticates_alone(provider: Any) -> bool:
    """Whether an ``auth_provider`` knows by itself who callers are, and not by the platform's options."""
    return authenticates(provider) and getattr(provider, "uses_options", False) is not True


def authorizes(provider: Any) -> bool:
    """Whether an ``auth_provider`` says what callers may do."""
    return _overrides(provider, "authorize")


def _overrides(provider: Any, method: str) -> bool:
    own = getattr(provider, method, None)
    return callable(own) and getattr(own, "__func__", own) is not getattr(AuthProvider, method)


def split_permission(permission: str) -> tuple[str, str]:
    """Return the resource and the action of a permission: ``data`` and ``read`` of ``data.read`` or ``data:read``."""
    at = max(permission.rfind("."), permission.rfind(":"))
    return (permission, "") if at < 0 else (permission[:at], permission[at + 1 :])
