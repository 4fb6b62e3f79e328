"""`Workers`: which processes live and work, and what they offer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from nexus_core.runs.work import Offer, Rate, WorkLimits
from nexus_dbos.claim import now_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection, Engine

    from nexus_dbos.queue_columns import Tables

SEEN_SECONDS = 5.0
"""Seconds between two notes that a process lives."""

FRESH_SECONDS = 20.0
"""Seconds after which a process counts as dead that has not noted that it lives. Where another one works, that one
notices by its lock within a second."""

Offers = dict[str, list[Offer]]
"""What living processes offer of each workflow."""


class Workers:
    """The table of processes that work. All methods raise what SQLAlchemy raises."""

    def __init__(self, tables: Tables, engine: Engine) -> None:
        self._tables, self._engine = tables, engine
        self._noted, self._seen = "", 0

    def note(self, executor: str, offers: Mapping[str, Offer]) -> None:
        """Note that this process lives and what it offers. Nothing is written where that is noted already."""
        noted = json.dumps({name: _plain(each) for name, each in sorted(offers.items())})
        with self._engine.begin() as connection:
            now = now_of(self._tables, connection)
            if noted == self._noted and now - self._seen < SEEN_SECONDS * 1000:
                return
            connection.execute(
                text(
                    f"INSERT INTO {self._tables.workers} (executor, offers, seen) VALUES (:executor, :offers, :now) "
                    "ON CONFLICT (executor) DO UPDATE SET offers = :offers, seen = :now"
                ),
                {"executor": executor, "offers": noted, "now": now},
            )
        self._noted, self._seen = noted, now

    def remove(self, executor: str) -> None:
        """Remove a process that has died or stops."""
        with self._engine.begin() as connection:
            connection.execute(
                text(f"DELETE FROM {self._tables.workers} WHERE executor = :executor"), {"executor": executor}
            )

    def executors(self) -> list[str]:
        """Return the processes that have noted something and were not removed."""
        with self._engine.begin() as connection:
            return list(connection.execute(text(f"SELECT executor FROM {self._tables.workers}")).scalars())

    def living(self, connection: Connection) -> list[dict[str, Offer]]:
        """Return what each living process offers."""
        since = now_of(self._tables, connection) - round(FRESH_SECONDS * 1000)
        found = connection.execute(
            text(f"SELECT offers FROM {self._tables.workers} WHERE seen > :since ORDER BY seen DESC"), {"since": since}
        )
        return [{name: _offer(each) for name, each in json.loads(offers).items()} for offers in found.scalars()]


def _plain(offer: Offer) -> list[Any]:
    return [offer.version, *offer.limits]


def _offer(plain: list[Any]) -> Offer:
    version, concurrency, rate, key_concurrency, key_rate = plain
    return Offer(version, WorkLimits(concurrency, rate and Rate(*rate), key_concurrency, key_rate and Rate(*key_rate)))
