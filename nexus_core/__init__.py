"""The core of Nexus: register a workflow once, and every installed channel reaches it under one policy.

Names are imported when they are first used, so that ``nexus plugins list`` needs nothing but the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {  # type checkers read the stub, which `make generate` writes from this
    "app.nexus": ("Nexus",),
    "app.platform": ("Platform",),
    "app.plugin": ("Plugin",),
    "errors": (
        "AuthenticationError", "BackendUnavailable", "CircuitOpen", "ConfigurationError", "Conflict",
        "MalformedRequest", "NexusError", "NotFound", "Overloaded", "PermissionDenied", "PluginError", "PortInUse",
        "RateLimited", "RunCancelled", "RunNotFound", "SessionNotFound", "StepTimeout", "ValidationError",
        "WorkflowError", "WorkflowFailed", "WorkflowNotFound", "WorkflowTimeout",
    ),
    "events.event": ("ChannelEvent",),
    "events.handlers": ("EventHandler",),
    "options.channel": ("ChannelConfig",),
    "options.production": ("ProductionConfig",),
    "options.settings": ("CoreSettings", "MetadataKey", "PluginSettings"),
    "pipeline.invocation": ("Caller", "Invocation"),
    "pipeline.resolvers": ("ParameterResolver",),
    "pipeline.stage": ("AnyCaller", "Call", "CallNext", "Interceptor", "Stage"),
    "plugins.markers": ("hookimpl",),
    "runs.context": ("Context",),
    "runs.run": ("Run",),
    "runs.status": ("RunStatus",),
    "schema.json_form": ("JsonForm", "schema_of"),
    "server.channel": ("Channel", "Command", "Listener", "Route", "Server"),
    "state.sessions": ("Session", "SessionStore"),
    "types.parameter_source": ("ParameterSource",),
    "types.principal": ("Principal",),
    "types.result": ("Result",),
    "workflows.function_form": ("FunctionForm", "input_schema_of", "output_schema_of"),
    "workflows.workflow": ("Workflow", "WorkflowAdapter"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


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
