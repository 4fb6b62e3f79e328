"""Tests of run stores: questions."""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexus_core.runs.contract.base import SECONDS, RunStoreTests, sample_end, sample_record
from nexus_core.runs.question import (
    QuestionClosing,
    QuestionCursor,
    QuestionFilter,
    QuestionStatus,
    RunQuestion,
    permission_audience,
)
from nexus_core.runs.record import RunChange
from nexus_core.runs.status import RunStatus

if TYPE_CHECKING:
    from nexus_core.runs.record import RunRecord
    from nexus_core.runs.store import RunStore


def sample_question(record: RunRecord, number: int = 1, **members: Any) -> RunQuestion:
    """Return a question for a test."""
    given: dict[str, Any] = {
        "workflow": record.workflow, "text": "Ship it?", "schema": {"type": "boolean"}, "to": "caller",
        "audience": "user:ann", "asked_at": time.time(),
    } | members  # fmt: skip
    return RunQuestion(record.id, number, **given)


def sample_answer(answer: bytes = b"true", **members: Any) -> QuestionClosing:
    """Return an answer for a test."""
    return QuestionClosing(QuestionStatus.ANSWERED, time.time(), answer, "ann")._replace(**members)


def asking(*questions: RunQuestion) -> RunChange:
    """Return the change that asks them."""
    return RunChange(questions[0].run_id, status=RunStatus.WAITING, questions=questions)


class AskingTests(RunStoreTests):
    """Questions are kept, listed and closed once."""

    def test_a_question_is_kept_as_it_was_asked(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            question = sample_question(
                record, owner="ann", details={"käse": [1, None]}, expires_at=time.time() + 60, excludes_owner=True,
                secret="ab" * 32, text="Ä\n\u0007?", audience=permission_audience("é/:", "p q"),
            )  # fmt: skip
            await store.begin(record)
            await store.write([asking(question)])
            assert await store.question(record.id, 1) == question
            assert await store.question(record.id, 2) is None
            assert await store.question("no such run", 1) is None
            state = await store.get(record.id)
            assert state is not None
            assert state.status is RunStatus.WAITING
            assert await store.asked_permissions() == [question.audience]

        self.run(test)

    def test_a_number_is_asked_once(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            await store.begin(record)
            first, second = sample_question(record), sample_question(record, 2)
            await store.write([asking(first, second)])
            await store.write([asking(replace(first, text="Other?"))])
            assert await store.questions(QuestionFilter(run_id=record.id)) == [first, second]

        self.run(test)

    def test_one_answer_counts(self) -> None:
        async def test(store: RunStore) -> None:
            await self._answered(store, store)

        self.run(test)

    def test_one_answer_counts_in_another_process(self) -> None:
        self.run_shared(self._answered)

    async def _answered(self, runner: RunStore, other: RunStore) -> None:
        record = sample_record()
        await runner.begin(record)
        await runner.write([asking(sample_question(record))])
        changed = asyncio.Event()
        stop = runner.watch(record.id, changed.set)
        changed.clear()
        answer = sample_answer()
        answers = [answer, *(sample_answer(b"false", answered_by=name) for name in "bcde")]
        stores = [other, runner, other, other, runner]
        closings = zip(stores, answers, strict=True)
        results = await asyncio.gather(*(store.close_question(record.id, 1, each) for store, each in closings))
        assert sum(results) == 1
        async with asyncio.timeout(SECONDS):
            while (question := await runner.question(record.id, 1)) is None or question.is_open:
                await changed.wait()
                changed.clear()
        stop()
        assert question == question.closed(answers[results.index(True)])
        assert await other.close_question(record.id, 1, answers[results.index(True)])  # a repeat, after an outage
        assert not await other.close_question(record.id, 1, sample_answer(answered_by="f"))
        assert not await other.close_question(record.id, 9, answer)
        assert await other.questions(QuestionFilter()) == []
        assert await other.questions(QuestionFilter(is_open=False)) == [question]

    def test_an_answer_that_comes_late_does_not_count(self) -> None:
        async def test(store: RunStore) -> None:
            record = sample_record()
            await store.begin(record)
            await store.write([asking(sample_question(record, expires_at=100.0))])
            assert not await store.close_question(record.id, 1, sample_answer(closed_at=100.0))
            assert await store.close_question(record.id, 1, QuestionClosing(QuestionStatus.EXPIRED, 100.0))

        self.run(test)

    def test_a_run_that_ends_withdraws_what_it_asks(self) -> None:
        async def test(store: RunStore) -> None:
            record, late = sample_record(), sample_record()
            await store.begin_many([record, late])
            await store.write([asking(sample_question(record), sample_question(record, 2))])
            assert await store.close_question(record.id, 2, sample_answer())
            await store.end(sample_end(record, finished_at=200.0))
            await store.write([asking(sample_question(late)), sample_end(late)])
            first = await store.question(record.id, 1)
            assert first is not None
            assert (first.status, first.closed_at) == (QuestionStatus.WITHDRAWN, 200.0)
            second = await store.question(record.id, 2)
            assert second is not None
            assert second.status is QuestionStatus.ANSWERED
            assert not await store.close_question(record.id, 1, sample_answer())
            assert await store.questions(QuestionFilter()) == []
            (written,) = await store.write([asking(sample_question(record, 3))])
            assert not written.is_applied
            assert await store.question(record.id, 3) is None

        self.run(test)

    def test_listing_questions_by_every_filter(self) -> None:
        async def test(store: RunStore) -> None:
            every = []
            audiences = ["user:ann", "user:bob", permission_audience(None, "ship"), permission_audience("t", "ship")]
            for number in range(6):
                record = sample_record(f"{number:04x}")
                await store.begin(record)
                questions = [
                    sample_question(record, each + 1, audience=audience, asked_at=1000.0 + (number * 7 + each * 3) % 5)
                    for each, audience in enumerate(audiences)
                ]
                await store.write([asking(*questions)])
                await store.close_question(record.id, number % 4 + 1, sample_answer())
                every += [await store.question(record.id, each + 1) for each in range(4)]
            known = sorted((each for each in every if each is not None), key=lambda each: each.cursor)
            assert await store.asked_permissions() == sorted(audiences[2:])
            for chosen in (None, [], audiences[:1], audiences[1:3], ["user:eve"]):
                for run_id in (None, "0003", "no such run"):
                    for is_open in (True, False):
                        for after in (None, known[7].cursor):
                            wanted = QuestionFilter(chosen, run_id, is_open, after, 5)
                            expected = [each for each in known if wanted.matches(each)][:5]
                            assert await store.questions(wanted) == expected, wanted
            seen, after = [], None
            while page := await store.questions(QuestionFilter(after=after, limit=4)):
                seen += page
                after = QuestionCursor.parse(str(page[-1].cursor))
            assert seen == [each for each in known if each.is_open]

        self.run(test)

    def test_questions_go_with_their_run(self) -> None:
        async def test(store: RunStore) -> None:
            from nexus_core.runs.retention import RunRetention

            record = sample_record()
            await store.begin(record)
            await store.write([asking(sample_question(record)), sample_end(record)])
            assert (await store.prune(RunRetention(max_runs=0))).runs == 1
            assert await store.question(record.id, 1) is None
            assert await store.questions(QuestionFilter(is_open=False)) == []

        self.run(test)
