"""`MetricsRegistry`: all metrics of a platform, gathered when they are read."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from nexus_metrics.calls import CallMetrics
from nexus_metrics.collector import CollectorMetrics, MetricsCollector, metrics_of
from nexus_metrics.dispatcher import CollectorDispatcher
from nexus_metrics.families import COUNTER, GAUGE, Family, summed
from nexus_metrics.lag import LoopLag
from nexus_metrics.measurement_reader import MeasurementReader
from nexus_metrics.process_metrics import process_families

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from nexus_core import Platform
    from nexus_core.types.measurement import Collector
    from nexus_metrics.multiprocess import MultiprocessMetrics

log = logging.getLogger(__name__)


class MetricsRegistry:
    """The metrics of one platform.

    Args:
        platform: The platform.

    Attributes:
        default: The collector for code that has registered none.
        calls: The stage that counts calls.
        started_at: When counting started, in nanoseconds since the epoch.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.default = MetricsCollector()
        self.calls = CallMetrics(self._dispatch_run)
        self._lag = LoopLag()
        self._reader = MeasurementReader(self._report_once)
        self._dispatchers: dict[int, CollectorDispatcher] = {}
        self._reported: set[str] = set()
        self.started_at = time.time_ns()
        self._others: MultiprocessMetrics | None = None
        self._unlisten: Callable[[], None] | None = None

    async def start(self, folder: Path | None) -> None:
        """Start to collect what calls do not measure.

        Args:
            folder: The directory shared with other processes, or None.

        Raises:
            ConfigurationError: The directory can't be written.
        """
        if folder is not None:
            from nexus_metrics.multiprocess import MultiprocessMetrics

            self._others = await self._platform.threads.call(MultiprocessMetrics, folder, self.own_families)
        self._unlisten = self._platform.events.listen(self.calls.on_event)
        self._lag.start()

    async def stop(self) -> None:
        """Stop collecting."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        self._lag.stop()
        await asyncio.gather(*(each.close() for each in self._dispatchers.values()))
        if self._others is not None:
            others, self._others = self._others, None
            await self._platform.threads.call(others.close, self.own_families())

    def _dispatch_run(self, workflow: str, seconds: float, success: bool) -> None:
        for collector in self._platform.metrics_collectors:
            self._dispatcher_of(collector).dispatch_run(workflow, seconds, success)

    def _dispatcher_of(self, collector: Collector) -> CollectorDispatcher:
        found = self._dispatchers.get(id(collector))
        if found is None:
            found = self._dispatchers[id(collector)] = CollectorDispatcher(collector, self._platform.threads)
        return found

    async def refresh(self) -> None:
        """Let collectors read the channels, before metrics are read. Call it on the platform's event loop."""
        channels = self.calls.channels()
        every = [self._dispatcher_of(collector) for collector in self._platform.metrics_collectors]
        await asyncio.gather(*(each.dispatch_channels(channels) for each in every))

    def families(self) -> list[Family]:
        """Return the metrics: of all processes, if they are summed. It blocks: call it in a thread."""
        own = self.own_families()
        return own if self._others is None else self._others.all(own)

    def own_families(self) -> list[Family]:
        """Return the metrics of this process."""
        every = [
            *self.calls.families(),
            *self._reader.families(self._platform.measurements()),
            *self._own(),
            *process_families(),
        ]
        for _, metrics in self._collected():
            every += metrics.families()
        return summed(every)

    def _collected(self) -> Iterable[tuple[str, CollectorMetrics]]:
        """Yield the metrics of each collector, with the name of its class."""
        for collector in [*self._platform.metrics_collectors, self.default]:
            if isinstance(collector, MetricsCollector):
                name = type(collector).__name__
                metrics: object = metrics_of(collector)
                if isinstance(metrics, CollectorMetrics):
                    yield name, metrics
                else:
                    self._report_once(f"The metrics of {name} can't be read: it overrides _own_metrics")

    def _own(self) -> Iterable[Family]:
        dispatchers = list(self._dispatchers.values())
        dropped: dict[tuple[str, ...], float] = {}
        for each in dispatchers:
            key = (type(each.collector).__name__,)
            dropped[key] = dropped.get(key, 0) + each.dropped
        overflowed: dict[tuple[str, ...], float] = {
            (name,): float(metrics.overflowed) for name, metrics in self._collected()
        }
        yield Family(
            "nexus_event_loop_lag_seconds", GAUGE, "Longest delay of the event loop in the last minute.",
            (), {(): self._lag.longest()},
        )  # fmt: skip
        yield Family(
            "nexus_metrics_dropped_total", COUNTER, "Runs dropped because a collector was too slow.", ("collector",),
            dropped,
        )  # fmt: skip
        yield Family(
            "nexus_metrics_overflowed_total", COUNTER,
            "Values counted under the label other, because a metric had too many series.", ("collector",), overflowed,
        )  # fmt: skip

    def _report_once(self, message: str, exc: BaseException | None = None) -> None:
        """Log an error the first time it occurs."""
        if message not in self._reported:
            self._reported.add(message)
            log.error("%s", message, exc_info=exc)
