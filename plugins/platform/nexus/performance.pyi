# Written by `make generate`.

from nexus_pools import ConnectionPool as ConnectionPool

__all__ = [
    "ConnectionPool",
]
