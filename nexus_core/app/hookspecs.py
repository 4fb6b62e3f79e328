"""Every hook a plugin may implement. All are sync but ``nexus_startup`` and ``nexus_shutdown``.

Implement the ones you need as methods of a `nexus_core.Plugin`, without the argument ``nexus`` (it is
``self.platform``), or as functions of a module, marked with `nexus_core.hookimpl`; leave out arguments you do not use.
Hooks are called with plugins in the order of their names, unless an implementation asks for ``tryfirst`` or
``trylast``. What a hook returns may have async methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.plugins.markers import hookspec

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable, Mapping

    from nexus_core.app.platform import Platform
    from nexus_core.events.event import Handler
    from nexus_core.events.shared_log import EventTransport
    from nexus_core.options.settings import PluginSettings
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.pipeline.resolvers import ParameterResolver
    from nexus_core.pipeline.stage import Interceptor
    from nexus_core.runs.engine import RunEngine
    from nexus_core.runs.store import RunStore
    from nexus_core.server.channel import Channel, Command, Middleware, Route, Server
    from nexus_core.state.sessions import SessionStore
    from nexus_core.state.stores import Store
    from nexus_core.types.health import HealthCheck
    from nexus_core.types.measurement import Collector, Measurement
    from nexus_core.workflows.workflow import WorkflowAdapter


@hookspec
def nexus_register_settings() -> type[PluginSettings]:
    """Return the model of the plugin's options. Called when the plugin is loaded, before any other hook.

    Each field is an option under its own flat name: ``cache_ttl`` is ``Nexus(cache_ttl=...)``, ``NEXUS_CACHE_TTL``
    and ``cache_ttl:`` in the configuration file. Two plugins can't have the same option.

    Example::

        class GreetingSettings(PluginSettings):
            greeting: str = "hello"

        @hookimpl
        def nexus_register_settings():
            return GreetingSettings

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_workflow_adapters(nexus: Platform) -> Iterable[WorkflowAdapter]:
    """Return adapters that make workflows of a library's objects. Called when the `Nexus` is made.

    The first adapter whose ``adapts`` says yes is used, plain callables last.

    Example::

        @hookimpl
        def nexus_register_workflow_adapters(nexus):
            return [LangGraphAdapter()]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_channels(nexus: Platform) -> Iterable[Channel]:
    """Return the channels the plugin gives. Called at start-up.

    Example::

        @hookimpl
        def nexus_register_channels(nexus):
            return [ApiChannel(nexus, nexus.settings(ApiSettings))]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_servers(nexus: Platform) -> Iterable[Server]:
    """Return servers that can listen for channels. Called at start-up; the option ``server`` chooses by name.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_interceptors(nexus: Platform) -> Iterable[Interceptor]:
    """Return the plugin's stages of the pipeline, only enabled ones. Called at start-up.

    Example::

        class Stamp:
            stage = Stage.OBSERVE

            async def __call__(self, invocation, call_next):
                result = await call_next(invocation)
                print(invocation.name, result.duration)
                return result

        @hookimpl
        def nexus_register_interceptors(nexus):
            return [Stamp()]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_parameter_resolvers(nexus: Platform) -> Iterable[ParameterResolver]:
    """Return resolvers that complete or rewrite raw parameters before they are checked. Called at start-up.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_session_stores(nexus: Platform) -> Iterable[SessionStore]:
    """Return a store for sessions in place of the one in memory. Called at start-up; at most one may be given.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_stores(nexus: Platform) -> Iterable[Store]:
    """Return stores for shared state, in addition to the one in memory. Called at start-up; options choose one by name.

    Example::

        @hookimpl
        def nexus_register_stores(nexus):
            return [EtcdStore(nexus.settings(EtcdSettings))]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_run_stores(nexus: Platform) -> Iterable[RunStore]:
    """Return stores that keep runs for every process that uses them. Called at start-up; ``run_store`` chooses one.

    The platform opens and closes the chosen one. `nexus_core.testing.RunStoreContract` tests a store.

    Example::

        @hookimpl
        def nexus_register_run_stores(nexus):
            return [EtcdRunStore(nexus.settings(EtcdSettings))]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_run_engines(nexus: Platform) -> Iterable[RunEngine]:
    """Return engines that do the work of durable runs. Called at start-up; ``run_engine`` chooses one.

    The platform opens and closes the chosen one.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_event_transports(nexus: Platform) -> Iterable[EventTransport]:
    """Return what carries events between processes. Called at start-up; ``event_backend`` chooses one by name.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_authorizers(nexus: Platform) -> Iterable[Authorizer]:
    """Return what decides who may do what, only where that is switched on. Called at start-up; all must agree.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_event_handlers(nexus: Platform) -> Iterable[Handler]:
    """Return callables that take each `ChannelEvent`, in order, apart from the request. Called at start-up.

    Example::

        @hookimpl
        def nexus_register_event_handlers(nexus):
            return [lambda event: print(event.type, event.run_id)]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_routes(nexus: Platform) -> Iterable[Route]:
    """Return ASGI applications to be served next to a channel's own addresses. Called at start-up.

    Example::

        @hookimpl
        def nexus_register_routes(nexus):
            return [Route("/ping", ping_app)]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_middleware(nexus: Platform) -> Iterable[Middleware]:
    """Return functions that put something in front of every channel that listens. Called at start-up.

    Each takes an ASGI application and returns one. It is called once for each port, and the first is the outermost.
    Policies do not belong here but in an interceptor, which every channel passes: only what concerns HTTP alone does.

    Example::

        def named(app):
            async def answer(scope, receive, send):
                async def send_named(message):
                    if message["type"] == "http.response.start":
                        message["headers"] = [*message["headers"], (b"x-served-by", b"one")]
                    await send(message)
                await app(scope, receive, send_named)
            return answer

        @hookimpl
        def nexus_register_middleware(nexus):
            return [named]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_services(nexus: Platform) -> Mapping[str, object]:
    """Return objects that applications and workflows use, by name, only enabled ones.

    Called in a thread when the first is asked for, by `Nexus.service` or `Context.service`, possibly before the start.
    They are kept through every start and stop: what they open, `nexus_shutdown` closes. Two plugins can't give the same
    name.

    Example::

        @hookimpl
        def nexus_register_services(nexus):
            return {"greeter": Greeter(nexus.settings(GreetingSettings))}

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_measurements(nexus: Platform) -> Iterable[Measurement]:
    """Return numbers that the plugin keeps, for plugins that export metrics. Called at start-up.

    Example::

        @hookimpl
        def nexus_register_measurements(nexus):
            return [Measurement.of("greetings_total", "counter", "Greetings.", lambda: greeter.count)]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_metrics_collectors(nexus: Platform) -> Iterable[Collector]:
    """Return what takes numbers from user code, only where that is switched on. Called when it is first asked for.

    The last one is `Nexus.metrics_collector`, unless the application has registered one.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_health_checks(nexus: Platform) -> Iterable[HealthCheck]:
    """Return health checks of what the plugin needs. Called at start-up.

    Example::

        @hookimpl
        def nexus_register_health_checks(nexus):
            return [HealthCheck("etcd", client.ping)]

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_log_handlers(nexus: Platform) -> Iterable[logging.Handler]:
    """Return where log records go when `Nexus.start` owns the process and logging is not configured.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_register_commands(nexus: Platform) -> Iterable[Command]:
    """Return commands for the command line. Called when it is asked for a command it does not have itself.

    An implementation without the argument ``nexus`` is also called where the application can't be loaded, or an option
    is wrong: for commands that help then.

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
def nexus_renew_login(login: dict[str, Any]) -> dict[str, Any] | None:
    """Return a login in place of one whose token has expired, or None where it is another's or can't be renewed.

    Called by the command line before it calls a server, while no other command line can; see
    `nexus_toolkit.login_file`. A `NexusError` that it raises is shown to the user, such as that the server does not
    answer.

    Example::

        @hookimpl
        def nexus_renew_login(login):
            if login.get("issued_by") == "my-issuer":
                return login | ask_for_a_new_token(login["refresh_token"])

    .. versionadded:: 0.1
    """
    raise NotImplementedError


@hookspec
async def nexus_startup(nexus: Platform) -> Any:
    """Open what the plugin needs. Awaited at start-up, plugin by plugin, each for at most ``plugin_timeout`` seconds.

    A plugin that raises or takes too long is rolled back; everything else starts.

    .. versionadded:: 0.1
    """


@hookspec
async def nexus_shutdown(nexus: Platform) -> Any:
    """Close what `nexus_startup` opened. Awaited in the reverse order, under the same time limit.

    .. versionadded:: 0.1
    """
