"""Questions of runs as rows of a table, the same ones in SQLite and in PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.runs.question import PERMISSION, QuestionClosing, QuestionStatus, RunQuestion
from nexus_runs.listing import Query, QueryBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nexus_core.runs.question import QuestionFilter

COLUMNS = "run_id, number, body, status, closed_at, answer, answered_by"
"""The columns of `question_of`."""

OPEN = str(QuestionStatus.OPEN)

ASKED_PERMISSIONS = (
    f"SELECT DISTINCT audience FROM questions WHERE status = '{OPEN}' AND audience >= '{PERMISSION}' "
    f"AND audience < '{PERMISSION[:-1]};' ORDER BY audience"
)


def question_of(row: Sequence[Any]) -> RunQuestion:
    """Return the question of a row with the `COLUMNS`."""
    return RunQuestion.decode(*row)


def row_of(key: int, question: RunQuestion) -> tuple[Any, ...]:
    """Return the values of a new row, in the order of the table's columns.

    Args:
        key: The key of the run's row.
        question: The question.
    """
    return (
        key, question.number, question.run_id, question.asked_at, question.audience, str(question.status),
        question.closed_at, question.answered_by, question.answer, question.encode(),
    )  # fmt: skip


def closing_values(closing: QuestionClosing) -> tuple[Any, ...]:
    """Return the values that closing a question changes: status, time, by whom, answer."""
    return str(closing.status), closing.closed_at, closing.answered_by, closing.answer


def page(wanted: QuestionFilter, builder: QueryBuilder) -> Query:
    """Return the query for a page of questions."""
    conditions = ["1 = 1"]
    if wanted.is_open:
        conditions.append(f"status = '{OPEN}'")
    if wanted.audiences is not None:
        marks = ", ".join(builder.add(audience) for audience in sorted(wanted.audiences))
        conditions.append(f"audience IN ({marks or 'NULL'})")
    if wanted.run_id is not None:
        conditions.append(f"run = (SELECT n FROM runs WHERE id = {builder.add(wanted.run_id)})")
    if wanted.after is not None:
        marks = ", ".join(builder.add(value) for value in wanted.after)
        conditions.append(f"(asked_at, run_id, number) > ({marks})")
    text = (
        f"SELECT {COLUMNS} FROM questions WHERE {' AND '.join(conditions)} ORDER BY asked_at, run_id, number "
        f"LIMIT {builder.add(wanted.limit)}"
    )
    return Query(text, builder.arguments)
