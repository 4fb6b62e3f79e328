"""`Instrumentation`: lets libraries that others have instrumented for OpenTelemetry join the traces of a platform."""

from __future__ import annotations

import logging
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError
from nexus_core.text import nearest, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.metadata import EntryPoint

    from opentelemetry.trace import TracerProvider

log = logging.getLogger(__name__)

GROUP = "opentelemetry_instrumentor"


class Instrumentation:
    """Switches installed instrumentations on and off. Each is one in the whole process, whoever switches it on.

    Args:
        names: Their names, such as ``requests``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._on: list[Any] = []

    def start(self, tracers: TracerProvider) -> None:
        """Switch them on: outgoing calls become spans, and hand the trace on.

        Raises:
            ConfigurationError: One is not installed, or can't be loaded.
        """
        installed = {point.name: point for point in entry_points(group=GROUP)}
        try:
            for name in self._names:
                self._on.append(_switched_on(name, installed, tracers))
        except ConfigurationError:
            self.stop()
            raise

    def stop(self) -> None:
        """Switch them off."""
        while self._on:
            instrumentor = self._on.pop()
            try:
                instrumentor.uninstrument()
            except Exception:
                log.exception("An instrumentation could not be switched off")


def _switched_on(name: str, installed: Mapping[str, EntryPoint], tracers: TracerProvider) -> Any:
    if name not in installed:
        near = nearest(name, [*installed])
        hint = f"; did you mean {near!r}?" if near else f": pip install opentelemetry-instrumentation-{name}"
        raise ConfigurationError(f"tracing_instrument: {printable(name)!r} is not installed{hint}")
    try:
        instrumentor = installed[name].load()()
        instrumentor.instrument(tracer_provider=tracers)
    except Exception as exc:
        raise ConfigurationError(f"tracing_instrument: {name} can't be switched on: {exc}.") from exc
    return instrumentor
