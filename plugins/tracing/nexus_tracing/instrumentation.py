"""`Instrumentation`: lets libraries with OpenTelemetry instrumentations take part in the traces of a platform."""

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
    """Enables installed instrumentations: outgoing requests become spans and carry the trace context.

    An instrumentation is enabled for the whole process.

    Args:
        names: Names of instrumentations, such as ``requests``.
        tracers: Makes their spans.

    Raises:
        ConfigurationError: An instrumentation is not installed, or can't be loaded.
    """

    def __init__(self, names: Sequence[str], tracers: TracerProvider) -> None:
        self._enabled: list[Any] = []
        installed = {point.name: point for point in entry_points(group=GROUP)}
        try:
            for name in names:
                self._enabled.append(_enable(name, installed, tracers))
        except ConfigurationError:
            self.stop()
            raise

    def stop(self) -> None:
        """Disable them."""
        while self._enabled:
            instrumentor = self._enabled.pop()
            try:
                instrumentor.uninstrument()
            except Exception:
                log.exception("%s can't be disabled", type(instrumentor).__name__)


def _enable(name: str, installed: Mapping[str, EntryPoint], tracers: TracerProvider) -> Any:
    if name not in installed:
        near = nearest(name, [*installed])
        hint = f"; did you mean {near!r}?" if near else f": pip install opentelemetry-instrumentation-{name}"
        raise ConfigurationError(f"tracing_instrument: {printable(name)!r} is not installed{hint}")
    try:
        instrumentor = installed[name].load()()
        instrumentor.instrument(tracer_provider=tracers)
    except Exception as exc:
        raise ConfigurationError(f"tracing_instrument: {name} can't be enabled: {exc}.") from exc
    return instrumentor
