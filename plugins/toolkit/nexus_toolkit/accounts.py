"""`Account`: what one caller may store of one kind of state, in a store that processes share."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from nexus_core.state.limits import limit_reached

if TYPE_CHECKING:
    from nexus_core.errors import StateLimitReached
    from nexus_core.state.limits import Kind


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What one caller may store of each kind of state.

    Attributes:
        entries: Number of values.
        bytes: Bytes of keys and values.
    """

    entries: int = 1_000_000
    bytes: int = 256 * 1024 * 1024


class Account:
    """One caller's share of a store, for one kind of state.

    Args:
        store: Name of the store, with which its options for limits begin.
        limits: The caller's limits.
        kind: The kind of state.
        owner: The caller, see `nexus_core.state.limits.payer_of`.

    Attributes:
        id: 16 bytes that identify the account in every process.
        limits: The caller's limits.
    """

    __slots__ = ("_kind", "_store", "id", "limits")

    def __init__(self, store: str, limits: CallerLimits, kind: Kind, owner: str) -> None:
        self.id = sha256(f"{kind.name} {owner}".encode("utf-8", "surrogatepass")).digest()[:16]
        self.limits = limits
        self._store = store
        self._kind = kind

    def limit_reached(self, unit: str) -> StateLimitReached:
        """Return the error for a write beyond a limit.

        Args:
            unit: The limit: ``entries`` or ``bytes``.
        """
        shown = f"{self.limits.bytes} bytes" if unit == "bytes" else str(self.limits.entries)
        return limit_reached(self._kind, f"{shown} ({self._store}_caller_max_{unit})")


def key_bytes(key: str, prefix: bytes = b"") -> bytes:
    """Return a key as the bytes under which a store has its value, whatever characters it contains."""
    return prefix + key.encode("utf-8", "surrogatepass")
