"""API keys: how they are made, kept and looked up.

A key is ``nxk_ID_SECRET``. Its secret is 256 random bits, so a plain SHA-256 is all that need be kept of it: nobody can
try so many, and a slow hash, which passwords need because they can be guessed, would only slow down every caller.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict, dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from nexus_auth.texts import id_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "nxk_"
"""What every key begins with: scanners for leaked secrets can find it."""

_ID_BYTES = 6
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key.

    Attributes:
        id: Its name, which is no secret.
        hash: SHA-256 of its secret.
        user: Whose it is.
        tenant: Of which tenant, or None.
        permissions: What it may do.
        name: What it is for.
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
        """Return a key as it was written.

        Raises:
            TypeError: It is not what was written.
        """
        if not isinstance(members, dict):
            raise TypeError(f"a key is a {type(members).__name__}")
        key = cls(**{**members, "permissions": tuple(sorted(texts_of(members.get("permissions"))))})
        if not all(isinstance(each, str) and each.isprintable() for each in (key.id, key.hash, key.name)):
            raise TypeError("a key's id, hash or name is none")
        if len(key.hash) != 64 or not key.hash.isascii():
            raise TypeError(f"the key {key.id} has no hash")
        id_of(key.user)
        if key.tenant is not None:
            id_of(key.tenant)
        for moment in (key.created_at, key.expires_at, key.revoked_at):
            if moment is not None and type(moment) not in (int, float):
                raise TypeError(f"the key {key.id} has a time that is none")
        return key

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is written."""
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
    """Return a new key, as its owner needs it and as it is kept.

    Args:
        user: Whose it is.
        permissions: What it may do.
        tenant: Of which tenant.
        name: What it is for.
        seconds: For how long it is good; None for ever.

    Raises:
        TypeError: The user or tenant is no id.
    """
    key_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    now = time.time()
    expires_at = None if seconds is None else now + seconds
    kept = ApiKey(key_id, hashed(secret), user, tuple(sorted(set(permissions))), tenant, name, now, expires_at)
    return f"{PREFIX}{key_id}_{secret}", ApiKey.of(kept.to_dict())


def hashed(secret: str) -> str:
    """Return what is kept of a secret."""
    return sha256(secret.encode()).hexdigest()


def parts_of(token: str) -> tuple[str, str]:
    """Return the id and the secret of a key; empty where it is none."""
    begin, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if begin + "_" == PREFIX else ("", "")


def key_id_of(text: str) -> str:
    """Return the id of a key that somebody names by its id, or by all of it."""
    return parts_of(text)[0] or text


def is_of(key: ApiKey, secret: str) -> bool:
    """Whether a secret is a key's. It takes as long either way."""
    return compare_digest(key.hash, hashed(secret))
