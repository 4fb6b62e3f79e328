"""What the contributions to each hook must be: the contract's class says which members there are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from nexus_core.concurrency.threads import ENDS_PROCESS
from nexus_core.events.shared_log import EventTransport
from nexus_core.pipeline.authorization import Authorizer
from nexus_core.pipeline.stage import Interceptor
from nexus_core.runs.engine import RunEngine
from nexus_core.runs.store import RunStore
from nexus_core.server.channel import Channel, Route, Server
from nexus_core.state.sessions import SessionStore
from nexus_core.state.stores import Store
from nexus_core.text import one_line
from nexus_core.types.health import HealthCheck
from nexus_core.types.measurement import Collector, Measurement
from nexus_core.workflows.workflow import WorkflowAdapter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nexus_core.plugins.manager import PluginManager


class _Resolver(Protocol):
    def resolve_parameters(self, workflow_name: str, channel: str, raw_params: Mapping[str, Any]) -> Any: ...


AT_START: dict[str, Any] = {
    "nexus_register_stores": Store,
    "nexus_register_authorizers": Authorizer,
    "nexus_register_interceptors": Interceptor,
    "nexus_register_session_stores": SessionStore,
    "nexus_register_run_stores": RunStore,
    "nexus_register_run_engines": RunEngine,
    "nexus_register_event_transports": EventTransport,
    "nexus_register_parameter_resolvers": _Resolver,
    "nexus_register_event_handlers": Callable,
    "nexus_register_routes": Route,
    "nexus_register_middleware": Callable,
    "nexus_register_servers": Server,
    "nexus_register_measurements": Measurement,
    "nexus_register_health_checks": HealthCheck,
    "nexus_register_channels": Channel,
}
"""The hooks called at each start, in this order, and the contract of their contributions."""

CONTRACTS = AT_START | {
    "nexus_register_workflow_adapters": WorkflowAdapter,
    "nexus_register_metrics_collectors": Collector,
}

NAMED = {
    "nexus_register_stores": "store",
    "nexus_register_run_stores": "run store",
    "nexus_register_run_engines": "run engine",
    "nexus_register_event_transports": "event transport",
    "nexus_register_servers": "server",
    "nexus_register_channels": "channel",
}
"""Hooks whose contributions are chosen by name: no two plugins can provide the same one."""


def provided(hook: str, item: Any) -> str:
    """Return what a contribution is to others, in words, where no two plugins can provide the same; else ""."""
    if hook == "nexus_register_routes":
        return f"the route {item.path.rstrip('/') or '/'!r}" + (f" of {item.channel!r}" if item.channel != "" else "")
    return f"the {NAMED[hook]} {item.name!r}" if hook in NAMED else ""


def usable(plugins: PluginManager, hook: str) -> list[tuple[str, Any]]:
    """Return the contributions to a hook with their plugins. A plugin whose contribution can't be used fails."""
    return [each for each in plugins.collect(hook) if not refused(plugins, hook, *each)]


def refused(plugins: PluginManager, hook: str, plugin: str, item: Any) -> bool:
    """Let a plugin fail if its contribution to a hook can't be used. Returns whether it has failed."""
    try:
        wrong = _flaw(hook, item)
    except (Exception, *ENDS_PROCESS) as exc:
        wrong = f"that fails: {one_line(exc)}"
    if wrong:
        plugins.fail(plugin, f"{hook} returned a {type(item).__name__} {wrong}")
    return bool(wrong)


def _flaw(hook: str, item: Any) -> str:
    contract = CONTRACTS[hook]
    if contract is Callable:
        if not callable(item):
            return "that can't be called"
    elif missing := next(_missing(contract, item), ""):
        return f"without {missing!r}"
    if hook == "nexus_register_middleware" and not callable(item(_nothing)):
        return "that returns no application"
    if hook in NAMED and not isinstance(item.name, str):
        return f"whose name is {item.name!r}"
    if hook == "nexus_register_channels" and not all(isinstance(path, str) for path in item.paths):
        return f"whose paths are {item.paths!r}"
    if hook == "nexus_register_routes" and not (isinstance(item.path, str) and item.path.startswith("/")):
        return f"whose path is {item.path!r}: it must begin with /"
    if hook == "nexus_register_interceptors" and not isinstance(item.stage, int):
        return f"whose stage is {item.stage!r}"
    return ""


def _missing(contract: type, item: Any) -> Iterator[str]:
    """Yield the members of a contract that an object does not have; an instance of its class has all."""
    if not getattr(contract, "_is_protocol", False) and issubclass(type(item), contract):
        return
    for name in members(contract):
        if not hasattr(item, name):
            yield name


def members(contract: type) -> list[str]:
    """Return the members that a contract's class declares, its bases' included."""
    if dataclasses.is_dataclass(contract):
        return [field.name for field in dataclasses.fields(contract)]
    found: dict[str, None] = {}
    for cls in reversed(contract.__mro__[:-1]):
        if cls is Protocol or cls.__module__ == "typing":
            continue
        declared = [*inspect.get_annotations(cls), *vars(cls)]
        found |= dict.fromkeys(name for name in declared if name == "__call__" or not name.startswith("_"))
    return list(found)


async def _nothing(*_: Any) -> None:
    """Stand in for an application while middleware is tried."""
