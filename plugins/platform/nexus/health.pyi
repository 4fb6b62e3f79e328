# Written by `make generate`.

from nexus_health import HealthChecker as HealthChecker
from nexus_health import check as check

__all__ = [
    "HealthChecker",
    "check",
]
