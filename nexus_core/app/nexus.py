"""`Nexus`: owns the workflows, the plugins, the pipeline and the lifecycle."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from nexus_core.app import hookspecs, lifecycle, ports
from nexus_core.app.controller import LifecycleController
from nexus_core.app.decorator import WorkflowDecorator
from nexus_core.app.dispatch import Dispatcher
from nexus_core.app.hook_results import usable
from nexus_core.app.invoking import Invoking
from nexus_core.app.loading import leave_start_to_loader
from nexus_core.app.observable import Observable
from nexus_core.app.plugin import PluginFactory
from nexus_core.app.scheduling import Scheduling
from nexus_core.app.standalone import StopRequest, refuse_running_loop, run_process
from nexus_core.app.state import PlatformState
from nexus_core.concurrency.threads import call_on
from nexus_core.concurrency.worker_processes import is_loading_main
from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party
from nexus_core.options.channel import is_enabled
from nexus_core.options.settings import PluginSettings
from nexus_core.options.sources import OptionSources
from nexus_core.pipeline.resolvers import ParameterResolver
from nexus_core.plugins.manager import PluginManager
from nexus_core.plugins.option_reader import OptionReader
from nexus_core.server.asgi import MountedApp
from nexus_core.state.stores import choose_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set

    from nexus_core.events.event import ChannelEvent, Handler
    from nexus_core.events.log import EventLog
    from nexus_core.server.channel import ASGIApp, Channel, Listener
    from nexus_core.state.sessions import SessionStore
    from nexus_core.state.stores import Store
    from nexus_core.workflows.workflow import Workflow

log = logging.getLogger(__name__)

_SERVED = ("nexus_register_channels", "nexus_register_routes")

Model = TypeVar("Model", bound=PluginSettings)


class Nexus(Invoking, WorkflowDecorator, Scheduling, Observable):
    """Workflows, registered once and reachable through every installed channel.

    Several objects live side by side in one process; nothing is shared between them.

    Args:
        config: An object or mapping with options; what is set elsewhere comes first.
        config_file: A YAML file with options, in place of ``NEXUS_CONFIG_FILE``.
        plugins: Classes of plugins, and objects or modules with hook implementations, in addition to installed ones.
        discover: Whether installed plugins are loaded.
        options: Options by name, see ``docs/reference/options.md``.

    Attributes:
        options: The core's own options.
        workflows: The registered workflows.
        runs: The runs of this process.
        events: Where events are published, and followed by listeners and handlers.
        credentials: Ends what a caller has open, such as a stream, when its credential ends.
        plugins: The plugins, with what became of each.

    Raises:
        ConfigurationError: An option is unknown or has a wrong value; the message says where it was set.
        PluginError: A required plugin, or one that guards access, is not active.
    """

    def __init__(
        self,
        *,
        config: object = None,
        config_file: str | None = None,
        plugins: Iterable[object] = (),
        discover: bool = True,
        **options: Any,
    ) -> None:
        self._state = state = PlatformState(self, OptionReader(OptionSources(options, config, config_file)))
        self.options = state.options
        self.threads, self.workflow_threads, self.timers = state.threads, state.workflow_threads, state.timers
        self.workflows, self.runs, self.events = state.workflows, state.runs, state.events
        self.metrics_collectors, self.health_checkers = state.metrics_collectors, state.health_checkers
        self.stop_request = StopRequest()
        self._controller = LifecycleController(state)
        self._dispatcher = Dispatcher(state, self._controller)
        self.credentials = self._dispatcher.credentials
        self.plugins = state.plugins = self._load_plugins(plugins, discover)
        state.option_reader.read_plugins(state.plugins)
        state.option_reader.refuse_wrong(state.plugins)
        state.adapters += usable(self.plugins, "nexus_register_workflow_adapters")

    # Options and plugins

    def settings(self, model: type[Model]) -> Model:
        """Return the options of a plugin, read when it was loaded."""
        return self._state.settings[model]  # type: ignore[return-value]

    def option_sources(self) -> dict[str, str]:
        """Return where each option that is not at its default was set."""
        return dict(self._state.option_reader.sources.sources)

    @property
    def guards(self) -> Set[str]:
        """The plugins that guard access, because an option says so: without them nothing starts."""
        return self._state.guards

    def _load_plugins(self, given: Iterable[object], discover: bool) -> PluginManager:
        reader, options = self._state.option_reader, self.options
        name, option = first_party.provider("authentication")  # fail closed also where it is not installed
        guards = {name} if is_enabled(reader.sources.value(option)) else set[str]()
        factory = PluginFactory(self, reader)
        manager = PluginManager(
            hookspecs,
            self.threads,
            required={*options.required_plugins, *guards},
            disabled=options.disabled_plugins,
            timeout=options.plugin_timeout,
            is_enabled=lambda option: is_enabled(reader.sources.value(option)),
            make=factory,
            platform=self,
        )
        if discover:
            manager.load_installed()
        for plugin in given:
            manager.add(plugin)
        self._state.guards = guards | manager.guards | factory.guards
        manager.require(factory.guards)
        manager.check_required()
        return manager

    def store(self, name: str | None, option: str) -> Store:
        """Return a store by name, or the one that the option ``store`` names. For hooks called at start-up.

        Args:
            name: The store's name; None for the one that ``store`` names.
            option: The option that holds the name, for the error.

        Raises:
            ConfigurationError: No such name.
        """
        return choose_store(self._state.stores, name or self.options.store, option if name else "store")

    # Workflows

    def register(
        self, name: str, workflow: Any, metadata: Mapping[str, Any] | None = None, *, replace: bool = False
    ) -> Workflow:
        """Register a workflow: a typed function, or any object that an installed plugin knows.

        Args:
            name: What callers use; see `nexus_core.workflows.workflow.NAME_RULE`.
            workflow: The object.
            metadata: ``description``, ``version``, ``category``, ``tags``, ``timeout`` (seconds),
                ``required_permissions``, ``expected_parameters``, and whatever else callers shall see.
            replace: Whether a workflow of that name may be there already. Its running calls go on.

        Raises:
            ConfigurationError: The name is not allowed or taken, or the object can't be run.
        """
        return self.workflows.register(name, workflow, metadata, replace=replace)

    def unregister(self, name: str) -> None:
        """Forget a workflow; its running calls go on.

        Raises:
            WorkflowNotFound: No such name.
        """
        self.workflows.unregister(name)

    def list_workflows(self) -> list[str]:
        """Return the names of all workflows, sorted."""
        return self.workflows.names()

    def register_event_handler(self, handler: Handler) -> None:
        """Call an `EventHandler`, or a function, with each event, in order and apart from requests.

        What is sync runs in a thread.

        Raises:
            ConfigurationError: It is registered with another Nexus.
        """
        lifecycle.add_handler(self._state, handler)

    def register_parameter_resolver(self, resolver: ParameterResolver) -> None:
        """Let a resolver rewrite raw parameters before they are checked. Takes effect at the next start."""
        if isinstance(resolver, ParameterResolver):
            resolver.attach(self)
        self._state.resolvers.append(resolver)

    def register_session_manager(self, manager: object) -> None:
        """Let an object manage sessions, a ``SessionManager`` of the plugin "sessions". Takes effect at the next start.

        Without that plugin the start is refused.
        """
        self._state.session_manager = manager

    def publish(self, event: ChannelEvent) -> None:
        """Number an event and tell it to handlers and followers, from any thread."""
        running = self._state.running
        if running is not None and not running.loop.is_closed():
            call_on(running.loop, self.events.publish, event)
        else:
            self.events.publish(event)

    @property
    def event_log(self) -> EventLog:
        """The latest events, for callers who follow: those of all processes, where they are shared."""
        return self._state.event_log

    @property
    def own_event_log(self) -> EventLog:
        """The latest events of this process."""
        return self._state.own_event_log

    @property
    def session_manager(self) -> object:
        """What `register_session_manager` was given, or None."""
        return self._state.session_manager

    # Lifecycle

    def channel(self, name: str) -> Channel | None:
        """Return a channel by name, while the platform is started; None if there is no such channel."""
        running = self._state.running
        channels = running.channels if running else ()
        return next((channel for channel in channels if channel.name == name), None)

    async def __aenter__(self) -> Self:
        """Start plugins and channels inside the caller's event loop. No port is opened; see `serving`."""
        await self._controller.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let running work finish within ``shutdown_grace``, cancel the rest, stop channels and plugins."""
        await self._controller.stop()

    def asgi_app(self) -> ASGIApp:
        """Return every channel as one ASGI application, to be served or mounted by another server or application.

        It starts the platform with the server's lifespan, or at the first request where it is mounted.

        Raises:
            ConfigurationError: No plugin has a channel or a route.
        """
        if not any(True for hook in _SERVED for _ in self.plugins.implementations(hook)):
            raise ConfigurationError(
                f"asgi_app() has nothing to serve: no active plugin has a channel. {ports.ADD_CHANNEL}"
            )

        async def start() -> ASGIApp:
            return (await self._controller.start_here()).app

        return MountedApp(start, self._controller.stop)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[list[Listener]]:
        """Start everything and listen on the channels' ports, inside the caller's event loop.

        Yields:
            The listeners; `Listener.url` is the address.

        Raises:
            ConfigurationError: A port is in use, no server plugin is installed, or access is not guarded.
        """
        leave_start_to_loader(self)
        async with ports.serving(self._state, self._controller.enter, self._controller.stop) as listeners:
            yield listeners

    def start(self) -> None:
        """Serve until SIGTERM, SIGINT, SIGHUP or `stop`. Owns the process: what prevents the start ends it with code 1.

        A second signal ends the process at once. In another thread than the main one, only `stop` ends it.
        """
        refuse_running_loop()
        if is_loading_main():
            return  # a worker process that looks for its function in a program without `if __name__ == "__main__":`
        leave_start_to_loader(self)
        run_process(self._state, self.serving, self.stop_request)

    def work(self, concurrency: int | None = None, only: Sequence[str] = ()) -> None:
        """Work on durable runs, as `start` serves: until a signal or `stop`, without ports for calls.

        Ports that are set for probes and metrics (``health_port``, ``metrics_port``) are opened.

        Args:
            concurrency: Maximum number of runs at once, in place of ``run_concurrency``.
            only: Workflows to work on, in place of ``run_only``; none: those it says.
        """
        refuse_running_loop()
        if is_loading_main():
            return
        leave_start_to_loader(self)
        given: dict[str, Any] = {"run_work": True}
        if concurrency is not None:
            given["run_concurrency"] = concurrency
        if only:
            given["run_only"] = [*only]
        self.options = self._state.options = self.options.model_copy(update=given)
        working = partial(ports.serving, self._state, self._controller.enter, self._controller.stop, only_works=True)
        run_process(self._state, working, self.stop_request)

    def stop(self) -> None:
        """Ask `start` or `work` to return, from any thread, or at once if it is only being called.

        So is a platform that calls from threads have started. Running work gets ``shutdown_grace`` seconds.
        """
        if not self._controller.stop_own():
            self.stop_request.make()

    async def session_store(self) -> SessionStore:
        """Return the store of sessions, started with the platform if that is not started yet."""
        return (await self._controller.start()).sessions
