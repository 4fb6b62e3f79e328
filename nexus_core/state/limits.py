"""Limits on the state that one caller stores: the kinds of state, who pays for it, and the error."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple

from nexus_core.errors import StateLimitReached


class Kind(NamedTuple):
    """A kind of state.

    Attributes:
        name: What it is called in errors and in the keys of stores.
        remedy: What a caller can do who has too much of it.
        is_evictable: Whether the store may forget values of it to make room. It does not otherwise.
    """

    name: str
    remedy: str
    is_evictable: bool = False


SESSIONS = Kind("sessions", "Delete sessions that are no longer used, or wait until they expire")
IDEMPOTENCY_KEYS = Kind("idempotency keys", "Wait until keys expire, or send calls without one")
BROWSER_LOGINS = Kind("browser logins", "Log out elsewhere, or wait until logins expire")
CACHED_RESULTS = Kind("cached results", "", is_evictable=True)


def limit_reached(kind: Kind, limit: str) -> StateLimitReached:
    """Return the error for a caller who stores too much.

    Args:
        kind: What it has too much of.
        limit: The limit and the option that sets it, such as ``1000 bytes (store_caller_max_bytes)``.
    """
    return StateLimitReached(
        f"The caller has stored as many {kind.name} as allowed: {limit}. {kind.remedy}.", details={"kind": kind.name}
    )


current_payer: ContextVar[str] = ContextVar("nexus_payer", default="")
"""Whose limits count for a session that is made without a user. A `SessionStore` gets the user alone."""


def user_payer(identity: str) -> str:
    """Return the payer that a `Principal.identity` is."""
    return f"user {identity}"
