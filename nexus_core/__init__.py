"""The core of Nexus: register a workflow once, and every installed channel reaches it under one policy.

Names are imported when they are first used, so that ``nexus plugins list`` needs nothing but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_core.app import Nexus as Nexus
    from nexus_core.channel import (
        Channel as Channel,
    )
    from nexus_core.channel import (
        Command as Command,
    )
    from nexus_core.channel import (
        Listener as Listener,
    )
    from nexus_core.channel import (
        Route as Route,
    )
    from nexus_core.channel import (
        Server as Server,
    )
    from nexus_core.channel_config import ChannelConfig as ChannelConfig
    from nexus_core.config import ProductionConfig as ProductionConfig
    from nexus_core.context import Context as Context
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
    from nexus_core.event_handlers import EventHandler as EventHandler
    from nexus_core.events import ChannelEvent as ChannelEvent
    from nexus_core.invocation import (
        Invocation as Invocation,
    )
    from nexus_core.invocation import (
        Principal as Principal,
    )
    from nexus_core.invocation import (
        Result as Result,
    )
    from nexus_core.markers import hookimpl as hookimpl
    from nexus_core.options import (
        CoreSettings as CoreSettings,
    )
    from nexus_core.options import (
        PluginSettings as PluginSettings,
    )
    from nexus_core.pipeline import (
        Call as Call,
    )
    from nexus_core.pipeline import (
        Interceptor as Interceptor,
    )
    from nexus_core.pipeline import (
        Stage as Stage,
    )
    from nexus_core.resolvers import (
        ParameterResolver as ParameterResolver,
    )
    from nexus_core.resolvers import (
        ParameterSource as ParameterSource,
    )
    from nexus_core.runs import (
        Run as Run,
    )
    from nexus_core.runs import (
        RunStatus as RunStatus,
    )
    from nexus_core.sessions import (
        Session as Session,
    )
    from nexus_core.sessions import (
        SessionStore as SessionStore,
    )
    from nexus_core.workflow import (
        Workflow as Workflow,
    )
    from nexus_core.workflow import (
        WorkflowAdapter as WorkflowAdapter,
    )

_HOMES = {
    "app": ("Nexus",),
    "channel": ("Channel", "Command", "Listener", "Route", "Server"),
    "channel_config": ("ChannelConfig",),
    "config": ("ProductionConfig",),
    "context": ("Context",),
    "errors": (
        "AuthenticationError", "BackendUnavailable", "CircuitOpen", "ConfigurationError", "Conflict",
        "MalformedRequest", "NexusError", "NotFound", "Overloaded", "PermissionDenied", "PluginError", "PortInUse",
        "RateLimited", "RunCancelled", "RunNotFound", "SessionNotFound", "ValidationError", "WorkflowError",
        "WorkflowFailed", "WorkflowNotFound", "WorkflowTimeout",
    ),
    "event_handlers": ("EventHandler",),
    "events": ("ChannelEvent",),
    "invocation": ("Invocation", "Principal", "Result"),
    "markers": ("hookimpl",),
    "options": ("CoreSettings", "PluginSettings"),
    "pipeline": ("Call", "Interceptor", "Stage"),
    "resolvers": ("ParameterResolver", "ParameterSource"),
    "runs": ("Run", "RunStatus"),
    "sessions": ("Session", "SessionStore"),
    "workflow": ("Workflow", "WorkflowAdapter"),
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
