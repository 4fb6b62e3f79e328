"""`Monitor`: everything that one platform counts, brought together when somebody wants to read it."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from nexus_metrics.calls import CallMetrics
from nexus_metrics.collector import MetricsCollector, OwnMetrics, metrics_of
from nexus_metrics.families import COUNTER, GAUGE, Family, summed
from nexus_metrics.lag import LoopLag
from nexus_metrics.measured import Measured
from nexus_metrics.process import process_families
from nexus_metrics.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nexus_core import Nexus
    from nexus_metrics.otlp import Pusher
    from nexus_metrics.processes import Processes

log = logging.getLogger(__name__)


class Monitor:
    """The metrics of one platform.

    Attributes:
        default: The collector for code that has registered none.
        calls: The stage that counts calls.
        began: Since when it counts, in nanoseconds since the epoch.
        pusher: What sends metrics, while the platform is started.
    """

    def __init__(self, nexus: Nexus) -> None:
        self._nexus = nexus
        self.default = MetricsCollector()
        self.calls = CallMetrics(self._told)
        self._lag = LoopLag()
        self._measured = Measured(self._complain)
        self._telling: dict[int, Telling] = {}
        self._complained: set[str] = set()
        self.began = time.time_ns()
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
        told = self.calls.channels()
        every = [self._telling_of(collector) for collector in self._nexus.metrics_collectors]
        await asyncio.gather(*(each.channels(told) for each in every))

    def families(self) -> list[Family]:
        """Return what there is to read: of all processes, where they are to add up. Call it in a thread."""
        own = self.own_families()
        return own if self._processes is None else self._processes.all(own)

    def own_families(self) -> list[Family]:
        """Return what this process has counted."""
        every = [
            *self.calls.families(),
            *self._measured.families(self._nexus.measurements()),
            *self._own(),
            *process_families(),
        ]
        for _, metrics in self._collected():
            every += metrics.families()
        return summed(every)

    def _collected(self) -> Iterable[tuple[str, OwnMetrics]]:
        """Yield what each collector has, by the name of its class."""
        for collector in [*self._nexus.metrics_collectors, self.default]:
            if isinstance(collector, MetricsCollector):
                name = type(collector).__name__
                metrics: object = metrics_of(collector)
                if isinstance(metrics, OwnMetrics):
                    yield name, metrics
                else:
                    self._complain(f"The metrics of {name} can't be read: it has a _own_metrics of its own")

    def _own(self) -> Iterable[Family]:
        tellings = list(self._telling.values())
        dropped: dict[tuple[str, ...], float] = {}
        for each in tellings:
            key = (type(each.collector).__name__,)
            dropped[key] = dropped.get(key, 0) + each.dropped
        overflowed: dict[tuple[str, ...], float] = {
            (name,): float(metrics.overflowed) for name, metrics in self._collected()
        }
        yield Family(
            "nexus_event_loop_lag_seconds", GAUGE, "The longest time that the event loop was late, in the last minute.",
            (), {(): self._lag.longest()},
        )  # fmt: skip
        yield Family(
            "nexus_metrics_dropped_total", COUNTER, "Runs that a metrics collector was too slow for.", ("collector",),
            dropped,
        )  # fmt: skip
        yield Family(
            "nexus_metrics_overflowed_total", COUNTER,
            "Numbers that came under another label, because a metric had too many.", ("collector",), overflowed,
        )  # fmt: skip

    def _complain(self, complaint: str, exc: BaseException | None = None) -> None:
        """Log what is wrong, but not each time that metrics are read."""
        if complaint not in self._complained:
            self._complained.add(complaint)
            log.error("%s", complaint, exc_info=exc)


def _nothing() -> None:
    """There is no listener yet."""
