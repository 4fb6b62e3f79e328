"""Health checks of a platform: probes, custom checks, and ``nexus doctor``."""

from __future__ import annotations

from nexus_health.checker import HealthChecker as HealthChecker
from nexus_health.checker import check as check

__all__ = ["HealthChecker", "check"]
