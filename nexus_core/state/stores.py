"""`Store`: small values under keys, for a while. What the gateway's features keep their state in.

The store of this process's memory is `MemoryStore`; others come from plugins (``nexus_register_stores``) and are
shared by every process that uses them. The option ``store`` chooses one by name, for all features or, with a
separate option such as ``cache_backend``, for one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_core.state.limits import Kind


@runtime_checkable
class Store(Protocol):
    """Values under keys. Each method is one atomic step, and one round trip where it is remote.

    Every method raises `BackendUnavailable` when the store does not answer in time; what then becomes of a call is for
    the feature to decide.
    """

    name: str

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None."""

    async def set(self, key: str, value: bytes, ttl: float) -> None:
        """Put a value there for ``ttl`` seconds, whatever was there."""

    async def add(self, key: str, value: bytes, ttl: float) -> bytes | None:
        """Put a value there for ``ttl`` seconds if the key has none, and return None; else return the present one."""

    async def replace(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """Put a value in another's place for ``ttl`` seconds. Returns False where that other is not there any more."""

    async def delete(self, key: str, value: bytes | None = None) -> bool:
        """Take a value away, or only that one if it is given. Returns whether it was there."""


@runtime_checkable
class BoundedStore(Store, Protocol):
    """A `Store` that knows whose values it holds, and how much each caller may have there."""

    def scoped(self, kind: Kind, owner: str) -> Store:
        """Return the store as one caller writes to it: what it puts there counts as its own.

        ``set``, ``add`` and ``replace`` raise `StateLimitReached` where that would be more than one caller may have. A
        value that takes the place of one that was as large is never refused.

        Args:
            kind: What is stored. Each kind has a separate limit.
            owner: Who pays for it, see `Invocation.payer`.
        """


@runtime_checkable
class CountingStore(Store, Protocol):
    """A `Store` that counts for rate limits, which it can do in one round trip where `replace` would take many."""

    async def hit(self, key: str, limit: int, window: float, strategy: str) -> tuple[bool, int, float]:
        """Count a call, unless that is one too many.

        Args:
            key: Whose calls.
            limit: How many calls a window may have.
            window: Its length in seconds.
            strategy: ``fixed_window``, ``moving_window`` or ``sliding_window``.

        Returns:
            Whether the call is allowed, how many more are now, and the seconds until there will be more.
        """


def scoping(store: Store) -> Callable[[Kind, str], Store]:
    """Return `BoundedStore.scoped` of a store; for one that has no limits, what returns the store itself."""
    scoped: Callable[[Kind, str], Store] | None = getattr(store, "scoped", None)
    return scoped or (lambda kind, owner: store)


def choose_store(stores: Iterable[Store], name: str, option: str) -> Store:
    """Return the store of a name.

    Args:
        stores: Every store there is.
        name: The one that is asked for.
        option: The option that asks for it, for the error.

    Raises:
        ConfigurationError: No such store.
    """
    by_name = {store.name: store for store in stores}
    if name not in by_name:
        cure = first_party.hint(f"store {name}")
        known = ", ".join(sorted(by_name))
        raise ConfigurationError(f"{option}: there is no store {name!r}, only {known}{cure and f': {cure}'}.")
    return by_name[name]
