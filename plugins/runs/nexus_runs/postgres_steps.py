"""What is done with PostgreSQL for the run store ``postgres``: functions that take a connection of asyncpg."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core.runs.implied_events import with_implied
from nexus_core.runs.record import RunEvent
from nexus_core.runs.retention import Pruned
from nexus_core.runs.status import RunStatus
from nexus_runs import listing, postgres_questions
from nexus_runs.notifications import NOTIFY, payloads
from nexus_runs.postgres_client import Repeat
from nexus_runs.postgres_schema import PRUNE_LOCK
from nexus_runs.retention import OLDEST, TOTALS, Victims, limits_of
from nexus_runs.rows import (
    CHANGING,
    COLUMNS,
    INSERTED,
    RunRow,
    apply_changes,
    joined,
    split_whole,
    state_of,
    step_body,
    step_of,
    usage_of,
    whole_row,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nexus_core.runs.record import RunChange, RunFilter, RunState, RunStep, Written
    from nexus_core.runs.retention import RunRetention

SHARDS = 8
"""Rows for each workflow in which processes count runs and bytes, so that they do not wait for each other."""

FORGET_EXECUTORS = 24 * 3600.0
"""Seconds after the end of its lease that a process is remembered."""

NOW = "extract(epoch FROM clock_timestamp())::double precision"
"""The time as PostgreSQL knows it: leases do not depend on the clocks of the processes."""

ROWS = f"SELECT {CHANGING} FROM runs WHERE id = ANY($1) ORDER BY id FOR UPDATE"
INSERT = f"""
INSERT INTO runs ({INSERTED})
SELECT * FROM unnest($1::text[], $2::float8[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::int[],
    $9::float8[], $10::float8[], $11::float8[], $12::int[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bytea[],
    $17::bytea[], $18::bytea[], $19::bytea[])
ON CONFLICT (id) DO NOTHING RETURNING id, n
"""
UPDATE = """
UPDATE runs SET status = new.status, started_at = new.started_at, finished_at = new.finished_at,
    duration = new.duration, last_event = new.last_event, size = new.size, result_size = new.result_size,
    problem = new.problem, result = new.result
FROM unnest($1::bigint[], $2::text[], $3::float8[], $4::float8[], $5::float8[], $6::int[], $7::bigint[], $8::bigint[],
    $9::bytea[], $10::bytea[])
    AS new (n, status, started_at, finished_at, duration, last_event, size, result_size, problem, result)
WHERE runs.n = new.n
"""
ADD_EVENTS = "INSERT INTO events SELECT * FROM unnest($1::bigint[], $2::int[], $3::bytea[])"
FORGET_EVENTS = """
DELETE FROM events USING unnest($1::bigint[], $2::int[]) AS old (run, last)
WHERE events.run = old.run AND events.number <= old.last
"""
ADD_STEPS = """
INSERT INTO steps SELECT * FROM unnest($1::bigint[], $2::int[], $3::bytea[])
ON CONFLICT (run, number) DO UPDATE SET body = excluded.body
"""
COUNT = """
INSERT INTO usage SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])
ON CONFLICT (workflow, shard) DO UPDATE SET runs = usage.runs + excluded.runs, bytes = usage.bytes + excluded.bytes
"""
RENEW = f"""
INSERT INTO executors SELECT $1, now, $2, now + $2 FROM (SELECT {NOW} AS now) AS clock
ON CONFLICT (id) DO UPDATE SET lease = excluded.lease, ends = excluded.ends,
    since = CASE WHEN executors.ends < excluded.since THEN excluded.since ELSE executors.since END
"""
EXPIRED = f"""
SELECT {COLUMNS} FROM runs, (SELECT {NOW} AS now) AS clock
WHERE finished_at IS NULL AND NOT is_taken AND executor = ANY(ARRAY(
    SELECT DISTINCT executor FROM runs WHERE finished_at IS NULL AND executor IS NOT NULL
    EXCEPT SELECT id FROM executors WHERE ends > {NOW}))
AND EXISTS (SELECT 1 FROM executors WHERE id = $1 AND ends > now AND since + lease <= now)
ORDER BY accepted_at LIMIT $2
"""
TAKE = """
UPDATE runs SET attempt = attempt + (executor IS NOT NULL)::int, executor = $2, is_taken = true, status = 'running',
    started_at = coalesce(started_at, $3) WHERE id = $1 AND finished_at IS NULL RETURNING n
"""
CANCEL = """
UPDATE runs SET cancel_at = coalesce(cancel_at, $2) WHERE id = $1 AND finished_at IS NULL RETURNING executor
"""
TO_CANCEL = "SELECT id FROM runs WHERE executor = $1 AND cancel_at IS NOT NULL AND finished_at IS NULL"
OF_RUN = "SELECT {} FROM {} WHERE run = (SELECT n FROM runs WHERE id = $1) AND number > $2 ORDER BY number LIMIT $3"
PAIRS = """
WITH RECURSIVE pairs AS (
    SELECT status, (SELECT min(channel) FROM runs WHERE runs.status = every.status) AS channel
    FROM unnest($1::text[]) AS every (status)
    UNION ALL
    SELECT status, (SELECT min(channel) FROM runs WHERE runs.status = pairs.status AND runs.channel > pairs.channel)
    FROM pairs WHERE channel IS NOT NULL
) SELECT status, channel FROM pairs WHERE channel IS NOT NULL
"""


async def write(
    connection: Any, changes: Sequence[RunChange], is_awaited: bool, executor: str, channel: str
) -> list[Written]:
    """Apply changes in one transaction, and tell the other processes.

    Args:
        connection: The connection.
        changes: The changes.
        is_awaited: Whether a caller waits for them; else they need not be on the disk when this returns.
        executor: Id of this process.
        channel: The channel of notifications.

    Raises:
        Repeat: Another process has begun one of the runs between the look at them and the write.
    """
    await connection.execute("BEGIN" if is_awaited else "BEGIN; SET LOCAL synchronous_commit = off")
    whole, others = split_whole(changes)
    if whole:
        new = await connection.fetch(INSERT, *_columns(map(whole_row, whole)))
        if len(new) < len(whole):  # the rest are stored already
            inserted = {run_id for run_id, _ in new}
            whole = [change for change in whole if change.run_id in inserted]
            others = [change for change in changes if change.run_id not in inserted]
    rows: dict[str, RunRow] = {}
    if others:
        found = await connection.fetch(ROWS, sorted({change.run_id for change in others}))
        rows = {row["id"]: RunRow.of(row) for row in found}
    written = apply_changes(rows, others)
    changed = sorted((row for row in rows.values() if row.is_changed), key=lambda row: row.id)
    new, old = [row for row in changed if row.record is not None], [row for row in changed if row.record is None]
    if new:
        await _insert(connection, new)
    if old:
        await connection.execute(UPDATE, *_columns(
            (row.number, str(row.status), row.started_at, row.finished_at, row.duration, row.last_event, row.size,
             len(row.result or b""), row.problem, row.result) for row in old
        ))  # fmt: skip
    await _add_parts(connection, changed)
    await postgres_questions.save(connection, changed)
    await _count(connection, usage_of(changed, whole), hash(executor) % SHARDS)
    if old:
        await connection.execute(NOTIFY, channel, payloads(f"changed {executor}", [row.id for row in old]))
    await connection.execute("COMMIT")
    return joined(changes, whole, written)


async def _insert(connection: Any, rows: list[RunRow]) -> None:
    numbers = dict(await connection.fetch(INSERT, *_columns(row.inserted for row in rows)))
    if len(numbers) < len(rows):
        raise Repeat
    for row in rows:
        row.number = numbers[row.id]


async def _add_parts(connection: Any, rows: list[RunRow]) -> None:
    events = [(row.number, event.number, event.body) for row in rows for event in row.events]
    if events:
        await connection.execute(ADD_EVENTS, *_columns(events))
    if forgotten := [(row.number, row.forgotten_events) for row in rows if row.forgotten_events]:
        await connection.execute(FORGET_EVENTS, *_columns(forgotten))
    steps = [(row.number, step.number, step_body(step)) for row in rows for step in row.steps.values()]
    if steps:
        await connection.execute(ADD_STEPS, *_columns(steps))


async def _count(connection: Any, usage: dict[str, tuple[int, int]], shard: int) -> None:
    rows = [(workflow, shard, *more) for workflow, more in sorted(usage.items()) if more != (0, 0)]
    if rows:
        await connection.execute(COUNT, *_columns(rows))


def _columns(rows: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows, of which there are some, as lists of the values of each column."""
    return [*zip(*rows, strict=True)]


async def request_cancel(connection: Any, run_id: str, now: float, channel: str) -> bool:
    """Note that a run is to be cancelled, and tell the process that runs it."""
    async with connection.transaction():
        row = await connection.fetchrow(CANCEL, run_id, now)
        if row is not None:
            told = payloads("changed ", [run_id]) + payloads(f"cancel {row['executor'] or ''}", [run_id])
            await connection.execute(NOTIFY, channel, told)
    return row is not None


async def get(connection: Any, run_id: str, with_payloads: bool) -> RunState | None:
    """Return a run, or None. PostgreSQL keeps large values out of the row, and reads them where they are selected."""
    more = ", params, result" if with_payloads else ""
    row = await connection.fetchrow(f"SELECT {COLUMNS}{more} FROM runs WHERE id = $1", run_id)
    if row is None:
        return None
    values = tuple(row)
    return state_of(values[:-2], *values[-2:]) if with_payloads else state_of(values)


async def take(connection: Any, run_id: str, executor: str, now: float, channel: str) -> RunState | None:
    """Take a run to work on it."""
    async with connection.transaction():
        if await connection.fetchval(TAKE, run_id, executor, now) is None:
            return None
        await connection.execute(NOTIFY, channel, payloads(f"changed {executor}", [run_id]))
        return await get(connection, run_id, with_payloads=True)


async def find(connection: Any, wanted: RunFilter) -> list[RunState]:
    """Return the runs that a filter shows."""
    query = await page_query(connection, wanted)
    if query is None:
        return []
    return [state_of(tuple(row)) for row in await connection.fetch(query.text, *query.arguments)]


async def page_query(connection: Any, wanted: RunFilter) -> listing.Query | None:
    """Return the query for a page; None where no run can be on it."""
    builder = listing.QueryBuilder("$")
    if wanted.text is not None and await _is_rare(connection, wanted.text):
        return listing.page_of_text(wanted, COLUMNS, builder)
    found = await connection.fetch(PAIRS, [*map(str, RunStatus)]) if listing.needs_pairs(wanted) else ()
    pairs = listing.pairs_of(wanted, map(tuple, found))
    return listing.page(wanted, pairs, COLUMNS, builder) if pairs else None


async def _is_rare(connection: Any, text: str) -> bool:
    query = listing.count_by_text(text, listing.QueryBuilder("$"))
    return bool(max(await connection.fetchrow(query.text, *query.arguments)) <= listing.FEW)


async def events(connection: Any, run_id: str, after: int, limit: int) -> list[RunEvent]:
    """Return events of a run."""
    state = await get(connection, run_id, with_payloads=False)
    rows = await connection.fetch(OF_RUN.format("number, body", "events"), run_id, after, limit)
    stored = [RunEvent(number, body) for number, body in rows]
    return [] if state is None else with_implied(state, stored, after, limit)


async def steps(connection: Any, run_id: str, after: int, limit: int) -> list[RunStep]:
    """Return steps of a run."""
    return [step_of(body) for (body,) in await connection.fetch(OF_RUN.format("body", "steps"), run_id, after, limit)]


async def expired(connection: Any, executor: str, limit: int) -> list[RunState]:
    """Return runs whose executors have died."""
    return [state_of(tuple(row)) for row in await connection.fetch(EXPIRED, executor, limit)]


async def check(connection: Any, executor: str) -> dict[str, Any]:
    """Write, and return details for operators."""
    await connection.execute("UPDATE executors SET ends = ends WHERE id = $1", executor)
    runs, size = await connection.fetchrow(TOTALS)
    return {"runs": int(runs), "bytes": int(size)}


async def prune(connection: Any, keep: RunRetention, now: float, limit: int, dry_run: bool) -> Pruned:
    """Remove what is beyond the limits. Only one process at a time does."""
    async with connection.transaction():
        if not dry_run and not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", PRUNE_LOCK):
            return Pruned(0, 0, True)
        victims = Victims(limit, dry_run=dry_run)
        for workflow, limits in limits_of(keep):
            own = "" if workflow is None else " WHERE workflow = $1"
            arguments = () if workflow is None else (workflow,)
            runs, size = await connection.fetchrow(f"{TOTALS}{own}", *arguments)
            query = f"{OLDEST}{own.replace('WHERE', 'AND')} ORDER BY finished_at LIMIT {victims.looked_through}"
            oldest = await connection.fetch(query, *arguments)
            victims.choose(limits, now, workflow, (int(runs), int(size)), map(tuple, oldest))
        if not dry_run:
            await _remove(connection, victims)
    return victims.pruned


async def _remove(connection: Any, victims: Victims) -> None:
    numbers = [*victims.sizes]
    for table, column in (("events", "run"), ("steps", "run"), ("questions", "run"), ("runs", "n")):
        await connection.execute(f"DELETE FROM {table} WHERE {column} = ANY($1)", numbers)
    await _count(connection, victims.usage, 0)
    await connection.execute(f"DELETE FROM executors WHERE ends < {NOW} - $1", FORGET_EXECUTORS)
