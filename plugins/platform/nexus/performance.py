"""Connection pools."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    ConnectionPool="nexus_pools",
)
