"""Questions in PostgreSQL for the run store ``postgres``: functions that take a connection of asyncpg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.runs.question import QuestionStatus
from nexus_runs import questions
from nexus_runs.listing import QueryBuilder
from nexus_runs.notifications import NOTIFY, payloads

if TYPE_CHECKING:
    from nexus_core.runs.question import QuestionClosing, QuestionFilter, RunQuestion
    from nexus_runs.rows import RunRow

ADD = f"INSERT INTO questions VALUES ({', '.join(f'${number}' for number in range(1, 11))})"
GET = f"SELECT {questions.COLUMNS} FROM questions WHERE run = (SELECT n FROM runs WHERE id = $1) AND number = $2"
CLOSE = (
    "UPDATE questions SET status = $1, closed_at = $2, answered_by = $3, answer = $4 "
    "WHERE run = (SELECT n FROM runs WHERE id = $5) AND number = $6"
)
WITHDRAW = f"UPDATE questions SET status = $1, closed_at = $2 WHERE run = $3 AND status = '{questions.OPEN}'"


async def save(connection: Any, rows: list[RunRow]) -> None:
    """Write what runs ask, inside the transaction of their other changes."""
    for row in rows:
        if row.questions and row.number is not None:
            await connection.executemany(ADD, [questions.row_of(row.number, question) for question in row.questions])
            await connection.execute("UPDATE runs SET asked = $1 WHERE n = $2", row.asked, row.number)
        if row.withdraws:
            await connection.execute(WITHDRAW, str(QuestionStatus.WITHDRAWN), row.finished_at, row.number)


async def get(connection: Any, run_id: str, number: int) -> RunQuestion | None:
    """Return a question, or None."""
    row = await connection.fetchrow(GET, run_id, number)
    return None if row is None else questions.question_of(row)


async def find(connection: Any, wanted: QuestionFilter) -> list[RunQuestion]:
    """Return the questions that a filter shows."""
    query = questions.page(wanted, QueryBuilder("$"))
    return [questions.question_of(row) for row in await connection.fetch(query.text, *query.arguments)]


async def close(connection: Any, run_id: str, number: int, closing: QuestionClosing, channel: str) -> bool:
    """Close a question, if it is open and its time has not passed, and tell the processes that wait for it.

    Args:
        connection: The connection.
        run_id: The run.
        number: The question.
        closing: How it ends.
        channel: The channel of notifications.
    """
    async with connection.transaction():
        row = await connection.fetchrow(f"{GET} FOR UPDATE", run_id, number)
        question = None if row is None else questions.question_of(row)
        is_closed = question is not None and question.takes(closing)
        if is_closed:
            await connection.execute(CLOSE, *questions.closing_values(closing), run_id, number)
            await connection.execute(NOTIFY, channel, payloads("changed ", [run_id]))
    return is_closed or (question is not None and question.is_closed_by(closing))


async def asked_permissions(connection: Any) -> list[str]:
    """Return the audiences of open questions to who has a permission."""
    return [row["audience"] for row in await connection.fetch(questions.ASKED_PERMISSIONS)]
