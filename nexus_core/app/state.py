"""`PlatformState`: the parts of one `Nexus`, without behaviour. Everything in `nexus_core.app` works on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.app.services import Services
from nexus_core.concurrency.threads import DaemonThreads
from nexus_core.concurrency.timers import Timers
from nexus_core.concurrency.worker_processes import WorkerProcesses
from nexus_core.concurrency.workflow_threads import WorkflowThreads
from nexus_core.events.event import WORKFLOW_REGISTERED, WORKFLOW_UNREGISTERED, ChannelEvent, EventBus
from nexus_core.events.handlers import Publisher
from nexus_core.events.log import EventLog
from nexus_core.pipeline.resolvers import ResolverPlatform
from nexus_core.runs.history import RunHistory
from nexus_core.state.memory_store import MemoryStore
from nexus_core.workflows.metadata import MetadataRules
from nexus_core.workflows.registry import Registry

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from nexus_core.app.contributions import Contributions
    from nexus_core.events.event import Handler
    from nexus_core.pipeline.admission import Admission
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.pipeline.durable import DurableRuns
    from nexus_core.pipeline.resolvers import ParameterResolver
    from nexus_core.pipeline.serial import Serial
    from nexus_core.pipeline.stage import Call, CallerCall, Interceptor
    from nexus_core.plugins.manager import PluginManager
    from nexus_core.plugins.option_reader import OptionReader
    from nexus_core.runs.asking import QuestionDesk
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.stored_run import RunLookup
    from nexus_core.server.channel import ASGIApp, Channel, Route, Server
    from nexus_core.state.sessions import SessionStore
    from nexus_core.state.stores import Store
    from nexus_core.types.measurement import Collector
    from nexus_core.workflows.schedule import Schedule
    from nexus_core.workflows.workflow import WorkflowAdapter


class Owner(Publisher, ResolverPlatform, Protocol):
    """The `Nexus` itself, as event handlers and parameter resolvers get it."""


@dataclass
class Running:
    """What exists while a `Nexus` is started.

    Attributes:
        call: The whole pipeline.
        authenticate, verify, identify: The stages for callers without a call: up to authentication, of that alone, and
            up to the limits.
        authenticates: Whether a stage authenticates callers.
        desk: Asks what runs ask, and knows where the questions are kept.
        durable: Takes durable calls; None without an engine.
        runs: Finds runs, of this process and of the run store.
        recorder: Stores runs; None where they are kept in this process alone.
        front: Returns one application for those under several paths, with all that stands in front of them.
        app: That of the channels without a port, and of the routes.
    """

    loop: asyncio.AbstractEventLoop
    call: Call
    authenticate: CallerCall
    verify: CallerCall
    identify: CallerCall
    authenticates: bool
    authorizers: Sequence[Authorizer]
    admission: Admission
    sessions: SessionStore
    event_log: EventLog
    serial: Serial
    desk: QuestionDesk
    durable: DurableRuns | None
    runs: RunLookup
    recorder: RunRecorder | None
    interceptors: Sequence[Interceptor]
    contributions: Contributions
    channels: list[Channel]
    routes: list[Route]
    servers: list[Server]
    handlers: list[Handler]
    front: Callable[[Iterable[tuple[str, ASGIApp]]], ASGIApp]
    app: ASGIApp
    is_served: bool = False
    work_is_finished: bool = False


class PlatformState:
    """The parts of one platform.

    Plugins are loaded once the rest is there, since their constructors may use it: `plugins` and `adapters` come last.

    Args:
        owner: The platform.
        option_reader: Reads the options.

    Attributes:
        options: The core's own options.
        settings: The options of the core and of each plugin, by model.
        plugins: The plugins, with what became of each.
        guards: The plugins that guard access: without them nothing starts.
        adapters: The workflow adapters, with the plugins that they are from.
        stores: The stores for shared state: the one in memory, and those of plugins.
        event_log: The latest events, for followers; `own_event_log` is that of this process alone.
        resolvers: The application's own parameter resolvers.
        schedules: The declared schedules.
        running: What is started, or is stopping still; None otherwise.
    """

    plugins: PluginManager

    def __init__(self, owner: Owner, option_reader: OptionReader) -> None:
        def checks_permissions() -> bool | None:
            running = self.running
            return bool(running.authorizers) if running is not None and running.admission.is_open else None

        def changed(name: str, is_registered: bool) -> None:
            owner.publish(ChannelEvent(WORKFLOW_REGISTERED if is_registered else WORKFLOW_UNREGISTERED, name))

        self.owner = owner
        self.option_reader = option_reader
        self.options = options = option_reader.read_core()
        self.settings = option_reader.settings
        self.guards: set[str] = set()
        self.threads = DaemonThreads("nexus-thread")
        self.workflow_threads = WorkflowThreads("nexus-workflow", options.workflow_threads)
        self.processes = WorkerProcesses(self.threads, options.workflow_processes)
        self.timers = Timers()
        self.events = EventBus(self.threads)
        self.event_log = self.own_event_log = EventLog(self.events)
        self.runs = RunHistory(options.run_history, options.run_history_bytes, options.run_history_ttl)
        self.memory_store = MemoryStore(
            max_bytes=options.store_max_bytes, caller_max_bytes=options.store_caller_max_bytes
        )
        self.stores: list[Store] = [self.memory_store]
        self.adapters: list[tuple[str, WorkflowAdapter]] = []
        self.metadata_rules = MetadataRules(self.settings, options.insecure, checks_permissions)
        self.workflows = Registry(
            lambda: [adapter for plugin, adapter in self.adapters if self.plugins.is_active(plugin)],
            self.workflow_threads, self.processes, changed, self.metadata_rules,
        )  # fmt: skip
        self.services = Services(lambda: self.plugins)
        self.resolvers: list[ParameterResolver] = []
        self.schedules: list[Schedule] = []
        self.session_manager: object = None
        self.metrics_collectors: list[Collector] = []
        self.health_checkers: list[Any] = []
        self.running: Running | None = None
