"""The core of Nexus: register a workflow once, and every installed channel reaches it under one policy.

Names are imported when they are first used, so that ``nexus plugins list`` needs nothing but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_core.app.nexus import Nexus as Nexus
    from nexus_core.app.platform import Platform as Platform
    from nexus_core.app.plugin import Plugin as Plugin
    from nexus_core.errors import (
        AuthenticationError as AuthenticationError,
    )
    from nexus_core.errors import (
        BackendUnavailable as BackendUnavailable,
    )
    from nexus_core.errors import (
        CircuitOpen as CircuitOpen,
    )
    from nexus_core.errors import (
        ConfigurationError as ConfigurationError,
    )
    from nexus_core.errors import (
        Conflict as Conflict,
    )
    from nexus_core.errors import (
        MalformedRequest as MalformedRequest,
    )
    from nexus_core.errors import (
        NexusError as NexusError,
    )
    from nexus_core.errors import (
        NotFound as NotFound,
    )
    from nexus_core.errors import (
        Overloaded as Overloaded,
    )
    from nexus_core.errors import (
        PermissionDenied as PermissionDenied,
    )
    from nexus_core.errors import (
        PluginError as PluginError,
    )
    from nexus_core.errors import (
        PortInUse as PortInUse,
    )
    from nexus_core.errors import (
        RateLimited as RateLimited,
    )
    from nexus_core.errors import (
        RunCancelled as RunCancelled,
    )
    from nexus_core.errors import (
        RunNotFound as RunNotFound,
    )
    from nexus_core.errors import (
        SessionNotFound as SessionNotFound,
    )
    from nexus_core.errors import (
        ValidationError as ValidationError,
    )
    from nexus_core.errors import (
        WorkflowError as WorkflowError,
    )
    from nexus_core.errors import (
        WorkflowFailed as WorkflowFailed,
    )
    from nexus_core.errors import (
        WorkflowNotFound as WorkflowNotFound,
    )
    from nexus_core.errors import (
        WorkflowTimeout as WorkflowTimeout,
    )
    from nexus_core.events.event import ChannelEvent as ChannelEvent
    from nexus_core.events.handlers import EventHandler as EventHandler
    from nexus_core.options.channel import ChannelConfig as ChannelConfig
    from nexus_core.options.production import ProductionConfig as ProductionConfig
    from nexus_core.options.sources import CoreSettings as CoreSettings
    from nexus_core.options.sources import PluginSettings as PluginSettings
    from nexus_core.pipeline.invocation import Invocation as Invocation
    from nexus_core.pipeline.resolvers import ParameterResolver as ParameterResolver
    from nexus_core.pipeline.stage import Call as Call
    from nexus_core.pipeline.stage import Interceptor as Interceptor
    from nexus_core.pipeline.stage import Stage as Stage
    from nexus_core.plugins.markers import hookimpl as hookimpl
    from nexus_core.runs.context import Context as Context
    from nexus_core.runs.run import Run as Run
    from nexus_core.runs.run import RunStatus as RunStatus
    from nexus_core.server.channel import Channel as Channel
    from nexus_core.server.channel import Command as Command
    from nexus_core.server.channel import Listener as Listener
    from nexus_core.server.channel import Route as Route
    from nexus_core.server.channel import Server as Server
    from nexus_core.state.sessions import Session as Session
    from nexus_core.state.sessions import SessionStore as SessionStore
    from nexus_core.types.parameter_source import ParameterSource as ParameterSource
    from nexus_core.types.principal import Principal as Principal
    from nexus_core.types.result import Result as Result
    from nexus_core.workflows.workflow import Workflow as Workflow
    from nexus_core.workflows.workflow import WorkflowAdapter as WorkflowAdapter

_HOMES = {
    "app.nexus": ("Nexus",),
    "app.platform": ("Platform",),
    "app.plugin": ("Plugin",),
    "errors": (
        "AuthenticationError", "BackendUnavailable", "CircuitOpen", "ConfigurationError", "Conflict",
        "MalformedRequest", "NexusError", "NotFound", "Overloaded", "PermissionDenied", "PluginError", "PortInUse",
        "RateLimited", "RunCancelled", "RunNotFound", "SessionNotFound", "ValidationError", "WorkflowError",
        "WorkflowFailed", "WorkflowNotFound", "WorkflowTimeout",
    ),
    "events.event": ("ChannelEvent",),
    "events.handlers": ("EventHandler",),
    "options.channel": ("ChannelConfig",),
    "options.production": ("ProductionConfig",),
    "options.sources": ("CoreSettings", "PluginSettings"),
    "pipeline.invocation": ("Invocation",),
    "pipeline.resolvers": ("ParameterResolver",),
    "pipeline.stage": ("Call", "Interceptor", "Stage"),
    "plugins.markers": ("hookimpl",),
    "runs.context": ("Context",),
    "runs.run": ("Run", "RunStatus"),
    "server.channel": ("Channel", "Command", "Listener", "Route", "Server"),
    "state.sessions": ("Session", "SessionStore"),
    "types.parameter_source": ("ParameterSource",),
    "types.principal": ("Principal",),
    "types.result": ("Result",),
    "workflows.workflow": ("Workflow", "WorkflowAdapter"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


if not TYPE_CHECKING:  # a type checker would take every name for one of these

    def _imported(module: str) -> Any:
        try:
            return import_module(module)
        except UnicodeDecodeError:  # pydantic looks for plugins in all metadata, and only once: see `read_models`
            return import_module(module)

    def __getattr__(name: str) -> Any:
        module = _HOME_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(_imported(f"{__name__}.{module}"), name)
        except Exception as exc:
            from nexus_core.plugins.shadows import hidden_libraries

            if hidden := hidden_libraries():
                raise ImportError(" ".join(hidden)) from exc
            raise
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)
