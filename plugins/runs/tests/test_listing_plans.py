"""Whatever a listing is filtered by, it reads a few rows for each that it shows, however many runs there are."""

from __future__ import annotations

import json
import sqlite3
from itertools import combinations

import asyncpg
import pytest
from nexus_runs import postgres_steps, sqlite_steps
from nexus_runs.postgres_client import SETTINGS
from nexus_runs.postgres_schema import prepare
from nexus_runs.sqlite_schema import LAYOUT
from nexus_toolkit.sqlite_file import open_file

from nexus_core.runs.record import RunCursor, RunFilter
from nexus_core.runs.status import RunStatus

RUNS = 10_000
LIMIT = 20
PAIRS = 9
MOST = PAIRS * LIMIT * 2 + LIMIT
"""Rows that a page may read: so many of each pair of status and channel that occurs, and those that it shows."""

NUMBER = "WITH RECURSIVE numbers (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < {}) "
COLUMNS = """
(id, accepted_at, workflow, channel, owner, status, executor, attempt, finished_at, last_event, size, params_size,
 result_size, details)
"""
VALUES = """
SELECT {id}, 1000.0 + i, 'workflow-' || (i % 3),
    CASE i % 10 WHEN 0 THEN 'mcp' WHEN 1 THEN 'cli' ELSE 'api' END, 'owner-' || (i % 5),
    CASE WHEN i % 50 = 0 THEN 'failed' WHEN i % 51 = 0 THEN 'running' ELSE 'completed' END,
    'one', 1, 2000.0 + i, 0, 10, 5, 5, {details} FROM numbers
"""
MEMBERS = {
    "owner": "owner-1", "workflow": "workflow-2", "status": RunStatus.FAILED, "channel": "mcp", "since": 3000.0,
    "until": 9_000.0, "before": RunCursor(8_000.0, "x"), "text": f"{5000:012}",
}  # fmt: skip
SETS = [names for count in range(len(MEMBERS) + 1) for names in combinations(MEMBERS, count)]
FILTERS = [
    *(RunFilter(**{name: MEMBERS[name] for name in names}, limit=LIMIT) for names in SETS),
    RunFilter(text=f"{0:08}", limit=LIMIT),  # all of them begin so
    RunFilter(owner="owner-1", status=RunStatus.RUNNING, channel="nosuch", limit=LIMIT),
    RunFilter(owner="nobody", limit=LIMIT),
    RunFilter(status=RunStatus.WAITING, limit=LIMIT),
]


@pytest.fixture
def sqlite_runs(tmp_path):
    connection = open_file(tmp_path / "runs.db", 5.0, LAYOUT)
    values = VALUES.format(id="printf('%012d', i)", details="CAST('{}' AS BLOB)")
    query = NUMBER.format(RUNS) + f"INSERT INTO runs {COLUMNS} {values}"
    connection.execute("BEGIN")
    connection.execute(query)
    connection.execute("COMMIT")
    yield connection
    connection.close()


def test_sqlite_walks_along_an_index(sqlite_runs: sqlite3.Connection):
    for wanted in FILTERS:
        query = sqlite_steps.page_query(sqlite_runs, wanted)
        if query is None:
            continue
        plan = [row[3] for row in sqlite_runs.execute(f"EXPLAIN QUERY PLAN {query.text}", query.arguments)]
        of_runs = [line for line in plan if line.startswith(("SCAN runs", "SEARCH runs"))]
        assert of_runs, plan
        for line in of_runs:
            assert is_walk(line, wanted), (wanted, line)


def is_walk(line: str, wanted: RunFilter) -> bool:
    """Whether a line of a plan reads what a page shows, and no more."""
    if line == "SEARCH runs" or "INTEGER PRIMARY KEY" in line:  # the first and the last of all, and a single one
        return True
    if "(id>? AND id<?)" in line or "runs_by_end_of_id (<expr>=? AND <expr>=?)" in line:
        return True
    equal = [name for name in ("owner", "workflow") if getattr(wanted, name) is not None]
    needed = " AND ".join(f"{name}=?" for name in (*equal, "status", "channel"))
    return f"({needed}" in line and "COVERING INDEX" in line


def test_sqlite_finds_them_soon(sqlite_runs: sqlite3.Connection):
    steps = [0]

    def count():
        steps[0] += 1

    sqlite_runs.set_progress_handler(count, 100)
    for wanted in FILTERS:
        steps[0] = 0
        sqlite_steps.find(sqlite_runs, wanted)
        most = 60_000 if wanted.text is None else 400_000  # some thousands of ids may begin with a text
        assert steps[0] * 100 < most, (wanted, steps)


@pytest.fixture
async def postgres_runs(postgres_server):
    connection = await asyncpg.connect(postgres_server.url, server_settings={"search_path": "plans"} | SETTINGS)
    await prepare(connection, "plans")
    values = VALUES.format(id="lpad(i::text, 12, '0')", details="'{}'::bytea")
    query = f"INSERT INTO runs {COLUMNS} {NUMBER.format(RUNS)} {values}"
    await connection.execute(query)
    await connection.execute("ANALYZE runs")
    yield connection
    await connection.execute("DROP SCHEMA plans CASCADE")
    await connection.close()


async def test_postgres_reads_what_it_shows(postgres_runs):
    for wanted in FILTERS:
        query = await postgres_steps.page_query(postgres_runs, wanted)
        if query is None:
            continue
        (plan,) = json.loads(
            await postgres_runs.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query.text}", *query.arguments)
        )
        assert rows_read(plan["Plan"]) <= MOST, (wanted, plan)


def rows_read(node):
    """Return how many rows of tables a plan has read."""
    own = 0
    if "Relation Name" in node:
        removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        own = (node["Actual Rows"] + removed) * node["Actual Loops"]
    return own + sum(rows_read(each) for each in node.get("Plans", ()))
