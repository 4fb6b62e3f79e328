"""Answers: the questions that a caller may answer and those of its runs, and the one that a link leads to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.errors import (
    MalformedRequest,
    PermissionDenied,
    QuestionClosed,
    QuestionNotFound,
    RequestTooLarge,
    RunNotFound,
    ValidationError,
)
from nexus_core.pipeline.authorization import missing_permissions
from nexus_core.runs.listing import EVERYONE, limit_of
from nexus_core.runs.question import (
    QUESTION_BYTES,
    QUESTIONS_OF_RUN,
    USER,
    QuestionClosing,
    QuestionCursor,
    QuestionFilter,
    QuestionStatus,
    permission_of,
)
from nexus_core.schema.report import pointer, summary
from nexus_core.schema.validation import MAX_ERRORS, Validator
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from nexus_core.app.state import Running
    from nexus_core.pipeline.authorization import Authorizer
    from nexus_core.runs.local_questions import QuestionStore
    from nexus_core.runs.question import RunQuestion
    from nexus_core.runs.stored_run import RunLookup
    from nexus_core.types.principal import Principal

BY_LINK = "link"
"""Who has answered, where it came by a link."""


class CallerQuestions:
    """The questions that one caller may answer, and those of its runs; see `CallerView.questions`.

    Args:
        start: Returns what is started.
        principal: The caller, or None where authentication is off.
        authorizers: Know what it may do.
        require: Makes sure that it has a permission.
        run: Makes sure that it may see a run.
        operate: The permission to see everybody's.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Running]], principal: Principal | None, authorizers: Sequence[Authorizer],
        require: Callable[[str], Awaitable[None]], run: Callable[[str], Awaitable[object]], operate: str,
    ) -> None:  # fmt: skip
        self._start = start
        self._principal = principal
        self._authorizers = authorizers
        self._require = require
        self._run = run
        self._operate = operate

    async def find(self, after: QuestionCursor | None = None, limit: int = 100) -> list[RunQuestion]:
        """Return open questions that the caller may answer, the oldest first.

        Args:
            after: Only questions after this place in the listing.
            limit: How many at most.

        Raises:
            BackendUnavailable: The run store does not answer.
        """
        return (await self._find(after, limit))[0]

    async def _find(self, after: QuestionCursor | None, limit: int) -> tuple[list[RunQuestion], QuestionCursor | None]:
        store = await self._store()
        audiences = await self._audiences(store)
        found = await store.questions(QuestionFilter(audiences, after=after, limit=limit))
        last = found[-1].cursor if len(found) == limit else None
        return [question for question in found if not self._is_excluded(question)], last

    async def page(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Return a page of open questions as channels show it, with ``next`` where further ones may follow.

        Args:
            asked: Members of `QUESTION_FILTERS`, as text or as JSON values. None is the default.

        Raises:
            MalformedRequest: A value is invalid.
            PermissionDenied: It asks for everybody's, and the caller is no operator.
            BackendUnavailable: The run store does not answer.
        """
        cursor = asked.get("after")
        if cursor is not None and not isinstance(cursor, str):
            raise MalformedRequest("after must be a string.")
        after = None if cursor is None else QuestionCursor.parse(cursor)
        limit = limit_of(asked.get("limit"))
        if (caller := asked.get("caller")) is None:
            found, last = await self._find(after, limit)
        elif caller == EVERYONE:
            await self._require(self._operate)
            found = await (await self._store()).questions(QuestionFilter(after=after, limit=limit))
            last = found[-1].cursor if len(found) == limit else None
        else:
            raise MalformedRequest(f"caller must be {EVERYONE}, for the questions to everybody.")
        page: dict[str, Any] = {"questions": [question.to_dict() for question in found]}
        return page if last is None else page | {"next": str(last)}

    async def of_run(self, run_id: str) -> list[RunQuestion]:
        """Return what a run has asked, in order; of another's run, the questions that the caller may answer.

        Raises:
            RunNotFound: No such id, or it is no longer kept, or another's and none of its questions is for the caller.
            BackendUnavailable: The run store does not answer.
        """
        wanted = QuestionFilter(run_id=run_id, is_open=False, limit=QUESTIONS_OF_RUN)
        try:
            await self._run(run_id)
        except RunNotFound:
            asked = await (await self._store()).questions(wanted) if run_id.isprintable() else []
            if not (own := [question for question in asked if await self.may_answer(question)]):
                raise
            return own
        return await (await self._store()).questions(wanted)

    async def get(self, run_id: str, number: int) -> RunQuestion:
        """Return a question that the caller may answer, or of a run that it may see.

        Raises:
            QuestionNotFound: It does not exist, or is hidden from the caller.
            BackendUnavailable: The run store does not answer.
        """
        is_place = 0 < number < 10**9 and run_id.isprintable()  # not every store can look up any other
        question = await (await self._store()).question(run_id, number) if is_place else None
        if question is None or not (await self.may_answer(question) or await self._sees_run(run_id)):
            raise QuestionNotFound(f"There is no question {number} of run {printable(run_id, 64)}.")
        return question

    async def answer(self, run_id: str, number: int, value: Any) -> RunQuestion:
        """Answer a question, and return it.

        Args:
            run_id: The run.
            number: The question.
            value: The answer, as a JSON value.

        Raises:
            QuestionNotFound: It does not exist, or is hidden from the caller.
            PermissionDenied: The caller may see it, but not answer it.
            ValidationError: The answer does not fit the schema. Its ``errors`` point below ``/answer``.
            QuestionClosed: It was answered before, has expired, or its run has ended.
            BackendUnavailable: The run store does not answer.
        """
        question = await self.get(run_id, number)
        if not await self.may_answer(question):
            whom = "another user than the run's caller" if self._is_excluded(question) else question.to
            raise PermissionDenied(f"This question is for {whom} to answer.")
        by = None if self._principal is None else printable(self._principal.user_id)
        running = await self._start()
        return await answered(running.desk.store, running.runs, question, value, by)

    async def may_answer(self, question: RunQuestion) -> bool:
        """Whether the question is for the caller to answer, as long as it is open."""
        principal = self._principal
        if principal is None:
            return True
        if self._is_excluded(question):
            return False
        permission = permission_of(question.audience, principal.tenant_id)
        if permission is None:
            return question.audience == USER + principal.identity
        return not await missing_permissions(self._authorizers, principal, frozenset({permission}))

    def _is_excluded(self, question: RunQuestion) -> bool:
        principal = self._principal
        return question.excludes_owner and principal is not None and question.owner == principal.identity

    async def _sees_run(self, run_id: str) -> bool:
        try:
            await self._run(run_id)
        except RunNotFound:
            return False
        return True

    async def _audiences(self, store: QuestionStore) -> list[str] | None:
        """Return whom the caller may answer for; None for everybody."""
        principal = self._principal
        if principal is None:
            return None
        own = {
            permission: audience
            for audience in await store.asked_permissions()
            if (permission := permission_of(audience, principal.tenant_id)) is not None
        }
        asked = frozenset(own)
        missing = await missing_permissions(self._authorizers, principal, asked) if asked else asked
        return [USER + principal.identity, *(own[permission] for permission in sorted(asked - missing))]

    async def _store(self) -> QuestionStore:
        return (await self._start()).desk.store


class LinkedQuestion:
    """The question that a link leads to: who has the link may see and answer it, once."""

    def __init__(self, store: QuestionStore, runs: RunLookup, question: RunQuestion) -> None:
        self._store = store
        self._runs = runs
        self.question = question

    @classmethod
    async def of(cls, store: QuestionStore, runs: RunLookup, token: str) -> LinkedQuestion:
        """Return the question of a link.

        Args:
            store: Where questions are kept.
            runs: Knows the runs that ask.
            token: What the link ends with; see `Asked.token`.

        Raises:
            QuestionNotFound: The link is not valid.
            BackendUnavailable: The run store does not answer.
        """
        run_id, _, rest = token.partition(".")
        number, _, secret = rest.partition(".")
        is_whole = number.isascii() and number.isdigit() and len(number) < 10
        question = await store.question(run_id, int(number)) if is_whole and run_id.isprintable() else None
        if question is None or not question.fits(secret):
            raise QuestionNotFound("The link is not valid, or the question is no longer stored.")
        return cls(store, runs, question)

    def require_open(self) -> None:
        """Make sure that it can still be answered.

        Raises:
            QuestionClosed: It was answered before, has expired, or its run has ended.
        """
        _refuse_closed(self.question)

    async def answer(self, value: Any) -> RunQuestion:
        """Answer it; see `CallerQuestions.answer`."""
        self.question = await answered(self._store, self._runs, self.question, value, BY_LINK)
        return self.question


async def answered(
    store: QuestionStore, runs: RunLookup, question: RunQuestion, value: Any, by: str | None
) -> RunQuestion:
    """Answer a question for a caller who may, and return it."""
    _refuse_closed(question)
    wrong = Validator(dict(question.schema)).errors(value)
    if errors := [each | {"pointer": pointer(["answer"]) + each["pointer"]} for each in wrong]:
        raise ValidationError(summary(errors), errors=errors[:MAX_ERRORS])
    text = jsontext.encode(value)
    if len(text) > QUESTION_BYTES:
        raise RequestTooLarge(f"answer has {len(text)} bytes as JSON text, and at most {QUESTION_BYTES} are taken.")
    closing = QuestionClosing(QuestionStatus.ANSWERED, time.time(), text, by)
    if await store.close_question(question.run_id, question.number, closing):
        runs.forget_question(question.run_id, question.number)
        return question.closed(closing)
    found = await store.question(question.run_id, question.number)
    if found is not None:
        _refuse_closed(found)
    raise _closed("is no longer open", QuestionStatus.EXPIRED)


def _refuse_closed(question: RunQuestion) -> None:
    if question.status is QuestionStatus.ANSWERED:
        raise _closed("was answered before", question.status)
    if question.status is QuestionStatus.WITHDRAWN:
        raise _closed("is no longer asked: its run goes on without the answer, or has ended", question.status)
    is_late = question.expires_at is not None and time.time() >= question.expires_at
    if question.status is QuestionStatus.EXPIRED or is_late:
        raise _closed("has expired", QuestionStatus.EXPIRED)


def _closed(what: str, status: QuestionStatus) -> QuestionClosed:
    return QuestionClosed(f"The question {what}.", details={"question_status": str(status)})
