"""Creates principals from a token's claims, and from what a provider returns."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nexus_auth.permissions import IDENTITY_SCOPES
from nexus_auth.rejection import Rejected
from nexus_auth.values import identifier, string_set
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING = object()


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Names of the claims that describe a principal. ``realm_access.roles`` is ``roles`` inside ``realm_access``."""

    user: str = "sub"
    tenant: str = "tenant_id"
    permissions: str = "permissions"
    scopes: str = "scope"


def principal_of_claims(claims: Mapping[str, Any], names: ClaimNames) -> Principal:
    """Return the principal of verified claims.

    Without a claim with permissions, the scopes are the permissions.

    Raises:
        Rejected: A claim is missing or of the wrong type.
    """
    user = _claim(claims, names.user)
    if user is _MISSING:
        raise Rejected(f"the claim {names.user} is missing")
    tenant = _claim(claims, names.tenant)
    given, scopes = _claim(claims, names.permissions), _claim(claims, names.scopes)
    allowed = _read(names.scopes, string_set, None if scopes is _MISSING else scopes)
    return _principal(
        _read(names.user, identifier, user),
        None if tenant in (_MISSING, None) else _read(names.tenant, identifier, tenant),
        allowed - IDENTITY_SCOPES if given is _MISSING else _read(names.permissions, string_set, given),
        allowed,
        claims,
    )


def principal_of_user(user: Any) -> Principal:
    """Return the principal of the dictionary that a provider's ``authenticate`` returned.

    Raises:
        Rejected: It is not a dictionary, or a member is not valid.
    """
    if not isinstance(user, dict):
        raise Rejected(f"authenticate returned a {type(user).__name__}, not a dictionary")
    tenant = user.get("tenant_id")
    return _principal(
        _read("user_id", lambda value: identifier(value, numbers=True), user.get("user_id")),
        None if tenant is None else _read("tenant_id", lambda value: identifier(value, numbers=True), tenant),
        _read("permissions", string_set, user.get("permissions")),
        _read("scopes", string_set, user.get("scopes")),
        user,
    )


def user_of(principal: Principal, *, authenticated: bool) -> dict[str, Any]:
    """Return a principal as the dictionary that a provider's ``authorize`` takes.

    Args:
        principal: The principal.
        authenticated: Whether the provider has authenticated it: then the members it returned take precedence.
    """
    known = {
        "user_id": principal.user_id,
        "tenant_id": principal.tenant_id,
        "permissions": sorted(principal.permissions),
        "scopes": sorted(principal.scopes),
    }
    return {**known, **principal.claims} if authenticated else {**principal.claims, **known}


def _principal(
    user: str, tenant: str | None, permissions: frozenset[str], scopes: frozenset[str], claims: Mapping[str, Any]
) -> Principal:
    return Principal(user, permissions, scopes, tenant, MappingProxyType(dict(claims)))


def _read(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except TypeError as exc:
        raise Rejected(f"{name}: {exc}") from None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the claim of exactly this name, or a nested one; `_MISSING` if there is none."""
    if not name:
        return _MISSING
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return _MISSING
        found = found[part]
    return found
