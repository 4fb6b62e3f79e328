"""Questions in the file of the run store ``sqlite``: functions that take a connection, and run in its thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.runs.question import QuestionStatus
from nexus_runs import questions
from nexus_runs.listing import QueryBuilder

if TYPE_CHECKING:
    import sqlite3

    from nexus_core.runs.question import QuestionClosing, QuestionFilter, RunQuestion
    from nexus_runs.rows import RunRow

ADD = f"INSERT INTO questions VALUES ({', '.join('?' * 10)})"
GET = f"SELECT {questions.COLUMNS} FROM questions WHERE run = (SELECT n FROM runs WHERE id = ?) AND number = ?"
CLOSE = (
    "UPDATE questions SET status = ?, closed_at = ?, answered_by = ?, answer = ? "
    "WHERE run = (SELECT n FROM runs WHERE id = ?) AND number = ?"
)
WITHDRAW = f"UPDATE questions SET status = ?, closed_at = ? WHERE run = ? AND status = '{questions.OPEN}'"


def save(connection: sqlite3.Connection, row: RunRow) -> None:
    """Write what a run asks, inside the transaction of its other changes."""
    if row.questions and row.number is not None:
        connection.executemany(ADD, [questions.row_of(row.number, question) for question in row.questions])
        connection.execute("UPDATE runs SET asked = ? WHERE n = ?", (row.asked, row.number))
    if row.withdraws:
        connection.execute(WITHDRAW, (str(QuestionStatus.WITHDRAWN), row.finished_at, row.number))


def get(connection: sqlite3.Connection, run_id: str, number: int) -> RunQuestion | None:
    """Return a question, or None."""
    row = connection.execute(GET, (run_id, number)).fetchone()
    return None if row is None else questions.question_of(row)


def find(connection: sqlite3.Connection, wanted: QuestionFilter) -> list[RunQuestion]:
    """Return the questions that a filter shows."""
    query = questions.page(wanted, QueryBuilder("?"))
    return [questions.question_of(row) for row in connection.execute(query.text, query.arguments)]


def close(connection: sqlite3.Connection, run_id: str, number: int, closing: QuestionClosing) -> bool:
    """Close a question, if it is open and its time has not passed. It survives a power failure."""
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("BEGIN IMMEDIATE")
    question = get(connection, run_id, number)
    is_closed = question is not None and question.takes(closing)
    if is_closed:
        connection.execute(CLOSE, (*questions.closing_values(closing), run_id, number))
        connection.execute("UPDATE runs SET closings = closings + 1 WHERE id = ?", (run_id,))
    connection.execute("COMMIT")
    connection.execute("PRAGMA synchronous = NORMAL")
    return is_closed or (question is not None and question.is_closed_by(closing))


def asked_permissions(connection: sqlite3.Connection) -> list[str]:
    """Return the audiences of open questions to who has a permission."""
    return [audience for (audience,) in connection.execute(questions.ASKED_PERMISSIONS)]
