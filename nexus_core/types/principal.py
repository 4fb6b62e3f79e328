"""The caller: the authenticated principal, how long its credential is valid, and what is left of its rate limit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(slots=True, frozen=True)
class Principal:
    """The caller, once authenticated.

    Attributes:
        user_id: Unique within its tenant.
        permissions: What it may do, such as ``data.read``; an `Authorizer` interprets them.
        scopes: What the credential that it came with allows, where that is less.
        tenant_id: The tenant it belongs to, or None.
        claims: Whatever else is known of it.
        identity: Tells it from every other principal: what belongs to it is kept under this.
    """

    user_id: str
    permissions: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    tenant_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    identity: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Derive the identity: no tenant and user together look like another tenant's user."""
        tenant = "" if self.tenant_id is None else quote(self.tenant_id, safe="@") + "/"
        object.__setattr__(self, "identity", tenant + quote(self.user_id, safe="@|:"))


class Validity(NamedTuple):
    """How long a credential is good that was accepted. The stage that authenticates puts it into the invocation.

    Attributes:
        expires_at: When it ends, in seconds since the epoch.
        refused_at: From when on it is refused; later than ``expires_at`` where clocks may differ.
        check_at: When it has to be checked again, on the clock of ``time.monotonic``.
        key: The same for all who bring this credential: they share its checks. None for a caller alone.
    """

    expires_at: float = inf
    refused_at: float = inf
    check_at: float = inf
    key: object = None

    def end(self) -> float:
        """Return when what is opened now must end. A caller accepted past the expiry stays so until it is refused."""
        return self.expires_at if time.time() < self.expires_at else self.refused_at


@dataclass(slots=True, frozen=True)
class RateLimit:
    """How much of a caller's budget is left after its call.

    Attributes:
        limit: Calls that a window may have.
        window: The window's length in seconds.
        remaining: Calls that are left.
        reset: Seconds until there are more.
    """

    limit: int
    window: float
    remaining: int
    reset: float
