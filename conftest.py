"""What every test may use, whichever distribution it belongs to."""

from __future__ import annotations

pytest_plugins = ["redis_service", "postgres_service", "otlp_receiver"]
