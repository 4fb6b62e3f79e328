"""`Claim`: which runs a process works on next."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy
from sqlalchemy import text

from nexus_core.runs.work import PRIORITY, Offer
from nexus_dbos.queue_columns import WAITING, WORKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection, Engine

    from nexus_core.runs.work import WorkLimits
    from nexus_dbos.queue_columns import Tables

ANY = ""
"""The workflow of rows that were queued without one: every process works on them."""

WORKFLOWS = 50
"""Of how many workflows runs are considered at once. Where more have waiting runs, they take turns."""

OWNERS = 10_000
"""How many owners' turns are remembered."""

LOOKS = 20
"""How often more runs are read where the keys of the first ones are at their limits."""


class WaitingRun(NamedTuple):
    """A run that waits."""

    run_id: str
    owner: str
    key: str | None
    priority: int


class Claim:
    """Chooses runs and marks them as taken by this process. Used by one thread.

    Limits hold although several processes choose at once: SQLite has one writer at a time; in PostgreSQL,
    processes that have limits to observe wait for each other.

    Args:
        tables: The names of the tables.
        engine: The database.
        queue: The queue's name in DBOS's table.
        mark: Columns that DBOS expects of a run that is at work: ``executor_id``, ``application_version`` and
            ``application_name``.
    """

    def __init__(self, tables: Tables, engine: Engine, queue: str, mark: Mapping[str, str]) -> None:
        self._tables, self._engine, self._queue, self._mark = tables, engine, queue, dict(mark)
        self._owners, self._workflows = _LastServed(), _LastServed()

    def take(self, offers: Mapping[str, Offer], places: int, token: str) -> list[str]:
        """Return the ids of at most so many runs, which this process has to work on now.

        Args:
            offers: What this process works on.
            places: How many runs more it can work on.
            token: An id of this call: DBOS's proof that a run is still this process's.
        """
        offers = {**offers, ANY: Offer()}
        with self._engine.begin() as connection:
            names = [name for name in waiting_workflows(self._tables, connection) if name in offers]
            if not names:
                return []
            names = self._workflows.sorted(names)[:WORKFLOWS]
            if self._tables.schema is None:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif any(any(offers[name].limits) for name in names):
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(hashtext(:lock))"),
                    {"lock": f"nexus_dbos claim {self._tables.schema}"},
                )
            now = now_of(self._tables, connection)
            room = Room(self._tables, connection, {name: offers[name].limits for name in names}, now)
            waiting = {name: self._of_workflow(connection, name, offers[name], room, places) for name in names}
            chosen = self._choose(waiting, places)
            return self._mark_taken(connection, chosen, offers, token, now)

    def adopt(self) -> int:
        """Let all processes work on waiting rows that have no workflow, and return how many there were."""
        with self._engine.begin() as connection:
            adopted = connection.execute(
                text(
                    f"UPDATE {self._tables.runs} SET nexus_workflow = :name, nexus_owner = '', nexus_turn = 0, "
                    "nexus_priority = :priority WHERE status IN ('ENQUEUED', 'PENDING') AND status = 'ENQUEUED' "
                    "AND nexus_workflow IS NULL AND queue_name = :queue"
                ),
                {"name": ANY, "priority": PRIORITY, "queue": self._queue},
            )
            return int(adopted.rowcount)

    def _of_workflow(
        self, connection: Connection, name: str, offer: Offer, room: Room, places: int
    ) -> list[WaitingRun]:
        """Return the first waiting runs of a workflow that its limits allow."""
        wanted = min(places, room.of_workflow(name))
        allowed: list[WaitingRun] = []
        taken: Counter[str] = Counter()
        full = room.full_keys(name)
        for _ in range(LOOKS):
            if len(allowed) >= wanted:
                break
            more = self._read(connection, name, offer.version, wanted, full, [each.run_id for each in allowed])
            before = len(full)
            for each in more:
                if each.key is not None and taken[each.key] >= room.of_key(name, each.key):
                    full.add(each.key)
                elif len(allowed) < wanted:
                    allowed.append(each)
                    taken[each.key or ""] += each.key is not None
            if len(more) < wanted or len(full) == before:
                break
        return allowed

    def _read(
        self, connection: Connection, name: str, version: str, limit: int, full: Iterable[str], there: Sequence[str]
    ) -> list[WaitingRun]:
        conditions, values = "", {"name": name, "version": version, "limit": limit}
        expanding: list[sqlalchemy.BindParameter[str]] = []
        for column, several in (("nexus_key", list(full)), ("workflow_uuid", list(there))):
            if several:
                conditions += f" AND ({column} IS NULL OR {column} NOT IN :{column})"
                expanding.append(sqlalchemy.bindparam(column, several, expanding=True))
        lock = "" if self._tables.schema is None else " FOR UPDATE SKIP LOCKED"
        query = text(
            f"SELECT workflow_uuid, nexus_owner, nexus_key, nexus_priority FROM {self._tables.runs} "
            f"WHERE {WAITING} = :name AND (nexus_version IS NULL OR nexus_version = :version){conditions} "
            f"ORDER BY nexus_priority, nexus_turn, created_at LIMIT :limit{lock}"
        )
        return [WaitingRun(*row) for row in connection.execute(query.bindparams(*expanding), values)]

    def _choose(self, waiting: Mapping[str, list[WaitingRun]], places: int) -> dict[str, list[str]]:
        """Return the runs to take, by workflow: by priority, and among equals by the turns of owners and workflows."""
        left = {name: list(reversed(each)) for name, each in waiting.items() if each}
        chosen: dict[str, list[str]] = {}
        for _ in range(places):
            if not left:
                break

            def turn(name: str) -> tuple[int, int, int]:
                first = left[name][-1]
                return first.priority, self._owners.of(first.owner), self._workflows.of(name)

            name = min(left, key=turn)
            run = left[name].pop()
            if not left[name]:
                del left[name]
            self._owners.served(run.owner)
            self._workflows.served(name)
            chosen.setdefault(name, []).append(run.run_id)
        return chosen

    def _mark_taken(
        self, connection: Connection, chosen: Mapping[str, list[str]], offers: Mapping[str, Offer], token: str, now: int
    ) -> list[str]:
        taken: list[str] = []
        for name, run_ids in chosen.items():
            limits = offers[name].limits
            began = ", nexus_began_at = :now" if limits.rate or limits.key_rate else ""
            change = text(
                f"UPDATE {self._tables.runs} SET status = 'PENDING', owner_xid = :token, executor_id = :executor_id, "
                "application_version = :application_version, application_name = :application_name, "
                "started_at_epoch_ms = :now, updated_at = :now, "
                "recovery_attempts = COALESCE(recovery_attempts, 0) + 1, "
                f"nexus_begun_version = COALESCE(nexus_begun_version, :version){began} "
                "WHERE workflow_uuid IN :run_ids AND status = 'ENQUEUED' RETURNING workflow_uuid"
            ).bindparams(sqlalchemy.bindparam("run_ids", run_ids, expanding=True))
            values = {**self._mark, "token": token, "now": now, "version": offers[name].version}
            marked = set(connection.execute(change, values).scalars())
            taken += [run_id for run_id in run_ids if run_id in marked]
        return taken


class Room:
    """How many runs of workflows and keys may begin now.

    Args:
        tables: The names of the tables.
        connection: A transaction in which no other process takes runs of workflows with limits.
        limits: The limits of the workflows.
        now: Milliseconds since the epoch.
    """

    def __init__(self, tables: Tables, connection: Connection, limits: Mapping[str, WorkLimits], now: int) -> None:
        self._tables, self._connection, self._limits, self._now = tables, connection, limits, now
        counted = [name for name, each in limits.items() if each.concurrency or each.key_concurrency]
        self._working: Counter[tuple[str, str | None]] = Counter()
        self._workflows: Counter[str] = Counter()
        self._begun: dict[str, Counter[str]] = {}
        if counted:
            query = text(
                f"SELECT nexus_workflow, nexus_key, count(*) FROM {tables.runs} "
                f"WHERE {WORKING} IN :names GROUP BY nexus_workflow, nexus_key"
            ).bindparams(sqlalchemy.bindparam("names", counted, expanding=True))
            for name, key, count in connection.execute(query):
                self._working[name, key] = count
                self._workflows[name] += count

    def of_workflow(self, name: str) -> int:
        """Return how many runs of a workflow may begin, whatever their keys are."""
        return min(self.for_concurrency(name), self.for_rate(name))

    def for_concurrency(self, name: str) -> int:
        """Return how many runs its concurrency leaves room for."""
        limit = self._limits[name].concurrency
        return _MANY if limit is None else max(0, limit - self._workflows[name])

    def for_rate(self, name: str) -> int:
        """Return how many runs its rate leaves room for."""
        rate = self._limits[name].rate
        if rate is None:
            return _MANY
        query = text(
            f"SELECT count(*) FROM (SELECT 1 FROM {self._tables.runs} "
            "WHERE nexus_workflow = :name AND nexus_began_at > :since LIMIT :runs) AS begun"
        )
        values = {"name": name, "since": self._since(rate.seconds), "runs": rate.runs}
        return max(0, rate.runs - int(self._connection.execute(query, values).scalar_one()))

    def of_key(self, name: str, key: str) -> int:
        """Return how many runs of a key may begin."""
        return min(self.for_key_concurrency(name, key), self.for_key_rate(name, key))

    def for_key_concurrency(self, name: str, key: str) -> int:
        """Return how many runs of a key the concurrency of keys leaves room for."""
        limit = self._limits[name].key_concurrency
        return _MANY if limit is None else max(0, limit - self._working[name, key])

    def for_key_rate(self, name: str, key: str) -> int:
        """Return how many runs of a key the rate of keys leaves room for."""
        rate = self._limits[name].key_rate
        return _MANY if rate is None else max(0, rate.runs - self._begun_keys(name, rate.seconds)[key])

    def full_keys(self, name: str) -> set[str]:
        """Return the keys of which no run may begin."""
        limits, full = self._limits[name], set()
        if limits.key_concurrency is not None:
            limit = limits.key_concurrency
            full |= {key for (of, key), count in self._working.items() if of == name and key and count >= limit}
        if limits.key_rate is not None:
            rate = limits.key_rate
            full |= {key for key, count in self._begun_keys(name, rate.seconds).items() if count >= rate.runs}
        return full

    def _begun_keys(self, name: str, seconds: float) -> Counter[str]:
        if name not in self._begun:
            query = text(
                f"SELECT nexus_key, count(*) FROM {self._tables.runs} WHERE nexus_workflow = :name "
                "AND nexus_began_at > :since AND nexus_key IS NOT NULL GROUP BY nexus_key"
            )
            counted = self._connection.execute(query, {"name": name, "since": self._since(seconds)})
            self._begun[name] = Counter({key: count for key, count in counted})
        return self._begun[name]

    def _since(self, seconds: float) -> int:
        return self._now - round(seconds * 1000)


class _LastServed:
    """Who was served how long ago. Who is seen for the first time comes behind all others."""

    def __init__(self) -> None:
        self._count, self._served = 0, OrderedDict[str, int]()

    def of(self, name: str) -> int:
        """Return a number that is lower for those who were served earlier."""
        if name not in self._served:
            self.served(name)
        return self._served[name]

    def served(self, name: str) -> None:
        """Note that it is another one's turn."""
        self._count += 1
        self._served[name] = self._count
        self._served.move_to_end(name)
        if len(self._served) > OWNERS:
            self._served.popitem(last=False)

    def sorted(self, names: Iterable[str]) -> list[str]:
        """Return names, those first that were served longest ago."""
        return sorted(names, key=self.of)


def waiting_workflows(tables: Tables, connection: Connection) -> list[str]:
    """Return the workflows that have waiting runs. The cost depends on their number, not on that of the runs."""
    first = f"SELECT nexus_workflow FROM {tables.runs} WHERE {WAITING} {{}} ORDER BY nexus_workflow LIMIT 1"
    query = text(
        f"WITH RECURSIVE names(name) AS (SELECT ({first.format('IS NOT NULL')}) UNION ALL "
        f"SELECT ({first.format('> names.name')}) FROM names WHERE names.name IS NOT NULL) "
        "SELECT name FROM names WHERE name IS NOT NULL"
    )
    return list(connection.execute(query).scalars())


def now_of(tables: Tables, connection: Connection) -> int:
    """Return the time in milliseconds since the epoch, by one clock for all processes of the database."""
    if tables.schema is None:
        return time.time_ns() // 1_000_000
    clock = text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")
    return int(connection.execute(clock).scalar_one())


_MANY = 1_000_000_000
