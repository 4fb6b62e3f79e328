"""The plugin ``runs``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from nexus_core import Plugin
from nexus_runs.settings import RunsSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_toolkit.redaction import Redactor
    from nexus_toolkit.sensitive import SensitiveParameters

    from nexus_core import Workflow
    from nexus_core.runs.store import RunStore
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Measurement


CHECK_SECONDS = 2.0
"""Seconds between two health checks of the run store: while it is away, calls that it has to store are refused."""


class RunsPlugin(Plugin[RunsSettings]):
    """The run stores ``sqlite`` and ``postgres``. The platform opens and closes the one that it uses."""

    def nexus_register_run_stores(self) -> list[RunStore]:
        """Return the run stores that the options allow."""
        stores = [store for store in (self._sqlite, self._postgres) if store is not None]
        for store in stores:
            store.redact, store.secret_names = self._redacted, self._secret_names
        return stores

    def _redacted(self, workflow: Workflow, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the parameters of a run without secrets, by the rules of the logs."""
        redactor, sensitive = self._rules
        redacted: Mapping[str, Any] = redactor.whole_value(params, sensitive.names_of(workflow))
        return redacted

    def _secret_names(self, workflow: Workflow) -> frozenset[str]:
        """Return the parameters that a workflow's schema or its metadata mark as secret."""
        names: frozenset[str] = self._rules[1].names_of(workflow)
        return names

    @cached_property
    def _rules(self) -> tuple[Redactor, SensitiveParameters]:
        from nexus_toolkit.redaction import Redactor, option_secrets
        from nexus_toolkit.sensitive import SensitiveParameters

        names, secrets = self.settings.runs_redact, option_secrets(self.platform.every_settings)
        return Redactor(names, secrets), SensitiveParameters()

    @cached_property
    def _sqlite(self) -> RunStore:
        from nexus_toolkit.state_file import state_file

        from nexus_runs.sqlite_store import SqliteRunStore

        settings = self.settings
        return SqliteRunStore(
            state_file(settings.runs_sqlite_path, "runs.db"), settings.runs_max_waiting, settings.runs_max_waiting_bytes
        )

    @cached_property
    def _postgres(self) -> RunStore | None:
        settings = self.settings
        if settings.runs_postgres_url is None:
            return None
        from nexus_runs.postgres_store import PostgresRunStore

        return PostgresRunStore(
            settings.runs_postgres_url.get_secret_value().strip(), settings.runs_postgres_schema,
            settings.runs_postgres_connections, settings.runs_postgres_timeout, settings.runs_max_waiting,
            settings.runs_max_waiting_bytes,
        )  # fmt: skip

    @property
    def _chosen(self) -> RunStore | None:
        name = getattr(self.platform.options, "run_store", None)
        return next((store for store in self.nexus_register_run_stores() if store.name == name), None)

    def nexus_register_health_checks(self) -> list[HealthCheck]:
        """Return the check of the chosen run store."""
        from nexus_core.types.health import HealthCheck

        store = self._chosen
        return [] if store is None else [HealthCheck("run_store", store.check, interval=CHECK_SECONDS)]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return how many changes of runs wait to be written, and how many were dropped."""
        from nexus_core.types.measurement import Measurement

        stores = self.nexus_register_run_stores()

        def total(name: str) -> float:
            return float(sum(store.statistics()[name] for store in stores))

        waiting, dropped = "Changes of runs that wait to be written.", "Changes of runs that were not written."
        return [
            Measurement.of("nexus_run_store_waiting", "gauge", waiting, lambda: total("waiting")),
            Measurement.of("nexus_run_store_dropped_total", "counter", dropped, lambda: total("dropped")),
        ]
