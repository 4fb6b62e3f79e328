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
        Command as Command,
        Listener as Listener,
        Route as Route,
        Server as Server,
    )
    from nexus_core.context import Context as Context
    from nexus_core.errors import (
        AuthenticationError as AuthenticationError,
        BackendUnavailable as BackendUnavailable,
        CircuitOpen as CircuitOpen,
        ConfigurationError as ConfigurationError,
        Conflict as Conflict,
        MalformedRequest as MalformedRequest,
        NexusError as NexusError,
        NotFound as NotFound,
        Overloaded as Overloaded,
        PermissionDenied as PermissionDenied,
        PluginError as PluginError,
        PortInUse as PortInUse,
        RateLimited as RateLimited,
        RunCancelled as RunCancelled,
        RunNotFound as RunNotFound,
        SessionNotFound as SessionNotFound,
        ValidationError as ValidationError,
        WorkflowError as WorkflowError,
        WorkflowFailed as WorkflowFailed,
        WorkflowNotFound as WorkflowNotFound,
        WorkflowTimeout as WorkflowTimeout,
    )
    from nexus_core.events import ChannelEvent as ChannelEvent
    from nexus_core.invocation import (
        Invocation as Invocation,
        Principal as Principal,
        Result as Result,
    )
    from nexus_core.markers import hookimpl as hookimpl
    from nexus_core.options import (
        CoreSettings as CoreSettings,
        PluginSettings as PluginSettings,
    )
    from nexus_core.pipeline import (
        Call as Call,
        Interceptor as Interceptor,
        Stage as Stage,
    )
    from nexus_core.resolvers import ParameterResolver as ParameterResolver
    from nexus_core.runs import (
        Run as Run,
        RunStatus as RunStatus,
    )
    from nexus_core.sessions import (
        Session as Session,
        SessionStore as SessionStore,
    )
    from nexus_core.workflow import (
        Workflow as Workflow,
        WorkflowAdapter as WorkflowAdapter,
    )

_HOMES = {
    "app": ("Nexus",),
    "channel": ("Channel", "Command", "Listener", "Route", "Server"),
    "context": ("Context",),
    "errors": (
        "AuthenticationError", "BackendUnavailable", "CircuitOpen", "ConfigurationError", "Conflict",
        "MalformedRequest", "NexusError", "NotFound", "Overloaded", "PermissionDenied", "PluginError", "PortInUse",
        "RateLimited", "RunCancelled", "RunNotFound", "SessionNotFound", "ValidationError", "WorkflowError",
        "WorkflowFailed", "WorkflowNotFound", "WorkflowTimeout",
    ),
    "events": ("ChannelEvent",),
    "invocation": ("Invocation", "Principal", "Result"),
    "markers": ("hookimpl",),
    "options": ("CoreSettings", "PluginSettings"),
    "pipeline": ("Call", "Interceptor", "Stage"),
    "resolvers": ("ParameterResolver",),
    "runs": ("Run", "RunStatus"),
    "sessions": ("Session", "SessionStore"),
    "workflow": ("Workflow", "WorkflowAdapter"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
