"""Where sessions, runs and events are kept: the backends that options choose among those of plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nexus_core.errors import ConfigurationError
from nexus_core.events.shared_log import SharedEventLog
from nexus_core.options import first_party
from nexus_core.pipeline.durable import DurableRuns
from nexus_core.pipeline.durable_secrets import DurableSecrets
from nexus_core.pipeline.durable_worker import DurableWorker
from nexus_core.pipeline.queued_work import offer_of
from nexus_core.runs.recorder import RunRecorder
from nexus_core.runs.retention import RunRetention
from nexus_core.runs.work import Worker
from nexus_core.state.memory_store import MEMORY
from nexus_core.state.stored_sessions import StoredSessions
from nexus_core.state.stores import choose_store
from nexus_core.text import nearest
from nexus_core.workflows.metadata import RETENTION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nexus_core.app.contributions import Contributions
    from nexus_core.app.state import PlatformState
    from nexus_core.events.log import EventLog
    from nexus_core.pipeline.execution import Execution
    from nexus_core.runs.engine import RunEngine
    from nexus_core.runs.store import RunStore
    from nexus_core.runs.work import Offer
    from nexus_core.state.sessions import SessionStore
    from nexus_core.workflows.registry import Registry
    from nexus_core.workflows.workflow import Workflow

DAY_SECONDS = 86_400


def session_store(state: PlatformState, contributions: Contributions) -> SessionStore:
    """Return the store of sessions: a plugin's, or one on the store called ``store``."""
    stores: Sequence[SessionStore] = contributions.of("nexus_register_session_stores")
    if len(stores) > 1:
        raise ConfigurationError(f"{len(stores)} plugins each provide a session store; disable all but one.")
    if stores:
        return stores[0]
    if state.session_manager is not None:
        plugin = first_party.provider("session manager")[0]
        cure = first_party.hint("session manager")
        raise ConfigurationError(f'register_session_manager needs the plugin "{plugin}": {cure}')
    return StoredSessions(choose_store(state.stores, state.options.store, "store"), state.events.publish)


def recorder(state: PlatformState, contributions: Contributions) -> RunRecorder | None:
    """Return what stores runs, where ``run_store`` names a store."""
    options = state.options
    if options.run_store == MEMORY:
        return None
    stores: dict[str, RunStore] = {store.name: store for store in contributions.of("nexus_register_run_stores")}
    store = stores.get(options.run_store)
    if store is None:
        known = ", ".join([MEMORY, *sorted(stores)])
        cure = _cure(state, f"run store {options.run_store}")
        raise ConfigurationError(f"run_store: there is no run store {options.run_store!r}, only {known}{cure}.")
    limits = (options.run_store_days, options.run_store_max_runs, options.run_store_max_bytes)
    retention = _retention(*limits, _OfWorkflows(state.workflows))
    return RunRecorder(
        store, state.runs, state.events, retention, only_acknowledged=options.run_store_scope == "background"
    )


def durable_runs(
    state: PlatformState, contributions: Contributions, execution: Execution, recorder: RunRecorder | None,
    sessions: SessionStore,
) -> DurableRuns | None:  # fmt: skip
    """Return what takes durable calls, where ``run_engine`` names an engine.

    Raises:
        ConfigurationError: The engine or what it needs is not there, or a workflow is durable without one, or would
            have its secrets stored in the clear.
    """
    options = state.options
    mode, name = options.durable_workflows, options.run_engine
    if name is None:
        marked = sorted(each.name for each in state.workflows.every() if each.metadata.get("durable"))
        if (marked and mode != "none") or mode == "all":
            what = f'the workflow "{marked[0]}"' if marked else "durable_workflows=all"
            raise ConfigurationError(f"run_engine must be set: {what} needs an engine of durable runs.")
        return None
    engines: dict[str, RunEngine] = {each.name: each for each in contributions.of("nexus_register_run_engines")}
    engine = engines.get(name)
    if engine is None:
        known = ", ".join(sorted(engines)) or "none"
        cure = _cure(state, f"run engine {name}")
        raise ConfigurationError(f"run_engine: there is no engine {name!r} of durable runs, only {known}{cure}.")
    if recorder is None or not recorder.store.is_shared:
        raise ConfigurationError(
            f"run_engine={name} needs a run store that processes share: set run_store, to sqlite for example."
        )

    def is_durable(workflow: Workflow) -> bool:
        return mode != "none" and bool(workflow.metadata.get("durable", mode == "all"))

    only = frozenset(options.run_only)
    known_names = state.workflows.names()
    for unknown in sorted(only - {*known_names}):
        near = nearest(unknown, known_names)
        cure = "" if near is None else f"; did you mean {near!r}?"
        raise ConfigurationError(f"run_only: there is no workflow {unknown!r}{cure}")

    secrets = DurableSecrets(engine, recorder.store, is_allowed=options.durable_plain_secrets)
    secrets.check(each for each in state.workflows.every() if is_durable(each))

    def takes(workflow: Workflow) -> bool:
        if not is_durable(workflow):
            return False
        secrets.refuse(workflow)
        return True

    def offers() -> dict[str, Offer]:
        offered = (each for each in state.workflows.every() if is_durable(each) and (not only or each.name in only))
        return {each.name: offer_of(each) for each in offered}

    works = DurableWorker(execution, recorder, state.runs, state.workflows.find, sessions)
    worker = Worker(works.perform, offers, options.run_concurrency) if options.run_work else None
    return DurableRuns(engine, worker, execution, recorder, state.runs, takes)


def _cure(state: PlatformState, need: str) -> str:
    """Return what to do where something is needed that no active plugin provides."""
    provider, cure = first_party.provider(need)[0], first_party.hint(need)
    if (reason := state.plugins.inactive().get(provider)) is not None:
        cure = f'the plugin "{provider}" is not active: {reason}'.rstrip(".")
    return cure and f": {cure}"


def _retention(
    days: float | None, max_runs: int | None, max_bytes: int | None, workflows: Mapping[str, RunRetention]
) -> RunRetention:
    return RunRetention(None if days is None else days * DAY_SECONDS, max_runs, max_bytes, workflows)


class _OfWorkflows(Mapping[str, RunRetention]):
    """What the metadata of the workflows say that are registered now."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(self, workflows: Registry) -> None:
        self._workflows = workflows

    def __getitem__(self, name: str) -> RunRetention:
        workflow = self._workflows.find(name)
        metadata = {} if workflow is None else workflow.metadata
        days, max_runs, max_bytes = (metadata.get(key) for key in RETENTION)
        return _retention(days, max_runs, max_bytes, {})

    def __iter__(self) -> Iterator[str]:
        return (each.name for each in self._workflows.every() if not each.metadata.keys().isdisjoint(RETENTION))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def event_log(state: PlatformState, contributions: Contributions, sessions: SessionStore) -> EventLog:
    """Return the log of events: with what is called ``event_backend``, or as the store of sessions is, if there is."""
    transports = {transport.name: transport for transport in contributions.of("nexus_register_event_transports")}
    asked = state.options.event_backend
    name = asked or getattr(sessions, "store_name", MEMORY)
    if name in transports:
        return SharedEventLog(state.events, transports[name])
    if asked not in (None, MEMORY):
        known = ", ".join([MEMORY, *sorted(transports)])
        cure = first_party.hint(f"store {asked}")
        raise ConfigurationError(
            f"event_backend: events can't be stored in {asked!r}, only in {known}{cure and f': {cure}'}."
        )
    return state.own_event_log
