"""`DurableContext`: the `Context` of a run that is worked on again, from where it was, if its process dies."""

from __future__ import annotations

import asyncio
import builtins
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.concurrency.threads import call_on, is_current_loop
from nexus_core.errors import NexusError, RunCancelled, WorkflowFailed, error_from_problem
from nexus_core.runs.context import Context
from nexus_core.runs.journal import JournalMismatch, StepFailed
from nexus_core.runs.steps import NAME_CHARACTERS, Steps, check_seconds, refuse_loop
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nexus_core.runs.asking import Plan
    from nexus_core.runs.journal import Journal
    from nexus_core.runs.run import Run
    from nexus_core.runs.steps import StepPlan, StepRunner

AGAIN = b""
"""Recorded of a part whose outcome has no JSON form that says the same, or is too large: it is done at each attempt."""

ERROR_CHARACTERS = 2000
"""Characters of the message of an exception that are recorded."""


class DurableContext(Context):
    """See `Context`. Steps, sleeps and answers are recorded: what an earlier attempt has done is not done again.

    What a step returns is what its JSON text says, and what it raises is a `NexusError`, an exception of Python's own,
    or `StepFailed`: the same at each attempt.

    Args:
        journal: What the run has done so far.
        published: How many events of each type earlier attempts have published: so many are not published again.
        **members: Those of `Context`.
    """

    is_durable = True
    __slots__ = ("_journal", "_published", "mismatch")

    def __init__(self, journal: Journal, published: Mapping[str, int], **members: Any) -> None:
        super().__init__(**members)
        self.mismatch = None
        self._journal = _GuardedJournal(journal, self._block)
        self._published = dict(published)

    def _block(self, mismatch: JournalMismatch) -> None:
        """Let the caller of the workflow hear that its code has changed."""
        self.mismatch = mismatch
        if self.limit_moved is not None:
            self.limit_moved()

    def _steps(self) -> DurableSteps:
        steps = DurableSteps(self._journal, self._step_runner, self.run, self._loop, self.deadline)
        steps.max_bytes = self.max_result_bytes
        return steps

    async def sleep(self, seconds: float) -> None:
        """See `Context.sleep`. The time passes whether a process works on the run or not."""
        check_seconds("seconds", seconds)
        if not is_current_loop(self._loop):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.sleep(seconds), self._loop))

        async def end() -> bytes:
            return jsontext.encode(time.time() + seconds)

        left = float(jsontext.parse_trusted(await self._journal.once("sleep", end))) - time.time()
        if left > 0:
            with self._steps().recording("sleep"):
                await asyncio.sleep(left)

    def sleep_sync(self, seconds: float) -> None:
        """See `Context.sleep_sync`."""
        refuse_loop(self._loop, "sleep")
        self._steps().wait(self.sleep(seconds))

    async def checkpoint(
        self, name: str, work: Callable[[], Awaitable[object]], save: Callable[[], Any], restore: Callable[[Any], None]
    ) -> None:
        """See `Context.checkpoint`."""
        is_done = False

        async def do() -> bytes:
            nonlocal is_done
            with self.recording(name):
                await work()
            is_done = True
            saved = jsontext.same_text(save())
            return AGAIN if saved is None or len(saved) > self.max_result_bytes else saved

        recorded = await self._journal.once(printable(name, NAME_CHARACTERS), do)
        if is_done:
            return
        if recorded == AGAIN:
            await do()
        else:
            restore(jsontext.parse_trusted(recorded))

    async def ask_planned(self, plan: Plan) -> Any:
        """See `Context.ask_planned`. A question that an earlier attempt has asked is not asked again."""
        is_repeat = self._journal.attempt > 1 or bool(self._published)  # an attempt that was stopped does not count
        return await self._desk.ask(plan, self.run, self.principal, self.prolong, may_be_asked=is_repeat)

    def _publish(self, type: str, data: dict[str, Any]) -> None:
        call_on(self._loop, self._publish_once, type, data)

    def _publish_once(self, type: str, data: dict[str, Any]) -> None:
        before = self._published.get(type, 0)
        if before:
            self._published[type] = before - 1
        else:
            self.run.publish(type, data)


class _GuardedJournal:
    """The journal of a run whose workflow does not hear of a mismatch, which it could take for a failure of a step.

    Args:
        journal: The journal.
        block: Called with the mismatch. The call of the journal then waits until the work is cancelled.
    """

    def __init__(self, journal: Journal, block: Callable[[JournalMismatch], None]) -> None:
        self._journal = journal
        self._block = block
        self._is_blocked = False

    @property
    def attempt(self) -> int:
        """See `Journal.attempt`."""
        return self._journal.attempt

    async def once(self, name: str, call: Callable[[], Awaitable[bytes]]) -> bytes:
        """See `Journal.once`."""
        if self._is_blocked:  # the workflow cleans up
            raise RunCancelled("The code of the workflow has changed: the run does not go on here.")
        try:
            return await self._journal.once(name, call)
        except JournalMismatch as exc:
            self._is_blocked = True
            self._block(exc)
        await asyncio.Event().wait()
        raise AssertionError


class DurableSteps(Steps):
    """Calls the steps of a durable run: each until its outcome is recorded, and not again.

    Args:
        journal: Where outcomes are recorded.
        runner, run, loop, deadline: See `Steps`.

    Attributes:
        max_bytes: The largest value of a step, as JSON text. None: any is recorded.
    """

    __slots__ = ("_journal", "max_bytes")

    def __init__(
        self, journal: Journal, runner: StepRunner, run: Run, loop: asyncio.AbstractEventLoop, deadline: float | None
    ) -> None:
        super().__init__(runner, run, loop, deadline)
        self._journal = journal
        self.max_bytes: int | None = None

    async def call(self, plan: StepPlan, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """See `Steps.call`."""
        if not is_current_loop(self._loop):
            work = asyncio.run_coroutine_threadsafe(self.call(plan, function, args), self._loop)
            return await asyncio.wrap_future(work)
        raised: list[Exception] = []
        recorded = await self._journal.once(plan.name, partial(self._outcome, plan, function, args, raised))
        outcome: dict[str, Any] = jsontext.parse_trusted(recorded)
        if "value" in outcome:
            return outcome["value"]
        raise error_of(outcome) from (raised[0] if raised else None)

    async def _outcome(
        self, plan: StepPlan, function: Callable[..., Any], args: tuple[Any, ...], raised: list[Exception]
    ) -> bytes:
        """Do the step, and return its outcome as it is recorded: a value or an error."""
        try:
            value = await super().call(plan, function, args)
            outcome = jsontext.encode({"value": value})
            if self.max_bytes is not None and len(outcome) > self.max_bytes:
                what = f"The step {plan.name} returned a value of {len(outcome)} bytes"
                raise WorkflowFailed(f"{what}; max_result_bytes is {self.max_bytes}.")
            return outcome
        except RunCancelled:
            raise
        except NexusError as exc:
            raised.append(exc)
            return jsontext.encode({"problem": exc.problem()})
        except Exception as exc:
            raised.append(exc)
            return jsontext.encode({"error": [type(exc).__name__, str(exc)[:ERROR_CHARACTERS]]})

    def call_in_thread(self, plan: StepPlan, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """See `Steps.call_in_thread`. The step runs in another thread: its outcome is recorded by the event loop."""
        self._refuse_cancelled()
        return self.wait(self.call(plan, function, args))


def error_of(outcome: Mapping[str, Any]) -> Exception:
    """Return the exception that a recorded outcome says."""
    if "problem" in outcome:
        return error_from_problem(outcome["problem"])
    name, message = outcome["error"]
    kind = getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, Exception):
        try:
            return kind(message)
        except TypeError:  # it takes more than a message
            pass
    return StepFailed(name, message)
