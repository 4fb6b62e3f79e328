"""`Telling`: tells a collector of runs and channels, apart from calls: whatever it does, nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import is_async
from nexus_metrics.collector import MetricsCollector

if TYPE_CHECKING:
    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.types.measurement import Collector

log = logging.getLogger(__name__)

BACKLOG = 10_000
"""Runs that wait to be told to one collector; what comes then is dropped, and counted."""

CHANNEL_SECONDS = 1.0
"""How long whoever reads metrics waits for what collectors make of channels."""

END_SECONDS = 1.0
"""How long the end waits for what is still to be told."""


class Telling:
    """What one collector is told.

    Args:
        collector: The collector.
        threads: Where its sync methods run.

    Attributes:
        dropped: Runs that it was too slow for.
    """

    def __init__(self, collector: Collector, threads: DaemonThreads) -> None:
        self.collector = collector
        self.dropped = 0
        self._threads = threads
        self._of_runs = overridden(collector, "collect_workflow_metrics")
        self._of_channels = overridden(collector, "collect_channel_metrics")
        self._waiting: deque[tuple[str, float, bool]] = deque()
        self._errors: dict[str, int] = {}
        self._complained: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._channels_task: asyncio.Task[None] | None = None

    def run(self, workflow: str, seconds: float, success: bool) -> None:
        """Tell of a run that has ended. Call it on the event loop; it never waits."""
        if self._of_runs is None:
            return
        if len(self._waiting) >= BACKLOG:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("The metrics collector %s is too slow: runs are dropped for it", self._name)
            return
        self._waiting.append((workflow, seconds, success))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._tell(), name="nexus-metrics-collector", context=Context()
            )

    async def _tell(self) -> None:
        assert self._of_runs is not None
        while self._waiting:
            if is_async(self._of_runs):
                try:
                    await self._of_runs(*self._waiting.popleft())
                except asyncio.CancelledError:
                    raise
                except BaseException as exc:  # not even SystemExit is anybody else's business
                    self._complain(exc)
            else:
                await self._threads.call(self._tell_in_thread)

    def _tell_in_thread(self) -> None:
        """Tell all that waits: one change of threads for many runs."""
        assert self._of_runs is not None
        while self._waiting:
            try:
                self._of_runs(*self._waiting.popleft())
            except BaseException as exc:
                self._complain(exc)

    async def channels(self, told: list[tuple[str, int, int]]) -> None:
        """Tell of each channel, and wait a little for what comes of it. One that still hangs is not told again."""
        if self._of_channels is None or not told or (self._channels_task and not self._channels_task.done()):
            return
        self._channels_task = asyncio.create_task(self._tell_channels(told), name="nexus-metrics-channels")
        await asyncio.wait({self._channels_task}, timeout=CHANNEL_SECONDS)

    async def _tell_channels(self, told: list[tuple[str, int, int]]) -> None:
        assert self._of_channels is not None
        for channel, in_flight, errors in told:
            new, self._errors[channel] = errors - self._errors.get(channel, 0), errors
            try:
                await self._threads.call(self._of_channels, channel, in_flight, new)
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                self._complain(exc)

    def _complain(self, exc: BaseException) -> None:
        """Log an error, but not each time: a collector that fails fails with every call."""
        kind = f"{type(exc).__name__}: {exc}"[:200]
        if kind not in self._complained and len(self._complained) < 20:
            self._complained.add(kind)
            log.error("The metrics collector %s raised", self._name, exc_info=exc)

    @property
    def _name(self) -> str:
        return type(self.collector).__name__

    async def close(self) -> None:
        """Tell what waits, for at most `END_SECONDS`, and end."""
        tasks = [task for task in (self._task, self._channels_task) if task is not None and not task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=END_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def overridden(collector: object, name: str) -> Any:
    """Return a collector's method, unless it is the one of `MetricsCollector`, which does nothing."""
    method = getattr(collector, name, None)
    own = getattr(MetricsCollector, name)
    return None if method is None or getattr(method, "__func__", None) is own else method
