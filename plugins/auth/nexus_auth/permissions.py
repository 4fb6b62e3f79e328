"""What permissions grant: the built-in rule.

``data.read`` and ``data:read`` are the same permission. ``data.*`` grants every permission that starts with ``data.``,
and ``*`` grants all. Scopes limit: a permission of the principal counts only if one of its scopes grants it too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_auth.values import string_set

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

IDENTITY_SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "offline_access"})
"""Scopes of OpenID Connect: they concern the user's profile, and limit no permissions."""


def normal(permission: str) -> str:
    """Return a permission in its normal spelling."""
    return permission.replace(":", ".")


class Patterns:
    """Permissions and wildcards, indexed for look-ups."""

    __slots__ = ("_all", "_beginnings", "_exact")

    def __init__(self, permissions: Iterable[str]) -> None:
        every = {normal(each) for each in permissions}
        self._all = "*" in every
        self._beginnings = frozenset(each[:-1] for each in every if each.endswith(".*"))
        self._exact = frozenset(every)

    def match(self, permission: str) -> str | None:
        """Return the pattern that grants a permission in its normal spelling, or None."""
        if permission in self._exact:
            return permission
        if self._all:
            return "*"
        if self._beginnings:
            at = permission.find(".")
            while at >= 0:
                if permission[: at + 1] in self._beginnings:
                    return permission[: at + 1] + "*"
                at = permission.find(".", at + 1)
        return None


class Grants:
    """What permissions and scopes grant together."""

    __slots__ = ("_limits", "_permissions")

    def __init__(self, permissions: Iterable[str], scopes: Iterable[str] = ()) -> None:
        self._permissions = Patterns(permissions)
        limits = [each for each in scopes if each not in IDENTITY_SCOPES]
        self._limits = Patterns(limits) if limits else None

    @classmethod
    def of_user(cls, user: Mapping[str, Any]) -> Grants:
        """Return the grants of a provider's user. ``permissions`` and ``scopes`` are lists, or strings with spaces."""
        return cls(string_set(user.get("permissions")), string_set(user.get("scopes")))

    def contain(self, permission: str) -> bool:
        """Whether a permission is granted."""
        asked = normal(permission)
        return self._permissions.match(asked) is not None and (
            self._limits is None or self._limits.match(asked) is not None
        )

    def among(self, permissions: Iterable[str]) -> list[str]:
        """Return those of the permissions that are granted."""
        if self._limits is not None:
            return [each for each in permissions if self.contain(each)]
        match = self._permissions.match
        return [each for each in permissions if match(each.replace(":", ".")) is not None]

    def explain(self, permission: str) -> str:
        """Return what grants a permission, or why nothing does, in words."""
        asked = normal(permission)
        by = self._permissions.match(asked)
        if by is None:
            return "missing"
        if self._limits is None:
            return f"granted by {by}"
        limit = self._limits.match(asked)
        return f"granted by {by}, but no scope allows it" if limit is None else f"granted by {by}, scope {limit}"
