"""`CollectorDispatcher`: calls a metrics collector apart from workflow calls, which never wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any

from nexus_core.concurrency.threads import is_async, overridden
from nexus_metrics.collector import MetricsCollector

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.types.measurement import Collector

log = logging.getLogger(__name__)

BACKLOG = 10_000
"""Runs that may be queued for a collector; further ones are dropped and counted."""

CHANNEL_SECONDS = 1.0
"""Time limit for `collect_channel_metrics` before metrics are read."""

END_SECONDS = 1.0
"""Time limit for the queue at shutdown."""


class CollectorDispatcher:
    """Calls one collector, in order and in the background.

    Args:
        collector: The collector.
        threads: Run its sync methods.

    Attributes:
        dropped: Runs that were dropped because it was too slow.
    """

    def __init__(self, collector: Collector, threads: DaemonThreads) -> None:
        self.collector = collector
        self.dropped = 0
        self._threads = threads
        self._of_runs = overridden(collector, MetricsCollector, "collect_workflow_metrics")
        self._of_channels = overridden(collector, MetricsCollector, "collect_channel_metrics")
        self._waiting: deque[tuple[str, float, bool]] = deque()
        self._errors: dict[str, int] = {}
        self._reported: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._channels_task: asyncio.Task[None] | None = None

    def dispatch_run(self, workflow: str, seconds: float, success: bool) -> None:
        """Queue a finished run. Call it on the event loop; it never blocks."""
        if self._of_runs is None:
            return
        if len(self._waiting) >= BACKLOG:
            self.dropped += 1
            if self.dropped == 1:
                log.warning("The metrics collector %s is too slow: its oldest runs are dropped", self._name)
            return
        self._waiting.append((workflow, seconds, success))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(
                self._work(), name="nexus-metrics-collector", context=Context()
            )

    async def _work(self) -> None:
        assert self._of_runs is not None
        while self._waiting:
            if is_async(self._of_runs):
                await self._call(self._of_runs, *self._waiting.popleft())
            else:
                await self._threads.call(self._work_in_thread)

    def _work_in_thread(self) -> None:
        """Process the queue: one thread switch for many runs."""
        assert self._of_runs is not None
        while self._waiting:
            try:
                self._of_runs(*self._waiting.popleft())
            except BaseException as exc:
                self._report_once(exc)

    async def dispatch_channels(self, channels: list[tuple[str, int, int]]) -> None:
        """Pass on the numbers of each channel, within a time limit. It is skipped while the last call hangs."""
        if self._of_channels is None or not channels or (self._channels_task and not self._channels_task.done()):
            return
        self._channels_task = asyncio.create_task(self._call_channels(channels), name="nexus-metrics-channels")
        await asyncio.wait({self._channels_task}, timeout=CHANNEL_SECONDS)

    async def _call_channels(self, channels: list[tuple[str, int, int]]) -> None:
        assert self._of_channels is not None
        for channel, in_flight, errors in channels:
            new, self._errors[channel] = errors - self._errors.get(channel, 0), errors
            await self._call(self._of_channels, channel, in_flight, new)

    async def _call(self, method: Callable[..., Any], *args: Any) -> None:
        try:
            await self._threads.call(method, *args)
        except (Exception, GeneratorExit) as exc:
            self._report_once(exc)

    def _report_once(self, exc: BaseException) -> None:
        """Log each kind of error once: a failing collector fails with every call."""
        kind = f"{type(exc).__name__}: {exc}"[:200]
        if kind not in self._reported and len(self._reported) < 20:
            self._reported.add(kind)
            log.error("The metrics collector %s raised an exception", self._name, exc_info=exc)

    @property
    def _name(self) -> str:
        return type(self.collector).__name__

    async def close(self) -> None:
        """Process the queue, for at most `END_SECONDS`, and stop."""
        tasks = [task for task in (self._task, self._channels_task) if task is not None and not task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=END_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
