"""All of Nexus under one name: `Nexus` and whatever else the core has; submodules have what belongs to plugins.

Nothing is imported before it is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import nexus_core

if TYPE_CHECKING:
    from nexus_core import (
        AuthenticationError as AuthenticationError,
    )
    from nexus_core import (
        BackendUnavailable as BackendUnavailable,
    )
    from nexus_core import (
        Call as Call,
    )
    from nexus_core import (
        Channel as Channel,
    )
    from nexus_core import (
        ChannelConfig as ChannelConfig,
    )
    from nexus_core import (
        ChannelEvent as ChannelEvent,
    )
    from nexus_core import (
        CircuitOpen as CircuitOpen,
    )
    from nexus_core import (
        Command as Command,
    )
    from nexus_core import (
        ConfigurationError as ConfigurationError,
    )
    from nexus_core import (
        Conflict as Conflict,
    )
    from nexus_core import (
        Context as Context,
    )
    from nexus_core import (
        CoreSettings as CoreSettings,
    )
    from nexus_core import (
        EventHandler as EventHandler,
    )
    from nexus_core import (
        Interceptor as Interceptor,
    )
    from nexus_core import (
        Invocation as Invocation,
    )
    from nexus_core import (
        Listener as Listener,
    )
    from nexus_core import (
        MalformedRequest as MalformedRequest,
    )
    from nexus_core import (
        Nexus as Nexus,
    )
    from nexus_core import (
        NexusError as NexusError,
    )
    from nexus_core import (
        NotFound as NotFound,
    )
    from nexus_core import (
        Overloaded as Overloaded,
    )
    from nexus_core import (
        ParameterResolver as ParameterResolver,
    )
    from nexus_core import (
        ParameterSource as ParameterSource,
    )
    from nexus_core import (
        PermissionDenied as PermissionDenied,
    )
    from nexus_core import (
        PluginError as PluginError,
    )
    from nexus_core import (
        PluginSettings as PluginSettings,
    )
    from nexus_core import (
        PortInUse as PortInUse,
    )
    from nexus_core import (
        Principal as Principal,
    )
    from nexus_core import (
        ProductionConfig as ProductionConfig,
    )
    from nexus_core import (
        RateLimited as RateLimited,
    )
    from nexus_core import (
        Result as Result,
    )
    from nexus_core import (
        Route as Route,
    )
    from nexus_core import (
        Run as Run,
    )
    from nexus_core import (
        RunCancelled as RunCancelled,
    )
    from nexus_core import (
        RunNotFound as RunNotFound,
    )
    from nexus_core import (
        RunStatus as RunStatus,
    )
    from nexus_core import (
        Server as Server,
    )
    from nexus_core import (
        Session as Session,
    )
    from nexus_core import (
        SessionNotFound as SessionNotFound,
    )
    from nexus_core import (
        SessionStore as SessionStore,
    )
    from nexus_core import (
        Stage as Stage,
    )
    from nexus_core import (
        ValidationError as ValidationError,
    )
    from nexus_core import (
        Workflow as Workflow,
    )
    from nexus_core import (
        WorkflowAdapter as WorkflowAdapter,
    )
    from nexus_core import (
        WorkflowError as WorkflowError,
    )
    from nexus_core import (
        WorkflowFailed as WorkflowFailed,
    )
    from nexus_core import (
        WorkflowNotFound as WorkflowNotFound,
    )
    from nexus_core import (
        WorkflowTimeout as WorkflowTimeout,
    )
    from nexus_core import (
        hookimpl as hookimpl,
    )

__all__ = nexus_core.__all__


def _refuse_name_clash() -> None:
    """Say it when ``kailash-nexus``, whose package has the same name, is installed into this folder.

    Raises:
        ImportError: It is: of some modules there are its files, of others there are these.
    """
    folder = os.path.dirname(os.path.abspath(__file__))
    if any(entry.startswith("kailash_nexus-") for entry in os.listdir(os.path.dirname(folder))):
        from nexus_core.plugins.shadows import name_clash

        if (clash := name_clash(folder)) is not None:
            raise ImportError(clash)


_refuse_name_clash()


if not TYPE_CHECKING:  # a type checker would take every name for one of these

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(nexus_core, name)


def __dir__() -> list[str]:
    return [*__all__, *globals()]
