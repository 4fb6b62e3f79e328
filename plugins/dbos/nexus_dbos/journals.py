"""`Journals`: what is recorded of runs, for processes that do not work on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy

from nexus_core.errors import RunNotFound
from nexus_dbos.cipher import ENCRYPTED, ID_CHARACTERS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from nexus_core.runs.work import Beginning
    from nexus_dbos.cipher import Cipher

QUOTE = 1
"""Characters before the text, where it is stored as JSON."""


class Journals:
    """Reads the tasks and outcomes of runs in DBOS's tables, and copies outcomes. Methods raise what SQLAlchemy raises.

    Args:
        system: DBOS's system database.
        cipher: Encrypts what is stored.
    """

    def __init__(self, system: Any, cipher: Cipher) -> None:
        self._engine, self._now, self._serializer = system.engine, system._now_ms_sql, system.serializer
        self._outputs, self._inputs = system.tables.operation_outputs, system.tables.workflow_input
        self._cipher = cipher

    def task(self, run_id: str) -> bytes | None:
        """Return the task of a run; None if it is not known.

        Raises:
            Unreadable: This process does not have its key.
        """
        query = sqlalchemy.select(self._inputs.c.inputs).where(self._inputs.c.workflow_uuid == run_id)
        with self._engine.begin() as connection:
            stored = connection.execute(query).scalar()
        if stored is None:
            return None
        _, task = self._serializer.deserialize(stored)["positionalArgs"]
        return self._cipher.decrypt(task, run_id).encode()

    def places(self, run_id: str) -> list[str]:
        """Return the names of a run's places up to the first that has no outcome: places may be at work at once."""
        table = self._outputs
        query = (
            sqlalchemy.select(table.c.function_id, table.c.function_name)
            .where(table.c.workflow_uuid == run_id, table.c.output.is_not(None))
            .order_by(table.c.function_id)
        )
        with self._engine.begin() as connection:
            found = connection.execute(query).all()
        return [name for place, (number, name) in enumerate(found, 1) if number == place]

    def check(self, run_id: str) -> None:
        """Check that this process has the keys of a run's outcomes.

        Raises:
            Unreadable: It does not.
        """
        table, length = self._outputs, QUOTE + len(ENCRYPTED) + ID_CHARACTERS
        begin = sqlalchemy.func.substr(table.c.output, 1, length)
        query = sqlalchemy.select(begin).where(table.c.workflow_uuid == run_id, table.c.output.is_not(None)).distinct()
        with self._engine.begin() as connection:
            self._cipher.check(run_id, [each[QUOTE:] for each in connection.execute(query).scalars()])

    def copy(self, connection: Connection, beginning: Beginning, run_id: str) -> None:
        """Let the journal of a new run begin with outcomes of another one.

        Args:
            connection: The transaction that queues the new run.
            beginning: The outcomes.
            run_id: The new run.

        Raises:
            RunNotFound: The other run has not so many places, or is forgotten by now.
            Unreadable: This process does not have its key.
        """
        table, run = self._outputs, beginning.run_id
        for place in range(1, beginning.places + 1):  # one at a time: some are large
            wanted = (table.c.workflow_uuid == run, table.c.function_id == place, table.c.output.is_not(None))
            found = connection.execute(sqlalchemy.select(table).where(*wanted)).mappings().first()
            if found is None:
                raise RunNotFound(f"The run {run} has no {beginning.places} recorded steps to begin with.")
            text = self._cipher.decrypt(self._serializer.deserialize(found["output"]), run, place)
            row = {
                **found, "workflow_uuid": run_id, "retention_timestamp": self._now(),
                "output": self._serializer.serialize(self._cipher.encrypt(text, run_id, place)),
            }  # fmt: skip
            connection.execute(table.insert().values(**row))
