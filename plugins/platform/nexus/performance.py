"""Pools of connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_pools import ConnectionPool as ConnectionPool

__getattr__, __dir__, __all__ = names(
    __name__,
    ConnectionPool="nexus_pools",
)
