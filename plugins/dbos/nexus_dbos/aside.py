"""`Aside`: runs that a process has taken and can't work on now. They wait, and are queued again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from nexus_dbos.claim import now_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core.runs.work import Offer
    from nexus_dbos.queue_columns import Tables

FIRST_SECONDS, LONGEST_SECONDS = 1.0, 60.0
"""The pause after the first attempt at a run; it doubles with each one, up to the longest."""


class Aside:
    """Puts runs aside. DBOS's status for them is ``DELAYED``; `bring_back` queues them where their time has come.

    Args:
        system: DBOS's system database.
        tables: The names of the tables.
        queue: The queue of all durable runs.
    """

    def __init__(self, system: Any, tables: Tables, queue: str) -> None:
        self._engine, self._tables, self._queue = system.engine, tables, queue

    def put(self, run_id: str, token: str, offers: Mapping[str, Offer] | None = None) -> None:
        """Put a run aside that this process has; its place in the queue and its attempts stay.

        Args:
            run_id: The run. Nothing happens if it has ended, or another attempt at it has begun.
            token: The proof that this process has it: its ``owner_xid``.
            offers: What this process offers, where only one with the version that the run was begun with may go on.
                Where that is another version, the run is queued at once.
        """
        runs, values = self._tables.runs, {"run_id": run_id, "token": token}
        mine = "WHERE workflow_uuid = :run_id AND status = 'PENDING' AND owner_xid = :token"
        with self._engine.begin() as connection:
            found = connection.execute(
                text(f"SELECT recovery_attempts, nexus_workflow, nexus_begun_version FROM {runs} {mine}"), values
            ).first()
            if found is None:
                return
            attempts, workflow, begun = found
            now = now_of(self._tables, connection)
            seconds = min(FIRST_SECONDS * 2 ** min(max(0, (attempts or 1) - 1), 10), LONGEST_SECONDS)
            version = ""
            if offers is not None and begun is not None:
                version = ", nexus_version = nexus_begun_version"
                offer = offers.get(workflow)
                if offer is None or offer.version != begun:
                    seconds = 0.0
            connection.execute(
                text(
                    f"UPDATE {runs} SET status = :status, delay_until_epoch_ms = :until, owner_xid = NULL, "
                    f"started_at_epoch_ms = NULL, updated_at = :now{version} {mine}"
                ),
                {
                    **values, "status": "DELAYED" if seconds else "ENQUEUED", "now": now,
                    "until": now + round(seconds * 1000) if seconds else None,
                },
            )  # fmt: skip

    def give_back(self, token: str) -> None:
        """Queue the runs again that were taken with a token, as if they had not been."""
        with self._engine.begin() as connection:
            connection.execute(
                text(
                    f"UPDATE {self._tables.runs} SET status = 'ENQUEUED', owner_xid = NULL, "
                    "started_at_epoch_ms = NULL, recovery_attempts = recovery_attempts - 1 "
                    "WHERE status = 'PENDING' AND owner_xid = :token AND queue_name = :queue"
                ),
                {"token": token, "queue": self._queue},
            )

    def bring_back(self) -> int:
        """Queue the runs whose time has come, and return how many there were."""
        late = "WHERE status = 'DELAYED' AND delay_until_epoch_ms <= :now AND queue_name = :queue"
        with self._engine.begin() as connection:
            values = {"now": now_of(self._tables, connection), "queue": self._queue}
            asked = text(f"SELECT 1 FROM {self._tables.runs} {late} LIMIT 1")
            if connection.execute(asked, values).first() is None:  # else a writer would hold up others for nothing
                return 0
            back = f"UPDATE {self._tables.runs} SET status = 'ENQUEUED', delay_until_epoch_ms = NULL {late}"
            return int(connection.execute(text(back), values).rowcount)
