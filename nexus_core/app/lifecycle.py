"""Start and stop: plugins, then channels, then ports; and back in reverse order."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from nexus_core.app import backends
from nexus_core.app.contributions import Contributions
from nexus_core.app.queueing import serial_stage
from nexus_core.app.scheduling import refuse_unscheduled
from nexus_core.app.state import Running
from nexus_core.errors import ConfigurationError, PluginError
from nexus_core.events.handlers import EventHandler
from nexus_core.options import first_party
from nexus_core.pipeline.admission import Admission
from nexus_core.pipeline.authorization import Authorization, Authorizer
from nexus_core.pipeline.client_address import ClientAddress
from nexus_core.pipeline.execution import Execution
from nexus_core.pipeline.idempotency import Idempotency
from nexus_core.pipeline.resolution import Resolution
from nexus_core.pipeline.resolvers import ParameterResolver
from nexus_core.pipeline.session_lookup import SessionLookup
from nexus_core.pipeline.stage import Interceptor, Stage, compose, compose_for_callers
from nexus_core.pipeline.third_party import GuardedAuthorizer, GuardedInterceptor
from nexus_core.plugins.shadows import hidden_libraries
from nexus_core.runs.asking import QuestionDesk
from nexus_core.runs.stored_run import RunLookup
from nexus_core.server.asgi import PathRouter
from nexus_core.server.proxies import TrustedProxies
from nexus_core.server.public_address import PublicAddress
from nexus_core.server.request_guard import Guard
from nexus_core.state.stores import choose_store
from nexus_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Sequence

    from nexus_core.app.state import PlatformState
    from nexus_core.events.event import Handler
    from nexus_core.server.channel import ASGIApp, Channel, Middleware, Route

log = logging.getLogger(__name__)

DRAIN_SECONDS = 1.0
"""How long one channel may take to end its streams."""

CANCEL_SECONDS = 2.0
"""How long cancelled work is waited for at the end; code may catch the cancellation and go on."""


async def start(state: PlatformState) -> Running:
    """Start plugins and channels and compose the pipeline.

    Raises:
        ConfigurationError: A required plugin failed, or the operator has to act. Nothing is left started.
    """
    if hidden := hidden_libraries(state.plugins.records):
        raise ConfigurationError(" ".join(hidden))
    contributions = Contributions(state.plugins, state.threads, state.stores)
    await contributions.start()
    try:
        refuse_unscheduled(state)
        running = _compose(state, contributions)
        if running.recorder is not None:
            await running.recorder.open()
        if running.durable is not None:
            await running.durable.open()
    except BaseException:
        await contributions.stop()
        raise
    for handler in running.handlers:
        add_handler(state, handler)
    state.event_log = running.event_log
    return running


def add_handler(state: PlatformState, handler: Handler) -> None:
    """Let a handler get events from now on.

    Raises:
        ConfigurationError: It is registered with another Nexus.
    """
    if isinstance(handler, EventHandler):
        handler.attach(state.owner)
    state.events.add_handler(handler)


def _compose(state: PlatformState, contributions: Contributions) -> Running:
    options = state.options
    sessions = backends.session_store(state, contributions)
    admission = Admission(options.max_concurrent_workflows)
    everyone = [*state.resolvers, *contributions.of("nexus_register_parameter_resolvers")]
    for resolver in everyone:
        if isinstance(resolver, ParameterResolver):
            resolver.attach(state.owner)
    authorizers: list[Authorizer] = [
        item if plugin is None else GuardedAuthorizer(item, plugin, state.timers, options.workflow_timeout)
        for plugin, item in contributions.third_party("nexus_register_authorizers")
    ]
    recorder = backends.recorder(state, contributions)
    desk = QuestionDesk(
        state.runs.questions, recorder, admission.aside, options.max_waiting_runs,
        partial(_answer_link, options.public_url, contributions.channels),
    )  # fmt: skip
    execution = Execution(
        state.runs, state.timers, options.workflow_timeout, options.max_result_bytes, sessions, state.services.get,
        state.workflow_threads, desk, recorder,
    )  # fmt: skip
    durable = execution.durable = backends.durable_runs(state, contributions, execution, recorder, sessions)
    idempotency = Idempotency(
        choose_store(state.stores, options.store, "store"), options.idempotency_ttl, options.workflow_timeout,
        None if recorder is None else recorder.store,
    )  # fmt: skip
    serial = serial_stage(state, sessions, idempotency, execution, admission, recorder)
    sources = {channel.name: channel.parameter_source for channel in contributions.channels}
    proxies = TrustedProxies(options.trusted_proxies) if options.trusted_proxies else None
    chain: list[Interceptor] = [
        admission,
        *([ClientAddress(proxies)] if proxies is not None else []),
        SessionLookup(sessions),
        *([Authorization(authorizers)] if authorizers else []),
        Resolution(everyone, sources, state.threads, state.timers, execution.limit),
        idempotency,
        serial,
        *(
            item if plugin is None else GuardedInterceptor(item, plugin, state.timers, options.workflow_timeout)
            for plugin, item in contributions.third_party("nexus_register_interceptors")
        ),
    ]
    _refuse_idle_guards(state.guards, contributions)
    state.metadata_rules.report(state.workflows.every(), has_authorizers=bool(authorizers))
    event_log = backends.event_log(state, contributions, sessions)
    routes = contributions.of("nexus_register_routes")
    front = _Front(state, contributions.by_plugin("nexus_register_middleware"), proxies)
    return Running(
        asyncio.get_running_loop(),
        compose(chain, execution),
        compose_for_callers(chain, Stage.ADMIT, Stage.AUTHENTICATE),
        compose_for_callers(chain, Stage.AUTHENTICATE - 1, Stage.AUTHENTICATE),
        compose_for_callers(chain, Stage.ADMIT, Stage.LIMIT),
        _authenticates(chain),
        authorizers,
        admission,
        sessions,
        event_log,
        serial,
        desk,
        durable,
        RunLookup(state.runs, None if recorder is None else recorder.store, None if durable is None else durable.place),
        recorder,
        interceptors=chain,
        contributions=contributions,
        channels=contributions.channels,
        routes=routes,
        servers=contributions.of("nexus_register_servers"),
        handlers=contributions.of("nexus_register_event_handlers"),
        front=front,
        app=front(_apps(contributions, routes)),
    )


class _Front:
    """Makes one application of those under several paths, with all that stands in front of them."""

    def __init__(
        self, state: PlatformState, middleware: Sequence[tuple[str, Middleware]], proxies: TrustedProxies | None
    ) -> None:
        self._options = state.options
        self._timers = state.timers
        self._proxies = proxies
        self._middleware = middleware

    def __call__(self, apps: Iterable[tuple[str, ASGIApp]]) -> ASGIApp:
        app: ASGIApp = PathRouter(apps)
        for plugin, wrap in reversed(self._middleware):
            try:
                app = wrap(app)
            except Exception as exc:  # without it, what it protects would be open
                raise PluginError(f'The middleware of the plugin "{plugin}" failed: {one_line(exc)}') from exc
        options = self._options
        guarded = Guard(app, self._timers, options.max_body_bytes, options.body_timeout)
        return PublicAddress(guarded, options, self._proxies) if PublicAddress.is_needed(options) else guarded


def _answer_link(public_url: str | None, channels: Sequence[Channel], token: str) -> str:
    """Return the link to a question.

    Raises:
        ConfigurationError: The address for callers is not known, or no channel has one for answers.
    """
    path = next((channel.answers for channel in channels if channel.answers), None)
    if path is None:
        raise ConfigurationError("A question has no link: no active channel has an address for answers.")
    if not public_url:
        raise ConfigurationError("public_url must be set for links to questions: the platform's address for callers.")
    return f"{public_url.rstrip('/')}{path}/{token}"


def _authenticates(chain: Sequence[Interceptor]) -> bool:
    return any(each.stage == Stage.AUTHENTICATE for each in chain)


def _refuse_idle_guards(guards: set[str], contributions: Contributions) -> None:
    """Make sure that the plugins that guard access do so, each by what it contributes itself."""
    interceptors = contributions.by_plugin("nexus_register_interceptors")
    authorizers = {plugin for plugin, _ in contributions.by_plugin("nexus_register_authorizers")}
    authenticates = {plugin for plugin, item in interceptors if item.stage == Stage.AUTHENTICATE}
    own = guards & {first_party.provider("authentication")[0]}
    if own - (authenticates & authorizers):
        raise PluginError(f"The plugin {_quoted(own)} is on, but has no stage that authenticates, or no authorizer.")
    idle = guards - authorizers - {plugin for plugin, _ in interceptors}
    if idle:
        raise PluginError(
            f"The plugin {_quoted(idle)} guards access, but has neither an interceptor nor an authorizer."
        )


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f'"{name}"' for name in sorted(names))


def _apps(contributions: Contributions, routes: Sequence[Route]) -> list[tuple[str, ASGIApp]]:
    added = [(route.path, route.app) for route in routes]
    embedded = [(channel, app) for channel, app in contributions.apps if channel.is_embedded]
    return added + [(path, app) for channel, app in embedded for path in channel.paths]


async def stop(state: PlatformState, running: Running) -> None:
    """Let running work finish within ``shutdown_grace`` seconds, cancel the rest, stop channels, then plugins."""
    await finish_work(state, running)
    await running.contributions.stop_channels()
    await running.event_log.close()
    await running.serial.close()
    await running.desk.close()
    if running.recorder is not None:
        await running.recorder.close()
    state.event_log = state.own_event_log
    await state.events.close()  # plugins' handlers may use what their nexus_shutdown closes
    for handler in running.handlers:
        state.events.remove_handler(handler)
    await running.contributions.stop()


async def finish_work(state: PlatformState, running: Running) -> None:
    """Refuse new work; wait for what runs, at most ``shutdown_grace`` seconds; then cancel it, and end streams.

    Done once, while connections are still open.
    """
    if running.work_is_finished:
        return
    admission = running.admission
    admission.close()
    if running.durable is not None:
        await running.durable.close()
    for run in state.runs.running():
        if running.desk.is_waiting(run):  # an answer may take days
            run.cancel()
    if not await _within(state.options.shutdown_grace, admission.idle()):
        left = state.runs.running()
        if left:  # a run that was cancelled before has ended, though its work may go on
            log.warning("shutdown_grace has passed: cancelling %d runs", len(left))
        for run in left:
            run.cancel()
        await _within(CANCEL_SECONDS, admission.idle())
    # Work that was told to stop before, at its time limit perhaps, may clean up. A thread that has not stopped won't.
    if tasks := [work for work in admission.lingering() if isinstance(work, asyncio.Task)]:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
    if left_behind := admission.lingering():
        log.info("%d runs continue after their cancellation and are abandoned", len(left_behind))
    running.work_is_finished = True
    await _drain(running.channels)


async def _within(seconds: float, work: Awaitable[object]) -> bool:
    """Wait for something, for at most so many seconds. Returns whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return False
    return True


async def _drain(channels: Sequence[Channel]) -> None:
    for channel in channels:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await channel.drain()
        except Exception:
            log.exception("The channel %s failed to end its streams", channel.name)
