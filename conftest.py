"""What every test may use, whichever distribution it belongs to."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from signal_dispositions import handle_ignored_signals

handle_ignored_signals()

pytest_plugins = ["unit_tests", "redis_service", "postgres_service", "otlp_receiver"]

# How long an example takes says more of the machine than of the code.
settings.register_profile("nexus", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("nexus")
