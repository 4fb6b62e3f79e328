"""`QuestionDesk`: asks the questions of the runs of this process, and waits for the answers."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nexus_core import jsontext
from nexus_core.errors import BackendUnavailable, QuestionExpired, RunCancelled
from nexus_core.events.event import WORKFLOW_ANSWERED, WORKFLOW_QUESTION
from nexus_core.options.settings import MAX_SECONDS, is_time_limit
from nexus_core.runs.question import (
    QUESTION_BYTES,
    QUESTIONS_OF_RUN,
    QuestionClosing,
    QuestionStatus,
    RunQuestion,
    audience_of,
    check_text,
    secret_hash,
)
from nexus_core.runs.status import RunStatus
from nexus_core.runs.steps import check_seconds
from nexus_core.schema.json_form import JsonForm
from nexus_core.schema.validation import Validator
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from nexus_core.runs.local_questions import LocalQuestions, QuestionStore
    from nexus_core.runs.recorder import RunRecorder
    from nexus_core.runs.run import Run
    from nexus_core.types.principal import Principal

log = logging.getLogger(__name__)

NO_DEFAULT: Any = object()
"""In the place of a default: an unanswered question raises `QuestionExpired`."""

HIDDEN = "***"
"""In the place of a sensitive parameter."""

LOOK_SECONDS = 30.0
"""Longest pause between two looks at an open question: the clock that its end is measured with may be set."""

RETRY_SECONDS = 0.5
"""Pause after the run store was unavailable."""

Value = TypeVar("Value")


class Asked(NamedTuple):
    """A question that was asked just now, for who passes it on.

    Attributes:
        question: The question.
        token: What its link ends with: who has it may answer, once. None but the addressee should get it.
        make_link: Makes the link.
    """

    question: RunQuestion
    token: str
    make_link: Callable[[str], str]

    @property
    def link(self) -> str:
        """The address at which it can be answered without further credentials, once.

        Raises:
            ConfigurationError: ``public_url`` is not set, or no channel has such an address.
        """
        return self.make_link(self.token)


class Plan:
    """What a workflow asks; see `Context.ask`.

    Raises:
        TypeError, ValueError, ConfigurationError: An argument is invalid; the message names it.
    """

    __slots__ = ("default", "details", "excludes_owner", "notify", "read", "schema", "text", "timeout", "to")

    def __init__(
        self, text: str, schema: Any, to: str, timeout: float | None, default: Any, details: Mapping[str, Any] | None,
        notify: Callable[[Asked], Any] | None, *, excludes_owner: bool = False,
    ) -> None:  # fmt: skip
        check_text(text)
        audience_of(to, None)
        if timeout is not None:
            check_seconds("timeout", timeout)
            if not is_time_limit(timeout):
                raise ValueError(f"timeout must be above 0 and at most {MAX_SECONDS:.0f} seconds; None is no limit")
        if details is not None and not isinstance(details, dict):
            raise TypeError(f"details must be a dict, not {type(details).__name__}")
        if notify is not None and not callable(notify):
            raise TypeError(f"notify must be a function, not {type(notify).__name__}")
        asked_schema, self.read = _form(schema)
        shown = jsontext.encode([asked_schema, details])
        if len(shown) > QUESTION_BYTES:
            raise ValueError(f"schema and details have more than {QUESTION_BYTES} bytes as JSON text")
        self.text, self.to, self.timeout, self.default = text, to, timeout, default
        self.notify, self.excludes_owner = notify, excludes_owner
        self.schema, self.details = jsontext.parse_trusted(shown)  # in JSON's types, wherever it is kept

    def question(self, run: Run, principal: Principal | None, number: int, secret: str) -> RunQuestion:
        """Return the question of a run."""
        now = time.time()
        return RunQuestion(
            run.id, number, run.workflow, self.text, self.schema, self.to, audience_of(self.to, principal), now,
            None if self.timeout is None else now + self.timeout, run.owner, self.details, self.excludes_owner,
            secret_hash(secret),
        )  # fmt: skip


def _form(schema: Any) -> tuple[dict[str, Any], Callable[[Any], Any]]:
    """Return the JSON Schema of an answer, and what makes of a JSON value what the workflow gets."""
    if isinstance(schema, dict):
        Validator(schema)  # it refuses what is no schema
        return schema, lambda value: value
    form = JsonForm(schema, "answer")
    return form.schema, form.read


class QuestionDesk:
    """What the questions of all runs of a platform need.

    Args:
        local: The questions of runs that are kept in this process alone.
        recorder: Stores runs and their questions; None where they are kept in this process alone.
        aside: Gives back a run's place among the running ones while it waits; see `Admission.aside`.
        max_waiting: How many runs give back their places at once. Further ones keep them while they wait.
        make_link: Makes the link to a question of its token; see `Asked.link`.
    """

    def __init__(
        self,
        local: LocalQuestions,
        recorder: RunRecorder | None,
        aside: Callable[[Run], AbstractAsyncContextManager[None]],
        max_waiting: int,
        make_link: Callable[[str], str],
    ) -> None:
        self.store: QuestionStore = local if recorder is None else recorder.store
        self._local = local
        self._recorder = recorder
        self._aside = aside
        self._max_waiting = max_waiting
        self._make_link = make_link
        self._runs: dict[Run, _Pause] = {}
        self._listeners: dict[Run, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def redacted(self, workflow: Any, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters as users who may answer get to see them: without secrets, as the run store would keep them.

        Without a run store, the parameters in the workflow's ``sensitive_parameters`` are hidden.
        """
        if self._recorder is not None:
            return dict(self._recorder.store.redacted(workflow, params))
        sensitive = workflow.metadata.get("sensitive_parameters") or ()
        return {name: HIDDEN if name in sensitive else value for name, value in params.items()}

    @property
    def waiting(self) -> int:
        """How many runs of this process wait for answers."""
        return len(self._runs)

    def is_waiting(self, run: Run) -> bool:
        """Whether a run waits for an answer: its time limit stands still."""
        return run in self._runs

    def on_waiting(self, run: Run, listener: Callable[[], None]) -> None:
        """Call a function when a run begins to wait for an answer, once: its caller may want to leave then."""
        self._listeners[run] = listener

    def off_waiting(self, run: Run) -> None:
        """Call it no longer."""
        self._listeners.pop(run, None)

    async def ask(
        self, plan: Plan, run: Run, principal: Principal | None, prolong: Callable[[float], None], *,
        may_be_asked: bool = False,
    ) -> Any:  # fmt: skip
        """Ask a question, and return the answer; see `Context.ask`.

        Args:
            plan: What is asked.
            run: The run that asks it.
            principal: Its caller, or None where authentication is off.
            prolong: Receives the seconds that the run has waited.
            may_be_asked: Whether an earlier attempt at the run may have asked it: then its answer counts.
        """
        secret = secrets.token_urlsafe(16)
        if run.asked >= QUESTIONS_OF_RUN:
            raise ValueError(f"a run asks at most {QUESTIONS_OF_RUN} questions")
        run.asked += 1
        question, changed = plan.question(run, principal, run.asked, secret), asyncio.Event()
        asked = await _insisting(self.store.question, run.id, run.asked) if may_be_asked else None
        if asked is None:
            await self._store(run, question)
        elif not asked.is_open:
            return self._outcome(plan, asked)
        stop = self.store.watch(run.id, changed.set)
        run.questions = (*run.questions, question)
        try:
            closed = await self._answered(plan, run, prolong, question, None if asked else secret, changed)
        finally:
            stop()
            run.forget_question(question.number)
        told = {"number": question.number, "status": str(closed.status), "answered_by": closed.answered_by}
        run.publish(WORKFLOW_ANSWERED, {name: value for name, value in told.items() if value is not None})
        return self._outcome(plan, closed)

    async def _store(self, run: Run, question: RunQuestion) -> None:
        if self._recorder is None:
            if run.ended:
                raise _ended(run)
            self._local.add(question)
        elif not await _insisting(self._recorder.ask, run, question):
            raise _ended(run)

    async def _answered(
        self, plan: Plan, run: Run, prolong: Callable[[float], None], question: RunQuestion, secret: str | None,
        changed: asyncio.Event,
    ) -> RunQuestion:  # fmt: skip
        """Return the question once it is closed. Meanwhile, the run waits.

        Without a secret, an earlier attempt has asked it, and has told everybody.
        """
        await self._pause(run)
        try:
            if secret is not None:
                run.publish(WORKFLOW_QUESTION, _told(question))
            if secret is not None and plan.notify is not None:
                asked = Asked(question, f"{run.id}.{question.number}.{secret}", self._make_link)
                told = plan.notify(asked)
                if inspect.isawaitable(told):
                    await self._while_open(told, question, changed)
            if (listener := self._listeners.pop(run, None)) is not None:
                listener()
            closed = await self._closed(question, changed)
        except BaseException as exc:
            await self._resume(run, prolong, exc)
            if not (run.cancel_requested or run.ended or run.is_left):  # the workflow goes on, without the answer
                self._later(self._withdraw(question))
            raise
        await self._resume(run, prolong)
        return closed

    async def _while_open(self, told: Awaitable[Any], question: RunQuestion, changed: asyncio.Event) -> None:
        """Wait for ``notify``, but no longer than its question is open: a mail server may never answer."""
        telling = asyncio.ensure_future(told)
        closing = asyncio.ensure_future(self._closed(question, changed))
        try:
            await asyncio.wait((telling, closing), return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            telling.cancel()
            closing.cancel()

    async def _closed(self, question: RunQuestion, changed: asyncio.Event) -> RunQuestion:
        """Return the question once it is closed, and close it when its time has come."""
        run_id, number = question.run_id, question.number
        while True:
            changed.clear()
            found = await _insisting(self.store.question, run_id, number)
            if found is None:
                return question.closed(QuestionClosing(QuestionStatus.WITHDRAWN, time.time()))
            if not found.is_open:
                return found
            left = LOOK_SECONDS if found.expires_at is None else found.expires_at - time.time()
            if left <= 0:
                closing = QuestionClosing(QuestionStatus.EXPIRED, time.time())
                await _insisting(self.store.close_question, run_id, number, closing)
                continue
            try:
                async with asyncio.timeout(min(left, LOOK_SECONDS)):
                    await changed.wait()
            except TimeoutError:
                continue

    def _outcome(self, plan: Plan, closed: RunQuestion) -> Any:
        if closed.status is QuestionStatus.ANSWERED:
            return plan.read(jsontext.parse_trusted(closed.answer or b"null"))
        if closed.status is QuestionStatus.WITHDRAWN:
            raise RunCancelled("The run has ended.", run_id=closed.run_id)
        if plan.default is not NO_DEFAULT:
            return plan.default
        raise QuestionExpired(
            f'The question "{printable(closed.text, 200)}" was not answered within {plan.timeout:g} seconds.',
            run_id=closed.run_id,
        )

    async def _pause(self, run: Run) -> None:
        """Note that a run waits for one more answer. With the first one, its place is free and its time stands still.

        There is no await before it is noted: what looks sees a run that waits.
        """
        pause = self._runs.get(run)
        if pause is not None:
            pause.questions += 1
            return
        aside = self._aside(run) if len(self._runs) < self._max_waiting else None
        pause = self._runs[run] = _Pause(aside)
        if not run.ended:
            run.status = RunStatus.WAITING
        if aside is not None:
            await aside.__aenter__()

    async def _resume(
        self, run: Run, prolong: Callable[[float], None], exc: BaseException | None = None
    ) -> None:  # fmt: skip
        """Note that a run waits for one answer less. After the last one, it goes on when there is a place for it."""
        pause = self._runs[run]
        pause.questions -= 1
        if pause.questions:
            return
        del self._runs[run]
        prolong(time.monotonic() - pause.since)
        if pause.aside is not None:
            work = run.work
            try:
                await _left(pause.aside, exc)
            finally:
                if work is not None:
                    run.attach(*work)
        if not (run.ended or run.cancel_requested or run in self._runs):
            run.status = RunStatus.RUNNING
            if self._recorder is not None:
                self._recorder.resumed(run)

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _withdraw(self, question: RunQuestion) -> None:
        closing = QuestionClosing(QuestionStatus.WITHDRAWN, time.time())
        await _insisting(self.store.close_question, question.run_id, question.number, closing)

    async def close(self) -> None:
        """End what runs for it."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


class _Pause:
    """The time in which a run waits for answers."""

    __slots__ = ("aside", "questions", "since")

    def __init__(self, aside: AbstractAsyncContextManager[None] | None) -> None:
        self.aside = aside
        self.questions = 1
        self.since = time.monotonic()


async def _left(aside: AbstractAsyncContextManager[None], exc: BaseException | None) -> None:
    """Leave a context manager, with an exception that the caller raises itself."""
    if exc is None:
        await aside.__aexit__(None, None, None)
        return
    try:
        await aside.__aexit__(type(exc), exc, exc.__traceback__)
    except BaseException as raised:
        if raised is not exc:
            raise


async def _insisting(call: Callable[..., Awaitable[Value]], *args: Any) -> Value:
    """Return what a call on the run store returns, once the store answers."""
    while True:
        try:
            return await call(*args)
        except BackendUnavailable:
            await asyncio.sleep(RETRY_SECONDS)


def _ended(run: Run) -> RunCancelled:
    return RunCancelled("The run has ended.", run_id=run.id)


def _told(question: RunQuestion) -> dict[str, Any]:
    """Return what followers of the run get to know; the rest is in the listing."""
    shown = question.to_dict()
    return {name: shown[name] for name in ("number", "question", "schema", "to", "expires_at") if name in shown}
