"""The plugin ``dbos``."""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING

from nexus_core import Plugin
from nexus_dbos.settings import DbosSettings

if TYPE_CHECKING:
    from nexus_core.runs.engine import RunEngine
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement


class DbosPlugin(Plugin[DbosSettings]):
    """The run engine ``dbos``. The platform opens and closes it where it is chosen."""

    def nexus_register_run_engines(self) -> list[RunEngine]:
        """Return the run engine."""
        return [self._engine]

    @cached_property
    def _engine(self) -> RunEngine:
        from nexus_toolkit.state_file import state_file

        from nexus_dbos.cipher import Cipher, keys_of
        from nexus_dbos.engine import DbosRunEngine
        from nexus_dbos.place import Database

        settings = self.settings
        url, keys = settings.dbos_postgres_url, settings.dbos_encryption_key
        cipher = Cipher(() if keys is None else keys_of(keys.get_secret_value()))
        place = Database(
            state_file(settings.dbos_sqlite_path, "dbos.db"),
            None if url is None else url.get_secret_value().strip(), settings.dbos_postgres_schema,
        )  # fmt: skip
        return DbosRunEngine(place, settings.dbos_poll_seconds, cipher)

    @property
    def _is_chosen(self) -> bool:
        return getattr(self.platform.options, "run_engine", None) == "dbos"

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check of the run engine, where it is chosen."""
        from nexus_core.types.health import HealthCheck

        return [HealthCheck("run_engine", self._engine.check)] if self._is_chosen else []

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return how many durable runs wait, are worked on and were taken over, and who works on them."""
        from nexus_core.types.measurement import Measurement

        def of(name: str) -> float:
            return self._engine.statistics()[name]

        gauges = {
            "queued": "Durable runs that no process works on yet.",
            "working": "Durable runs that this process works on.",
            "oldest_seconds": "How long the first of the queued durable runs has waited.",
            "workers": "Living processes that work on durable runs.",
            "unserved": "Queued durable runs that no living process can work on, for their workflow or its version.",
        }
        taken = "Durable runs that this process has taken from others that had died."
        return [
            *(
                Measurement.of(f"nexus_run_engine_{name}", "gauge", text, partial(of, name))
                for name, text in gauges.items()
            ),
            Measurement.of("nexus_run_engine_taken_over_total", "counter", taken, lambda: of("taken_over")),
        ]
