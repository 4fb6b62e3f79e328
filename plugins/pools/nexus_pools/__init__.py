"""Connection pools for workflows: PostgreSQL, HTTP, and `ConnectionPool` for custom connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_pools.custom import ConnectionPool as ConnectionPool

__all__ = ["ConnectionPool"]


def __getattr__(name: str) -> Any:
    if name == "ConnectionPool":
        from nexus_pools.custom import ConnectionPool

        return ConnectionPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
