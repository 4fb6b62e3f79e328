"""Makes principals: of a token's claims, of what a provider returns, of an API key."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nexus_auth.permissions import IDENTITY_SCOPES
from nexus_auth.refusal import Refused
from nexus_auth.texts import id_of, texts_of
from nexus_core.types.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MISSING = object()


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """Where claims say what a principal is. ``realm_access.roles`` is ``roles`` inside ``realm_access``."""

    user: str = "sub"
    tenant: str = "tenant_id"
    permissions: str = "permissions"
    scopes: str = "scope"


def principal_of_claims(claims: Mapping[str, Any], names: ClaimNames) -> Principal:
    """Return the principal that verified claims tell of.

    Where there is no claim with permissions, the scopes are the permissions.

    Raises:
        Refused: A claim is missing or of the wrong type.
    """
    user = _claim(claims, names.user)
    if user is _MISSING:
        raise Refused(f"the claim {names.user} is missing")
    tenant = _claim(claims, names.tenant)
    given, scopes = _claim(claims, names.permissions), _claim(claims, names.scopes)
    allowed = _read(names.scopes, texts_of, None if scopes is _MISSING else scopes)
    return _principal(
        _read(names.user, id_of, user),
        None if tenant in (_MISSING, None) else _read(names.tenant, id_of, tenant),
        allowed - IDENTITY_SCOPES if given is _MISSING else _read(names.permissions, texts_of, given),
        allowed,
        claims,
    )


def principal_of_user(user: Any) -> Principal:
    """Return the principal of what a provider's ``authenticate`` returned.

    Raises:
        Refused: It is no dictionary, or says nothing usable.
    """
    if not isinstance(user, dict):
        raise Refused(f"authenticate returned a {type(user).__name__}, not a dictionary")
    tenant = user.get("tenant_id")
    return _principal(
        _read("user_id", lambda value: id_of(value, numbers=True), user.get("user_id")),
        None if tenant is None else _read("tenant_id", lambda value: id_of(value, numbers=True), tenant),
        _read("permissions", texts_of, user.get("permissions")),
        _read("scopes", texts_of, user.get("scopes")),
        user,
    )


def user_of(principal: Principal, *, own: bool) -> dict[str, Any]:
    """Return a principal as the dictionary that a provider's ``authorize`` takes.

    Args:
        principal: Who calls.
        own: Whether the provider has authenticated it: then what it returned comes first.
    """
    known = {
        "user_id": principal.user_id,
        "tenant_id": principal.tenant_id,
        "permissions": sorted(principal.permissions),
        "scopes": sorted(principal.scopes),
    }
    return {**known, **principal.claims} if own else {**principal.claims, **known}


def _principal(
    user: str, tenant: str | None, permissions: frozenset[str], scopes: frozenset[str], claims: Mapping[str, Any]
) -> Principal:
    return Principal(user, permissions, scopes, tenant, MappingProxyType(dict(claims)))


def _read(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except TypeError as exc:
        raise Refused(f"{name}: {exc}") from None


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim of that very name, or one that lies deeper; `_MISSING` where there is none."""
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
