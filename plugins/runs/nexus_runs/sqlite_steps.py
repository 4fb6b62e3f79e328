"""What is done with the file of the run store ``sqlite``: functions that take a connection, and run in its thread."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from nexus_core.runs.implied_events import with_implied
from nexus_core.runs.record import RunEvent, Written
from nexus_core.runs.status import RunStatus
from nexus_runs import listing, sqlite_questions
from nexus_runs.retention import OLDEST, TOTALS, Victims, limits_of
from nexus_runs.rows import (
    CHANGING,
    COLUMNS,
    INLINE_BYTES,
    INSERTED,
    RunRow,
    apply_changes,
    joined,
    split_whole,
    state_of,
    step_body,
    step_of,
    whole_row,
)  # fmt: skip

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nexus_core.runs.record import RunChange, RunFilter, RunState, RunStep
    from nexus_core.runs.retention import Pruned, RunRetention

FORGET_EXECUTORS = 24 * 3600.0
"""Seconds after the end of its lease that a process is remembered."""

ROW_LENGTH = len(INSERTED.split(", "))
ROW = f"({', '.join('?' * ROW_LENGTH)})"
INSERT = f"INSERT INTO runs ({INSERTED}) VALUES {ROW}"
EXACT, ROUGH, MOST = 16, 64, 512
"""Up to `EXACT` rows are inserted by a statement for just as many, more by one for the next multiple of `EXACT`, more
than `ROUGH` by one for the next multiple of that, up to `MOST`: few enough statements to be kept."""

UPDATE = (
    "UPDATE runs SET status = ?, started_at = ?, finished_at = ?, duration = ?, last_event = ?, size = ?, "
    "result_size = ?, problem = ?, result = ? WHERE n = ?"
)
RENEW = """
INSERT INTO executors VALUES (?1, ?2, ?3, ?2 + ?3) ON CONFLICT (id) DO UPDATE SET
    since = CASE WHEN ends < ?2 THEN ?2 ELSE since END, lease = ?3, ends = ?2 + ?3
"""
EXPIRED = f"""
SELECT {COLUMNS} FROM runs WHERE finished_at IS NULL AND NOT is_taken AND executor IN (
    SELECT executor FROM (SELECT DISTINCT executor FROM runs WHERE finished_at IS NULL AND executor IS NOT NULL)
    WHERE executor NOT IN (SELECT id FROM executors WHERE ends > ?1)
) AND EXISTS (SELECT 1 FROM executors WHERE id = ?2 AND ends > ?1 AND since + lease <= ?1)
ORDER BY accepted_at LIMIT ?3
"""
TAKE = """
UPDATE runs SET attempt = attempt + (executor IS NOT NULL), executor = ?2, is_taken = 1, status = 'running',
    started_at = coalesce(started_at, ?3) WHERE id = ?1 AND finished_at IS NULL
"""
GET = f"""
SELECT params, result, (SELECT value FROM payloads WHERE run = n AND kind = 'params'),
    (SELECT value FROM payloads WHERE run = n AND kind = 'result'), {COLUMNS} FROM runs WHERE id = ?
"""
NEXT_CHANNEL = "SELECT min(channel) FROM runs WHERE status = ? AND channel > ?"
OF_RUN = "SELECT {} FROM {} WHERE run = (SELECT n FROM runs WHERE id = ?) AND number > ? ORDER BY number LIMIT ?"


def insertion(whole: Sequence[RunChange]) -> Callable[[sqlite3.Connection], bool]:
    """Return the step that inserts runs as a whole. It returns False where one was there already.

    Most runs are written so, and all that takes Python is done here, on the event loop's thread: each time that another
    thread needs that again, it waits for a moment in which the event loop rests, and delays it.
    """
    parts = [_insertion(whole[begin : begin + MOST]) for begin in range(0, len(whole), MOST)]

    def insert(connection: sqlite3.Connection) -> bool:
        return sum(connection.execute(*part).rowcount for part in parts) == len(whole)

    return insert


def _insertion(whole: Sequence[RunChange]) -> tuple[str, list[Any]]:
    """Return the statement that inserts at most `MOST` runs, and its values."""
    count, values = len(whole), [value for change in whole for value in whole_row(change)]
    step = 1 if count <= EXACT else EXACT if count <= ROUGH else ROUGH
    rows = -(-count // step) * step
    values += values[-ROW_LENGTH:] * (rows - count)  # what is there already is not inserted again
    return f"INSERT INTO runs ({INSERTED}) VALUES {', '.join([ROW] * rows)} ON CONFLICT (id) DO NOTHING", values


def write(connection: sqlite3.Connection, changes: Sequence[RunChange], is_awaited: bool) -> list[Written]:
    """Apply changes in one transaction. What a caller waits for survives a power failure too."""
    whole, others = split_whole(changes)
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_awaited else 'NORMAL'}")
    connection.execute("BEGIN IMMEDIATE")
    if not insertion(whole)(connection):  # one of them is stored already
        whole, others = [], changes
    rows = {}
    for run_id in {change.run_id for change in others}:
        found = connection.execute(f"SELECT {CHANGING} FROM runs WHERE id = ?", (run_id,)).fetchone()
        if found is not None:
            rows[run_id] = RunRow.of(found)
    written = apply_changes(rows, others)
    for row in rows.values():
        if row.is_changed:
            _save(connection, row)
    connection.execute("COMMIT")
    if is_awaited:
        connection.execute("PRAGMA synchronous = NORMAL")
    return joined(changes, whole, written)


def _save(connection: sqlite3.Connection, row: RunRow) -> None:
    result, result_size = _inline(row.result), len(row.result or b"")
    if row.record is not None:
        record = row.record
        params = _inline(record.params)
        cursor = connection.execute(INSERT, (*row.inserted[:-2], params, result))
        row.number = cursor.lastrowid
        if params is None and record.params is not None:
            _add_payload(connection, row, "params", record.params)
    else:
        connection.execute(UPDATE, (
            str(row.status), row.started_at, row.finished_at, row.duration, row.last_event, row.size,
            result_size, row.problem, result, row.number,
        ))  # fmt: skip
    if result is None and row.result is not None:
        _add_payload(connection, row, "result", row.result)
    if row.events:
        events = [(row.number, event.number, event.body) for event in row.events]
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
        if row.forgotten_events:
            connection.execute("DELETE FROM events WHERE run = ? AND number <= ?", (row.number, row.forgotten_events))
    if row.steps:
        steps = [(row.number, step.number, step_body(step)) for step in row.steps.values()]
        connection.executemany("INSERT OR REPLACE INTO steps VALUES (?, ?, ?)", steps)
    sqlite_questions.save(connection, row)


def _inline(value: bytes | None) -> bytes | None:
    return value if value is not None and len(value) <= INLINE_BYTES else None


def _add_payload(connection: sqlite3.Connection, row: RunRow, kind: str, value: bytes) -> None:
    connection.execute("INSERT INTO payloads VALUES (?, ?, ?)", (row.number, kind, value))


def get(connection: sqlite3.Connection, run_id: str, payloads: bool) -> RunState | None:
    """Return a run, or None."""
    if not payloads:
        light = connection.execute(f"SELECT {COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()
        return None if light is None else state_of(light)
    row = connection.execute(GET, (run_id,)).fetchone()
    if row is None:
        return None
    params, result, large_params, large_result, *light = row
    return state_of(light, large_params if params is None else params, large_result if result is None else result)


def take(connection: sqlite3.Connection, run_id: str, executor: str, now: float) -> RunState | None:
    """Take a run to work on it."""
    connection.execute("PRAGMA synchronous = FULL")
    is_taken = connection.execute(TAKE, (run_id, executor, now)).rowcount
    connection.execute("PRAGMA synchronous = NORMAL")
    if not is_taken:
        return None
    return get(connection, run_id, payloads=True)


def find(connection: sqlite3.Connection, wanted: RunFilter) -> list[RunState]:
    """Return the runs that a filter shows."""
    query = page_query(connection, wanted)
    return [] if query is None else [state_of(row) for row in connection.execute(query.text, query.arguments)]


def page_query(connection: sqlite3.Connection, wanted: RunFilter) -> listing.Query | None:
    """Return the query for a page; None where no run can be on it."""
    builder = listing.QueryBuilder("?")
    if wanted.text is not None and _is_rare(connection, wanted.text):
        return listing.page_of_text(wanted, COLUMNS, builder)
    pairs = listing.pairs_of(wanted, _pairs(connection) if listing.needs_pairs(wanted) else ())
    return listing.page(wanted, pairs, COLUMNS, builder) if pairs else None


def _is_rare(connection: sqlite3.Connection, text: str) -> bool:
    query = listing.count_by_text(text, listing.QueryBuilder("?"))
    return bool(max(connection.execute(query.text, query.arguments).fetchone()) <= listing.FEW)


def _pairs(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return the pairs of status and channel that occur: one step in an index for each."""
    pairs: list[tuple[str, str]] = []
    for status in map(str, RunStatus):
        (channel,) = connection.execute("SELECT min(channel) FROM runs WHERE status = ?", (status,)).fetchone()
        while channel is not None:
            pairs.append((status, channel))
            (channel,) = connection.execute(NEXT_CHANNEL, (status, channel)).fetchone()
    return pairs


def events(connection: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[RunEvent]:
    """Return events of a run."""
    state = get(connection, run_id, payloads=False)
    rows = connection.execute(OF_RUN.format("number, body", "events"), (run_id, after, limit))
    stored = [RunEvent(number, body) for number, body in rows]
    return [] if state is None else with_implied(state, stored, after, limit)


def steps(connection: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[RunStep]:
    """Return steps of a run."""
    return [step_of(body) for (body,) in connection.execute(OF_RUN.format("body", "steps"), (run_id, after, limit))]


def request_cancel(connection: sqlite3.Connection, run_id: str, now: float) -> bool:
    """Note that a run is to be cancelled."""
    query = "UPDATE runs SET cancel_at = coalesce(cancel_at, ?) WHERE id = ? AND finished_at IS NULL"
    return connection.execute(query, (now, run_id)).rowcount == 1


def release(connection: sqlite3.Connection, executor: str) -> None:
    """End a lease."""
    connection.execute("DELETE FROM executors WHERE id = ?", (executor,))


def expired(connection: sqlite3.Connection, executor: str, now: float, limit: int) -> list[RunState]:
    """Return runs whose executors have died."""
    return [state_of(row) for row in connection.execute(EXPIRED, (now, executor, limit))]


def check(connection: sqlite3.Connection, executor: str, now: float, path: Path) -> dict[str, Any]:
    """Write to the file, and return details for operators."""
    connection.execute("UPDATE executors SET ends = ends WHERE id = ?", (executor,))
    runs, size = connection.execute("SELECT coalesce(sum(runs), 0), coalesce(sum(bytes), 0) FROM usage").fetchone()
    return {"runs": runs, "bytes": size, "free_bytes": shutil.disk_usage(path).free}


def prune(connection: sqlite3.Connection, keep: RunRetention, now: float, limit: int, dry_run: bool) -> Pruned:
    """Remove what is beyond the limits, the limits of single workflows first."""
    connection.execute("BEGIN IMMEDIATE")
    victims = Victims(limit, dry_run=dry_run)
    for workflow, limits in limits_of(keep):
        own = "" if workflow is None else " WHERE workflow = ?"
        arguments = () if workflow is None else (workflow,)
        total = connection.execute(f"{TOTALS}{own}", arguments).fetchone()
        query = f"{OLDEST}{own.replace('WHERE', 'AND')} ORDER BY finished_at LIMIT {victims.looked_through}"
        victims.choose(limits, now, workflow, total, connection.execute(query, arguments))
    if not dry_run:
        numbers = [(number,) for number in victims.sizes]
        for table in ("events", "steps", "questions", "payloads"):
            connection.executemany(f"DELETE FROM {table} WHERE run = ?", numbers)
        connection.executemany("DELETE FROM runs WHERE n = ?", numbers)
        connection.execute("DELETE FROM executors WHERE ends < ?", (now - FORGET_EXECUTORS,))
        connection.execute("DELETE FROM usage WHERE runs = 0")
    connection.execute("COMMIT")
    return victims.pruned
