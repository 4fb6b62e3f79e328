"""`Platform`: what plugins may use of a `Nexus`. It is the stable plugin API; everything else of it is private."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence, Set

    from nexus_core.app.questions import LinkedQuestion
    from nexus_core.app.view import CallerView
    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.concurrency.timers import Timers
    from nexus_core.events.event import ChannelEvent, EventBus
    from nexus_core.events.log import EventLog
    from nexus_core.options.settings import CoreSettings, PluginSettings
    from nexus_core.pipeline.credentials import CredentialWatch
    from nexus_core.pipeline.invocation import Caller, Invocation
    from nexus_core.plugins.manager import PluginManager
    from nexus_core.runs.history import RunHistory
    from nexus_core.runs.run import Run
    from nexus_core.server.channel import Channel
    from nexus_core.state.sessions import SessionStore
    from nexus_core.state.stores import Store
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Collector, Measurement
    from nexus_core.types.principal import Principal
    from nexus_core.types.result import Result
    from nexus_core.workflows.registry import Registry
    from nexus_core.workflows.schedule import Schedule

Model = TypeVar("Model", bound="PluginSettings")


class Platform(Protocol):
    """A `Nexus`, as plugins see it. `Nexus` has every member; plugins use no other.

    Version 1. A member is changed or removed only with a new minor version of the core while that is below 1.0, and
    is announced in the changelog.

    Attributes:
        options: The core's own options.
        workflows: The registered workflows.
        runs: The runs of this process.
        events: The event bus: numbers events, and passes them to handlers.
        credentials: Ends what a caller has open when its credential ends; tell it of revoked credentials.
        threads: Daemon threads for code that blocks.
        timers: Time limits that almost never pass, cheaper than the event loop's timers.
        plugins: The plugins, with the status of each.
        starts_schedules: Whether scheduled runs are to be started.
    """

    options: CoreSettings
    workflows: Registry
    runs: RunHistory
    events: EventBus
    credentials: CredentialWatch
    threads: DaemonThreads
    timers: Timers
    plugins: PluginManager
    starts_schedules: bool

    @property
    def event_log(self) -> EventLog:
        """The log of events, to follow those of every process that shares them."""

    @property
    def guards(self) -> Set[str]:
        """Names of the plugins that guard access with the options as they are."""

    @property
    def schedules(self) -> Sequence[Schedule]:
        """The declared schedules. See `Nexus.schedule`."""

    @property
    def session_manager(self) -> object:
        """The object given to `Nexus.register_session_manager`, or None."""

    async def __aenter__(self) -> Self:
        """Start the platform, for a command that needs it started; no port is opened."""

    async def __aexit__(self, *_: object) -> None:
        """Stop the platform."""

    def settings(self, model: type[Model]) -> Model:
        """Return the options of a settings model, such as another plugin's."""

    @property
    def every_settings(self) -> Sequence[PluginSettings]:
        """The options of the core, and of each plugin that has some."""

    def store(self, name: str | None, option: str) -> Store:
        """Return a store for shared state by name, or the one that the option ``store`` names. See `Nexus.store`."""

    def service(self, name: str) -> Any:
        """Return what a plugin provides for applications and workflows, such as ``db_pool``. See `Nexus.service`."""

    async def session_store(self) -> SessionStore:
        """Return the store of sessions."""

    def publish(self, event: ChannelEvent) -> None:
        """Publish an event to handlers and followers, from any thread."""

    def invoke(
        self, workflow: str | Invocation, params: Mapping[str, Any] | None = None
    ) -> Coroutine[Any, Any, Result]:
        """Run a workflow and return its result. See `Nexus.invoke`."""

    def invoke_within(self, invocation: Invocation, seconds: float) -> Coroutine[Any, Any, Result | Run]:
        """Return the result, or the run if it takes longer. See `Nexus.invoke_within`."""

    def submit(self, invocation: Invocation) -> Run:
        """Start a run and return it at once. See `Nexus.submit`."""

    def authenticate(self, caller: Caller) -> Coroutine[Any, Any, None]:
        """Authenticate a caller before its request is read. See `Nexus.authenticate`."""

    def view(self, caller: Caller) -> Coroutine[Any, Any, CallerView]:
        """Authenticate a caller and return what it may see. See `Nexus.view`."""

    async def linked_question(self, token: str) -> LinkedQuestion:
        """Return the question that a link leads to, for channels that take answers by link. See `Channel.answers`."""

    async def missing_permissions(self, principal: Principal | None, *permissions: str) -> frozenset[str]:
        """Return those of the permissions that a principal does not have."""

    @property
    def metrics_collectors(self) -> Sequence[Collector]:
        """The registered metrics collectors."""

    @property
    def health_checkers(self) -> Sequence[object]:
        """The registered health checkers."""

    @property
    def workflow_threads(self) -> DaemonThreads:
        """The threads that sync workflows run in, at most ``workflow_threads`` at once."""

    @property
    def places_in_use(self) -> int:
        """How many of the ``max_concurrent_workflows`` are running."""

    @property
    def is_ready(self) -> bool:
        """Whether calls are accepted: the platform is started, and not stopping."""

    @property
    def stages(self) -> frozenset[int]:
        """The stages that a call passes, while the platform is started."""

    @property
    def channels(self) -> Sequence[Channel]:
        """The channels, while the platform is started."""

    def measurements(self) -> Sequence[Measurement]:
        """Return the measurements of the core and of plugins."""

    def health_checks(self) -> Sequence[HealthCheck]:
        """Return the health checks of plugins."""
