"""Checks of what a platform needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_health import HealthChecker as HealthChecker
    from nexus_health import check as check

__getattr__, __dir__, __all__ = names(
    __name__,
    HealthChecker="nexus_health",
    check="nexus_health",
)
