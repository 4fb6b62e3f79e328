"""API keys: how they are created, stored and verified.

A key is ``nxk_ID_SECRET``. Its secret has 256 random bits, so a plain SHA-256 hash is enough: a slow hash, which
passwords need because they can be guessed, would only slow down every call.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from nexus_auth.values import identifier, string_set

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "nxk_"
"""The prefix of every key: scanners for leaked secrets find keys by it."""

_ID_BYTES = 6
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, as stored.

    Attributes:
        id: Its id, which is not secret.
        hash: SHA-256 of its secret.
        user: User id of the owner.
        tenant: The owner's tenant, or None.
        permissions: Its permissions.
        name: A description.
        created_at, expires_at, revoked_at: Seconds since the epoch; None for never.
    """

    id: str
    hash: str
    user: str
    permissions: tuple[str, ...] = ()
    tenant: str | None = None
    name: str = ""
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None

    @classmethod
    def of(cls, members: Any) -> ApiKey:
        """Return a key from its stored members.

        Raises:
            TypeError: A member is not valid.
        """
        if not isinstance(members, dict):
            raise TypeError(f"a key must be an object, not {type(members).__name__}")
        key = cls(**{**members, "permissions": tuple(sorted(string_set(members.get("permissions"))))})
        if not all(isinstance(each, str) and each.isprintable() for each in (key.id, key.hash, key.name)):
            raise TypeError("the id, hash or name of a key is not valid")
        if len(key.hash) != 64 or not key.hash.isascii():
            raise TypeError(f"the hash of the key {key.id} is not valid")
        identifier(key.user)
        if key.tenant is not None:
            identifier(key.tenant)
        for moment in (key.created_at, key.expires_at, key.revoked_at):
            if moment is not None and type(moment) not in (int, float):
                raise TypeError(f"a time of the key {key.id} is not a number")
        return key

    def to_dict(self) -> dict[str, Any]:
        """Return the members to store."""
        return {**asdict(self), "permissions": list(self.permissions)}

    def status(self, now: float) -> str:
        """Return ``active``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"


def new_key(
    user: str, permissions: Iterable[str], *, tenant: str | None = None, name: str = "",
    seconds: float | None = None,
) -> tuple[str, ApiKey]:  # fmt: skip
    """Return a new key, in full and as stored.

    Args:
        user: User id of the owner.
        permissions: Its permissions.
        tenant: The owner's tenant.
        name: A description.
        seconds: Lifetime in seconds; None for unlimited.

    Raises:
        TypeError: The user or tenant is not a valid id.
    """
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    now = time.time()
    expires_at = None if seconds is None else now + seconds
    key = ApiKey(key_id, hashed(secret), user, tuple(sorted(set(permissions))), tenant, name, now, expires_at)
    return f"{PREFIX}{key_id}_{secret}", ApiKey.of(key.to_dict())


def hashed(secret: str) -> str:
    """Return the hash of a secret."""
    return sha256(secret.encode()).hexdigest()


def parts_of(token: str) -> tuple[str, str]:
    """Return the id and the secret of a key; empty strings for another credential."""
    begin, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if begin + "_" == PREFIX else ("", "")


def key_id_of(text: str) -> str:
    """Return the id of a key, given by its id or in full."""
    return parts_of(text)[0] or text


def matches(key: ApiKey, secret: str) -> bool:
    """Whether a secret is that of a key, in constant time."""
    return compare_digest(key.hash, hashed(secret))
