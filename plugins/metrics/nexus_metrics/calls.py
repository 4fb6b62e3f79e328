"""`CallMetrics`: the stage that counts and times calls."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from nexus_core import NexusError, Stage
from nexus_core.events.event import WORKFLOW_UNREGISTERED
from nexus_metrics.collector import OTHER
from nexus_metrics.families import COUNTER, GAUGE, HISTOGRAM, Distribution, Family

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core import ChannelEvent, Invocation, Result
    from nexus_core.pipeline.stage import Call

MAX_CHANNELS = 20
MAX_CODES = 200
MAX_TYPES = 200
"""Maximum distinct channels, error codes and event types; further ones are counted as `OTHER`."""


class _Series:
    """The metrics of the calls of one workflow through one channel."""

    __slots__ = ("durations", "in_flight", "outcomes", "runs", "waits")

    def __init__(self) -> None:
        self.in_flight = 0
        self.outcomes: dict[tuple[str, str], int] = {}
        self.durations = Distribution()
        self.runs = Distribution()
        self.waits = Distribution()


class CallMetrics:
    """Counts calls by workflow, channel and outcome, and measures their durations.

    It is used on one event loop alone, so that a call costs a few additions and no lock. Registered workflows have
    their names as label; all unknown names share one series.

    Args:
        on_run: Called with each finished run: workflow, seconds, whether it succeeded.
    """

    stage = Stage.OBSERVE

    def __init__(self, on_run: Callable[[str, float, bool], None] | None = None) -> None:
        self._on_run = on_run
        self._series: dict[tuple[str, str], _Series] = {}
        self._channels: set[str] = set()
        self._codes: set[str] = set()
        self._events: dict[str, int] = {}
        self._errors: dict[str, int] = {}

    async def __call__(self, invocation: Invocation, call_next: Call) -> Result:
        """Process the call and record its outcome."""
        name = "" if invocation.workflow is None else invocation.workflow.name
        series = self._series.get((name, invocation.channel))
        if series is None:
            series = self._new_series(name, invocation.channel)
        series.in_flight += 1
        begin = time.perf_counter()
        try:
            result = await call_next(invocation)
        except NexusError as exc:
            self._failed(series, invocation, exc.outcome, exc.code, time.perf_counter() - begin)
            raise
        except asyncio.CancelledError:
            self._failed(series, invocation, "cancelled", "", time.perf_counter() - begin)
            raise
        except BaseException:  # a defect of a stage
            self._failed(series, invocation, "failed", NexusError.code, time.perf_counter() - begin)
            raise
        finally:
            series.in_flight -= 1
        seconds = time.perf_counter() - begin
        outcome = ("cached" if result.cached else "replayed" if result.replayed else "completed", "")
        series.outcomes[outcome] = series.outcomes.get(outcome, 0) + 1
        series.durations.observe(seconds)
        if outcome[0] == "completed":
            series.runs.observe(result.duration)
            series.waits.observe(max(0.0, seconds - result.duration))
            if self._on_run is not None:
                self._on_run(name, result.duration, True)
        return result

    def _failed(self, series: _Series, invocation: Invocation, outcome: str, code: str, seconds: float) -> None:
        if code not in self._codes:
            code = code if len(self._codes) < MAX_CODES else OTHER
            self._codes.add(code)
        key = (outcome, code)
        series.outcomes[key] = series.outcomes.get(key, 0) + 1
        series.durations.observe(seconds)
        channel = self._channel(invocation.channel)
        self._errors[channel] = self._errors.get(channel, 0) + 1
        if outcome == "failed" and invocation.workflow is not None:
            series.runs.observe(seconds)
            if self._on_run is not None:
                self._on_run(invocation.workflow.name, seconds, False)

    def _new_series(self, name: str, channel: str) -> _Series:
        return self._series.setdefault((name, self._channel(channel)), _Series())

    def _channel(self, channel: str) -> str:
        if channel not in self._channels:
            if len(self._channels) >= MAX_CHANNELS:
                return OTHER
            self._channels.add(channel)
        return channel

    def on_event(self, event: ChannelEvent) -> None:
        """Count an event, and drop the series of an unregistered workflow. A listener of the `EventBus`."""
        kind = event.type if event.type in self._events or len(self._events) < MAX_TYPES else OTHER
        self._events[kind] = self._events.get(kind, 0) + 1
        if event.type == WORKFLOW_UNREGISTERED:
            for key in [key for key in self._series if key[0] == event.workflow_name]:
                del self._series[key]

    def channels(self) -> list[tuple[str, int, int]]:
        """Return for each channel its calls in flight and its failed or refused calls so far."""
        in_flight = dict.fromkeys(sorted(self._channels), 0)
        for (_, channel), series in list(self._series.items()):
            in_flight[channel] = in_flight.get(channel, 0) + series.in_flight
        return [(channel, count, self._errors.get(channel, 0)) for channel, count in in_flight.items()]

    def families(self) -> list[Family]:
        """Return the current metrics. From any thread."""
        labels = ("workflow", "channel")
        outcomes = "Calls by outcome: completed, cached, replayed, refused, failed or cancelled, and by error code."
        calls = Family("nexus_calls_total", COUNTER, outcomes, (*labels, "outcome", "code"))
        in_flight = Family("nexus_calls_in_flight", GAUGE, "Calls in progress.", labels)
        durations = Family("nexus_call_seconds", HISTOGRAM, "Seconds until callers get an answer.", labels)
        runs = Family("nexus_run_seconds", HISTOGRAM, "Seconds that workflows run.", labels)
        waits = Family(
            "nexus_wait_seconds",
            HISTOGRAM,
            "Seconds that calls spend outside of their run, in policies and queues.",
            labels,
        )
        events = Family("nexus_events_total", COUNTER, "Published events by type.", ("type",))
        events.numbers = {(kind,): float(count) for kind, count in list(self._events.items())}
        for key, series in list(self._series.items()):
            calls.numbers |= {(*key, *outcome): float(count) for outcome, count in list(series.outcomes.items())}
            in_flight.numbers[key] = series.in_flight
            for family, found in ((durations, series.durations), (runs, series.runs), (waits, series.waits)):
                if any(found.counts):
                    family.distributions[key] = found.copy()
        return [calls, in_flight, durations, runs, waits, events]
