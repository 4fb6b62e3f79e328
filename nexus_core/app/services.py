"""`Services`: the objects that plugins have for applications and workflows, such as pools of connections."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from nexus_core.errors import ConfigurationError
from nexus_core.options import first_party
from nexus_core.text import nearest, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.plugins.manager import PluginManager

_HOOK = "nexus_register_services"


class Services:
    """The services of one `Nexus`. Plugins are asked for them once, when the first is asked for.

    They stay the same objects through every start and stop.

    Args:
        plugins: Returns the plugins.
    """

    def __init__(self, plugins: Callable[[], PluginManager]) -> None:
        self._plugins = plugins
        self._given: dict[str, list[tuple[str, object]]] | None = None
        self._lock = threading.Lock()

    def get(self, name: str) -> Any:
        """Return a service by name, on any thread.

        Raises:
            ConfigurationError: No service has that name, or several plugins give one.
        """
        given, plugins = self._every(), self._plugins()
        found = [(plugin, service) for plugin, service in given.get(name, ()) if plugins.is_active(plugin)]
        if len(found) == 1:
            return found[0][1]
        if found:
            both = " and ".join(
                f"{plugins.origin(plugin)} ({plugin})" for plugin, _ in sorted(found, key=itemgetter(0))
            )
            raise ConfigurationError(f"Several plugins provide the service {name!r}: {both}; disable all but one.")
        raise ConfigurationError(_advice(name, given, plugins))

    def _every(self) -> dict[str, list[tuple[str, object]]]:
        if self._given is None:
            with self._lock:
                self._given = self._given if self._given is not None else self._collect()
        return self._given

    def _collect(self) -> dict[str, list[tuple[str, object]]]:
        found: dict[str, list[tuple[str, object]]] = {}
        plugins = self._plugins()
        for plugin, services in plugins.collect(_HOOK):
            if not (isinstance(services, Mapping) and all(isinstance(name, str) for name in services)):
                plugins.fail(plugin, f"{_HOOK} returned a {type(services).__name__}, not objects by name")
                continue
            for name, service in services.items():
                found.setdefault(name, []).append((plugin, service))
        return found


def _advice(name: str, given: Mapping[str, list[tuple[str, object]]], plugins: PluginManager) -> str:
    """Return why there is no such service, and what would give it."""
    complaint = f"There is no service {printable(name)!r}"
    owner, option = first_party.SERVICES.get(name, (next((plugin for plugin, _ in given.get(name, ())), ""), ""))
    on = f"set {option}" if option else ""
    if owner in plugins.active():
        return f'{complaint}: the plugin "{owner}" gives it, where it is switched on{on and f": {on}"}.'
    if owner in (inactive := plugins.inactive()):
        return f'{complaint}: the plugin "{owner}" gives it, which is not active: {inactive[owner]}'
    if owner:
        install = first_party.install(owner)
        return f'{complaint}: it needs the plugin "{owner}": {install}{on and f", and {on}"}.'
    near = nearest(name, [*given, *first_party.SERVICES])
    return complaint + (f"; did you mean {near!r}?" if near else ".")
