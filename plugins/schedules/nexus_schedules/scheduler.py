"""`Scheduler`: starts the runs of schedules at their times."""

from __future__ import annotations

import asyncio
import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any

import msgspec
from nexus_toolkit.outage_log import OutageLog

from nexus_core import Caller, ChannelEvent, Invocation, NotFound, Stage
from nexus_core.errors import BackendUnavailable, Conflict, NexusError, RunNotFound
from nexus_core.runs.status import new_run_id
from nexus_core.state.heartbeat import Heartbeat
from nexus_core.state.memory_store import MEMORY
from nexus_schedules.plan import DuePlan, ScheduleState, StartedRun, plan
from nexus_schedules.planned import PlannedSchedule, named
from nexus_schedules.settings import SCHEDULE_FAILED, SCHEDULE_MISSED, SCHEDULE_SKIPPED, SCHEDULE_STARTED
from nexus_schedules.states import ScheduleStates
from nexus_schedules.times import utc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nexus_core import Platform
    from nexus_core.runs.run import Run
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0

OUTCOMES = ("started", "skipped", "missed", "failed")


class Scheduler:
    """Starts runs, and changes the state of schedules.

    A time is claimed in the store before its run is started, by one process. The run's id follows from the schedule and
    the time: where processes share a run store, but not the state, it refuses the second run.

    Args:
        platform: The platform.
        schedules: The schedules.
        store: Where their state is.
        clock: Returns the time, in seconds since the epoch. It may jump.
    """

    def __init__(
        self, platform: Platform, schedules: Sequence[PlannedSchedule], store: Store,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.schedules = schedules
        self._platform = platform
        self._records = ScheduleStates(store)
        self._clock = clock
        self._is_shared = store.name != MEMORY
        self._heartbeat = Heartbeat(store)
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._outage = OutageLog(
            log, "The store of schedules is unavailable: no scheduled run is started",
            "The store of schedules is available again",
        )  # fmt: skip

    def begin(self) -> None:
        """Start runs at their times from now on."""
        self._loop = asyncio.create_task(self._always(), name="nexus-schedules")

    async def close(self) -> None:
        """Start no more runs."""
        tasks = [*self._tasks, *([self._loop] if self._loop is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._heartbeat.close()

    async def _always(self) -> None:
        while True:
            if self._platform.is_ready:
                await self.tick()
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> None:
        """Start what is due now."""
        now = self._clock()
        await asyncio.gather(*(self._look(each, now) for each in self.schedules if each.due_at <= now))

    async def _look(self, schedule: PlannedSchedule, now: float) -> None:
        try:
            if self._is_shared and not self._heartbeat.has_begun:
                await self._heartbeat.begin()
            await self._proceed(schedule, now)
        except BackendUnavailable as exc:
            self._outage.failed(exc)
        except Exception:
            log.exception('The schedule "%s" can not be looked at', schedule.name)
        else:
            self._outage.succeeded()

    async def _proceed(self, schedule: PlannedSchedule, now: float) -> None:
        declared = schedule.declared

        async def decide(record: ScheduleState) -> tuple[ScheduleState, tuple[DuePlan, str]]:
            going = tuple([each for each in record.active if not await self._has_ended(schedule, each)])
            current = msgspec.structs.replace(record, active=going)
            found = plan(current, now, schedule.times, declared.overlap, declared.catch_up)
            new, run_id = found.record, ""
            if found.start is not None:
                run_id = schedule.run_id(found.start)
                new = self._with_run(new, run_id, found.start)
            return new, (msgspec.structs.replace(found, record=new), run_id)

        found, run_id = await self._records.change(schedule.name, now, decide)
        try:
            schedule.due_at = now if found.record.waiting else schedule.times.after(found.record.handled)
        except OverflowError:
            schedule.due_at = inf
        if found.skipped:
            schedule.counts["skipped"] += found.skipped
            self._publish(ChannelEvent(SCHEDULE_SKIPPED), schedule, count=found.skipped)
        if found.missed:
            schedule.counts["missed"] += found.missed
            self._publish(ChannelEvent(SCHEDULE_MISSED), schedule, count=found.missed)
        for each in found.cancel:
            await self._cancel(schedule, each)
        if found.start is not None:
            self._start(schedule, run_id, found.start)

    def _with_run(self, record: ScheduleState, run_id: str, due: float) -> ScheduleState:
        active = (*record.active, StartedRun(run_id, self._heartbeat.process))
        return msgspec.structs.replace(record, active=active, last_due=due, last_run=run_id, error="")

    # ---- runs

    def _caller(self, schedule: PlannedSchedule) -> dict[str, Any]:
        is_guarded = Stage.AUTHENTICATE in self._platform.stages
        return {"principal": schedule.principal() if is_guarded else None}

    def _start(self, schedule: PlannedSchedule, run_id: str, due: float) -> None:
        params = dict(schedule.declared.params)
        invocation = Invocation(schedule.workflow, params, run_id=run_id, **self._caller(schedule))
        run = self._runs[run_id] = self._platform.submit(invocation)
        task = asyncio.create_task(self._follow(schedule, run, due), name=f"nexus-schedule-{run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, schedule: PlannedSchedule, run: Run, due: float) -> None:
        """Count a run that is started, and note its end."""
        try:
            await run.started_or_rejected()
            error = run.error if run.done else None
            if isinstance(error, Conflict) and error.details.get("run") == run.id:
                return  # another process has started it
            if error is not None and error.run_id is None:
                await self._failed(schedule, due, error)
            else:
                schedule.counts["started"] += 1
                schedule.error = ""
                self._publish(ChannelEvent(SCHEDULE_STARTED, run_id=run.id), schedule, due=utc(due))
            await run.wait()
        finally:
            self._runs.pop(run.id, None)
        await self._note_end(schedule, run.id)

    async def _failed(self, schedule: PlannedSchedule, due: float, error: NexusError) -> None:
        schedule.counts["failed"] += 1
        schedule.error = error.message
        log.error('The schedule "%s" could not start a run: %s', schedule.name, error.message)
        self._publish(ChannelEvent(SCHEDULE_FAILED), schedule, due=utc(due), reason=error.message)

        async def decide(record: ScheduleState) -> tuple[ScheduleState, None]:
            return msgspec.structs.replace(record, error=error.message), None

        await self._records.change(schedule.name, self._clock(), decide)

    async def _note_end(self, schedule: PlannedSchedule, run_id: str) -> None:
        async def decide(record: ScheduleState) -> tuple[ScheduleState, None]:
            going = tuple(each for each in record.active if each.run_id != run_id)
            return msgspec.structs.replace(record, active=going), None

        try:
            await self._records.change(schedule.name, self._clock(), decide)
        except BackendUnavailable as exc:  # the next look sees that it has ended
            self._outage.failed(exc)

    async def _has_ended(self, schedule: PlannedSchedule, active: StartedRun) -> bool:
        if active.run_id in self._runs:
            return False
        try:
            view = await self._platform.view(Caller("python", **self._caller(schedule)))
            return (await view.run(active.run_id)).done
        except RunNotFound:
            if not self._is_shared or active.process == self._heartbeat.process:
                return True
            return await self._heartbeat.is_dead(active.process)
        except NexusError as exc:
            log.warning('The run %s of the schedule "%s" is unknown: %s', active.run_id, schedule.name, exc.message)
            return False

    async def _cancel(self, schedule: PlannedSchedule, active: StartedRun) -> None:
        try:
            view = await self._platform.view(Caller("python", **self._caller(schedule)))
            await view.cancel(await view.run(active.run_id))
        except NexusError as exc:
            log.warning('The run %s of "%s" was not cancelled: %s', active.run_id, schedule.name, exc.message)

    def _publish(self, event: ChannelEvent, schedule: PlannedSchedule, **data: Any) -> None:
        owner = self._caller(schedule)["principal"]
        event.workflow_name, event.data = schedule.workflow, {"schedule": schedule.name, **data}
        event.owner = None if owner is None else owner.identity
        self._platform.publish(event)

    # ---- what operators do

    def named(self, name: str) -> PlannedSchedule:
        """Return a schedule.

        Raises:
            NotFound: It does not exist.
        """
        found = named(self.schedules, name)
        if found is None:
            known = ", ".join(each.name for each in self.schedules) or "none"
            raise NotFound(f"There is no schedule {name!r}; schedules: {known}.")
        return found

    async def set_paused(self, name: str, is_paused: bool) -> dict[str, Any]:
        """Pause or resume a schedule, and return it. Times that pass while it is paused are not made up for.

        Raises:
            NotFound: It does not exist.
            BackendUnavailable: The store does not answer.
        """
        schedule, now = self.named(name), self._clock()

        async def decide(record: ScheduleState) -> tuple[ScheduleState, None]:
            handled = max(record.handled, now) if record.is_paused else record.handled
            return msgspec.structs.replace(record, is_paused=is_paused, handled=handled), None

        await self._records.change(name, now, decide)
        return await self.described(schedule)

    async def run_now(self, name: str) -> dict[str, Any]:
        """Start a run at once, whatever goes on and also where the schedule is paused, and return the schedule.

        Raises:
            NotFound: It does not exist.
            BackendUnavailable: The store does not answer.
        """
        schedule, now, run_id = self.named(name), self._clock(), new_run_id()

        async def decide(record: ScheduleState) -> tuple[ScheduleState, None]:
            return self._with_run(record, run_id, now), None

        await self._records.change(name, now, decide)
        self._start(schedule, run_id, now)
        return await self.described(schedule) | {"run_id": run_id}

    async def described(self, schedule: PlannedSchedule, count: int = 1) -> dict[str, Any]:
        """Return a schedule as channels show it, with its next times.

        Raises:
            BackendUnavailable: The store does not answer.
        """
        now = self._clock()
        record, declared, times = await self._records.get(schedule.name, now), schedule.declared, schedule.times
        following: list[dict[str, str]] = []
        moment = max(now, record.handled)
        for _ in range(count):
            try:
                moment = times.after(moment)
            except OverflowError:
                break
            following.append({"local": times.shown(moment), "utc": utc(moment)})
        return {
            "name": schedule.name, "workflow": schedule.workflow, "expression": declared.expression,
            "timezone": declared.timezone, "overlap": declared.overlap, "catch_up": declared.catch_up,
            "paused": record.is_paused, "next": following, "waiting": len(record.waiting),
            "running": [each.run_id for each in record.active],
            "last": None if record.last_due is None else {
                "due": utc(record.last_due), "run_id": record.last_run, "error": record.error or None,
            },
        }  # fmt: skip

    async def page(self, count: int = 1) -> dict[str, Any]:
        """Return every schedule; see `described`."""
        return {"schedules": [await self.described(each, count) for each in self.schedules]}
