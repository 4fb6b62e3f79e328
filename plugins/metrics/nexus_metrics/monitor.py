"""`Monitor`: everything that one platform counts, brought together when somebody wants to read it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nexus_metrics.calls import CallMetrics
from nexus_metrics.collector import MetricsCollector
from nexus_metrics.families import COUNTER, GAUGE, Family, summed
from nexus_metrics.lag import LoopLag
from nexus_metrics.process import process_families
from nexus_metrics.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_core import Nexus
    from nexus_core.measurements import Measurement
    from nexus_metrics.otlp import Pusher
    from nexus_metrics.processes import Processes

log = logging.getLogger(__name__)


class Monitor:
    """The metrics of one platform.

    Attributes:
        default: The collector for code that has registered none.
        calls: The stage that counts calls.
        pusher: What sends metrics, while the platform is started.
    """

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus
        self.default = MetricsCollector()
        self.calls = CallMetrics(self._told)
        self._lag = LoopLag()
        self._telling: dict[int, Telling] = {}
        self._complained: set[str] = set()
        self.pusher: Pusher | None = None
        self._processes: Processes | None = None
        self._unlisten: Callable[[], None] = _nothing

    def start(self, processes: Processes | None) -> None:
        """Begin with what is done beside calls, on the running event loop."""
        self._processes = processes
        self._unlisten = self._nexus.events.listen(self.calls.heard)
        self._lag.start()

    async def stop(self) -> None:
        """End it."""
        self._unlisten()
        self._lag.stop()
        await asyncio.gather(*(each.close() for each in self._telling.values()))
        if self._processes is not None:
            processes, self._processes = self._processes, None
            await self._nexus.threads.call(processes.close, self.own_families())

    def _told(self, workflow: str, seconds: float, success: bool) -> None:
        for collector in self._nexus.metrics_collectors:
            self._telling_of(collector).run(workflow, seconds, success)

    def _telling_of(self, collector: object) -> Telling:
        found = self._telling.get(id(collector))
        if found is None:
            found = self._telling[id(collector)] = Telling(collector, self._nexus.threads)  # type: ignore[arg-type]
        return found

    async def refresh(self) -> None:
        """Let collectors look at the channels, before metrics are read. Call it on the platform's event loop."""
        told = self.calls.errors_since()
        every = [self._telling_of(collector) for collector in self._nexus.metrics_collectors]
        await asyncio.gather(*(each.channels(told) for each in every))

    def families(self) -> list[Family]:
        """Return what there is to read: of all processes, where they are to add up. Call it in a thread."""
        own = self.own_families()
        return own if self._processes is None else self._processes.all(own)

    def own_families(self) -> list[Family]:
        """Return what this process has counted."""
        every = [*self.calls.families(), *self._measured(), *self._own(), *process_families()]
        for collector in [*self._nexus.metrics_collectors, self.default]:
            if isinstance(collector, MetricsCollector):
                every += collector.metrics.families()
        return summed(every)

    def _own(self) -> Iterable[Family]:
        tellings = list(self._telling.values())
        dropped: dict[tuple[str, ...], float] = {}
        for each in tellings:
            key = (type(each.collector).__name__,)
            dropped[key] = dropped.get(key, 0) + each.dropped
        overflowed: dict[tuple[str, ...], float] = {
            (type(each).__name__,): float(each.metrics.overflowed)
            for each in [*self._nexus.metrics_collectors, self.default]
            if isinstance(each, MetricsCollector)
        }
        yield Family(
            "nexus_event_loop_lag_seconds", GAUGE, "The longest time that the event loop was late, since it was read.",
            (), {(): self._lag.take_longest()},
        )  # fmt: skip
        yield Family(
            "nexus_metrics_dropped_total", COUNTER, "Runs that a metrics collector was too slow for.", ("collector",),
            dropped,
        )  # fmt: skip
        yield Family(
            "nexus_metrics_overflowed_total", COUNTER,
            "Numbers that came under another label, because a metric had too many.", ("collector",), overflowed,
        )  # fmt: skip

    def _measured(self) -> Iterable[Family]:
        for measurement in self._nexus.measurements():
            try:
                yield _family(measurement)
            except Exception as exc:
                if measurement.name not in self._complained:
                    self._complained.add(measurement.name)
                    log.error("The measurement %s can't be read", measurement.name, exc_info=exc)


def _nothing() -> None:
    """There is no listener yet."""


def _family(measurement: Measurement) -> Family:
    numbers = {tuple(str(each) for each in labels): float(number) for labels, number in measurement.read()}
    if any(len(labels) != len(measurement.labels) for labels in numbers):
        raise ValueError(f"its labels are {', '.join(measurement.labels) or 'none'}")
    return Family(measurement.name, measurement.kind, measurement.description, tuple(measurement.labels), numbers)
