"""`DbosRunEngine`: the run engine ``dbos``."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from nexus_core.errors import BackendUnavailable, ConfigurationError, NexusError
from nexus_core.runs.engine import RunEngine
from nexus_core.runs.work import WorkBlocked
from nexus_dbos.cipher import OPTION, Cipher, Unreadable
from nexus_dbos.journal import DbosJournal
from nexus_dbos.locks import locks_of
from nexus_dbos.numbers import NONE
from nexus_dbos.reaper import Reaper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nexus_core.runs.work import Beginning, Work, Worker, WorkPosition
    from nexus_dbos.place import Database
    from nexus_dbos.queue_thread import QueueThread
    from nexus_dbos.standing import Standing
    from nexus_dbos.workers import Workers

Answer = TypeVar("Answer")

APPLICATION, QUEUE, WORKFLOW = "nexus", "nexus", "perform"

VERSION = "1"
"""The version for DBOS, which gives runs only to processes of theirs. The core itself notices changed code."""

ANSWER_SECONDS = 10.0
"""Seconds to wait for the database."""

ASKS = 4
"""How many calls ask the database at once."""

CONNECTIONS = 10
"""How many connections a process that works keeps open for the steps of runs, if its concurrency is as high."""

AGAIN_SECONDS = 1.0
"""Pause between two tries to put a run aside whose work could not be done."""

RELEASE_SECONDS = 5.0
"""Seconds that runs have to end when the process stops."""

logger = logging.getLogger(__name__)


class DbosRunEngine(RunEngine):
    """Durable runs as workflows of DBOS. A process has one of them that works; any number may only start runs.

    Args:
        place: The database.
        poll_seconds: Pause between two looks for runs to work on.
        cipher: Encrypts tasks and outcomes.
    """

    name = "dbos"
    encryption_option = OPTION

    def __init__(self, place: Database, poll_seconds: float = 0.05, cipher: Cipher | None = None) -> None:
        self._place, self._poll_seconds = place, poll_seconds
        self._cipher = Cipher() if cipher is None else cipher
        self.hides_tasks = self._cipher.encrypts
        self._client: Any = None
        self._rows: Any = None
        self._journals: Any = None
        self._aside: Any = None
        self._ended: Any = None
        self._engines: list[Any] = []
        self._reaper: Reaper | None = None
        self._dispatcher: QueueThread | None = None
        self._standing: Standing | None = None
        self._works, self._is_closing = False, False
        self._performs: dict[str, asyncio.Task[Any]] = {}
        self._pool: ThreadPoolExecutor | None = None

    async def open(self, executor: str, worker: Worker | None) -> None:
        """Open it: make the tables if they are missing, and begin to work where ``worker`` is given."""
        self._executor, self._worker = executor, worker
        self._loop, self._is_closing = asyncio.get_running_loop(), False
        self._pool = ThreadPoolExecutor(ASKS, thread_name_prefix="nexus-dbos")
        try:
            await self._ask(self._open, seconds=60.0)
        except BaseException:
            await self.close()
            raise

    def _open(self) -> None:
        try:
            from dbos import DBOSClient, DBOSPortableJSONSerializer

            from nexus_dbos import _vendor_internals
            from nexus_dbos.aside import Aside
            from nexus_dbos.journals import Journals
            from nexus_dbos.queue_columns import Tables
            from nexus_dbos.retention import Ended
            from nexus_dbos.rows import Rows
            from nexus_dbos.standing import Standing
            from nexus_dbos.workers import Workers
        except ImportError as exc:
            raise ConfigurationError(f"run_engine: dbos can't be imported: {exc}") from exc
        _vendor_internals.check()
        log = logging.getLogger("dbos")
        if not log.handlers:
            log.addHandler(logging.NullHandler())  # else DBOS writes to the console, past the platform's log
        if log.level == logging.NOTSET:
            log.setLevel(logging.WARNING)
        try:
            self._place.prepare()
        except (OSError, sqlite3.Error) as exc:
            raise ConfigurationError(f"dbos_sqlite_path: {self._place.file} can't be used: {exc}") from exc
        engine = self._engine(syncs=True)  # what a caller waits for survives a power failure
        self._client = DBOSClient(
            system_database_engine=engine, dbos_system_schema=self._schema, serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION, lazy=True, retry_connection_errors=False,
        )  # fmt: skip
        system = self._client._sys_db  # a client makes no tables, and may come first
        there, known = _vendor_internals.newest_migration(system)
        if there > known:
            raise ConfigurationError(
                f"run_engine: a newer DBOS has changed {self._place.shown} (version {there}, this one knows {known}): "
                "install the plugin dbos as the other processes have it."
            )
        system.run_migrations()
        self._tables = Tables(self._schema)
        self._tables.prepare(system.engine)
        self._rows, self._journals = Rows(system, QUEUE), Journals(system, self._cipher)
        self._aside, self._ended = Aside(system, self._tables, QUEUE), Ended(system, self._tables)
        workers = Workers(self._tables, system.engine)
        standing = self._standing = Standing(self._tables, system.engine, workers, QUEUE)
        if self._worker is not None:
            self._launch(self._worker, workers, standing)

    def _launch(self, worker: Worker, workers: Workers, standing: Standing) -> None:
        from dbos import DBOS, DBOSPortableJSONSerializer

        from nexus_dbos.claim import Claim
        from nexus_dbos.queue_thread import QueueThread
        from nexus_dbos.watch import watch_of

        mark = {"executor_id": self._executor, "application_version": VERSION, "application_name": APPLICATION}
        engine = self._engine(syncs=False, connections=min(worker.concurrency, CONNECTIONS))
        claim = Claim(self._tables, engine, QUEUE, mark)

        def look() -> None:
            workers.note(self._executor, worker.offers())
            claim.adopt()
            self._aside.bring_back()
            standing.look()

        self._reaper = Reaper(self._executor, self._rows, locks_of(self._place), workers, look)
        self._reaper.begin()
        self._works = True
        # Its own event loop, since this thread has none: what DBOS writes never holds up the platform's.
        self._dbos = DBOS(
            config={
                "name": APPLICATION, "system_database_engine": engine,
                "dbos_system_schema": self._schema, "serializer": DBOSPortableJSONSerializer(),
                "executor_id": self._executor, "application_version": VERSION, "use_listen_notify": False,
                "log_level": "ERROR",
            }
        )  # fmt: skip
        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(self._workflow())
        DBOS.listen_queues([])  # its own queue takes none of these runs
        DBOS.launch()
        watch = watch_of(self._place, self._tables)
        self._dispatcher = QueueThread(self._dbos, worker, claim, self._aside, watch, self._poll_seconds)
        self._dispatcher.begin()

    @property
    def _schema(self) -> str | None:
        return None if self._place.url is None else self._place.schema

    def _engine(self, *, syncs: bool, connections: int = ASKS) -> Any:
        engine = self._place.engine(syncs=syncs, connections=connections)
        self._engines.append(engine)
        return engine

    def _workflow(self) -> Any:
        from nexus_dbos import _vendor_internals

        async def workflow(run_id: str, task: str) -> None:
            context, loop = contextvars.copy_context(), asyncio.get_running_loop()
            dispatcher = self._dispatcher
            assert dispatcher is not None
            journal = DbosJournal(run_id, dispatcher.attempt(run_id), self._cipher, context, loop)
            token = _vendor_internals.token_of(run_id)
            # A context of its own: what a run calls is no part of DBOS's workflow.
            performing = contextvars.Context().run(
                asyncio.run_coroutine_threadsafe, self._work(run_id, task, token, journal), self._loop
            )
            try:
                has_ended = await asyncio.wrap_future(performing)
            finally:
                dispatcher.ended(run_id)
            if not has_ended:
                raise asyncio.CancelledError  # recorded is nothing: the run stays at work, and belongs to this process

        return workflow

    async def _work(self, run_id: str, task: str, token: str, journal: DbosJournal) -> bool:
        """Do the work of a run, and return whether the run has ended."""
        while (earlier := self._performs.get(run_id)) is not None:  # it was taken from this process, and has come back
            earlier.cancel()
            await asyncio.wait({earlier})
        if self._is_closing or self._worker is None:
            return False
        performing = asyncio.ensure_future(self._perform(self._worker, run_id, task, journal))
        self._performs[run_id] = performing
        journal.leave = performing.cancel
        try:
            await asyncio.wait({performing})
        finally:
            del self._performs[run_id]
            performing.cancel()
        problem = None if performing.cancelled() else performing.exception()
        if problem is None and not performing.cancelled():
            return True
        if isinstance(problem, NexusError | Unreadable):
            logger.error("the work of run %s was not done: %s", run_id, problem)
        elif problem is not None and not isinstance(problem, WorkBlocked):
            logger.error("the work of run %s was not done", run_id, exc_info=problem)
        await self._put_aside(run_id, token, self._worker, is_blocked=isinstance(problem, WorkBlocked))
        return False

    async def _perform(self, worker: Worker, run_id: str, task: str, journal: DbosJournal) -> None:
        if journal.attempt > 1:  # asked before the run counts as begun again
            await self._ask(lambda: self._journals.check(run_id))
        await worker.perform(run_id, self._cipher.decrypt(task, run_id).encode(), journal)

    async def _put_aside(self, run_id: str, token: str, worker: Worker, *, is_blocked: bool) -> None:
        """Let a run wait that this process has not ended, if it has it still, and be queued again."""
        offers = worker.offers() if is_blocked else None
        while not self._is_closing:
            try:
                await self._ask(lambda: self._aside.put(run_id, token, offers))
            except BackendUnavailable:
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            return

    async def close(self) -> None:
        """Cancel what is at work and queue it for others; stop."""
        self._is_closing = True
        if self._performs:
            for each in self._performs.values():
                each.cancel()
            await asyncio.wait(self._performs.values(), timeout=RELEASE_SECONDS)
        if self._pool is not None:
            await self._loop.run_in_executor(self._pool, self._close)
            self._pool.shutdown(wait=False)
            self._pool = None

    def _close(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop()
            self._dispatcher = None
        if self._works:
            from dbos import DBOS

            DBOS.destroy(destroy_registry=True)
            self._works = False
            try:
                self._rows.queue_again(self._executor, counts=False)
            except Exception:
                logger.warning("runs at work were not queued again: another process will find them", exc_info=True)
        if self._reaper is not None:
            self._reaper.stop()
        if self._client is not None:
            self._client.destroy()
            self._client = None
        while self._engines:
            self._engines.pop().dispose()

    async def start(self, work: Work, beginning: Beginning | None = None) -> None:
        """Queue a run, if it is not known."""
        await self._ask(lambda: self._start(work, beginning))
        if self._dispatcher is not None:
            self._dispatcher.wake()

    def _start(self, work: Work, beginning: Beginning | None) -> None:
        from nexus_dbos import _vendor_internals
        from nexus_dbos.queued import queue_run

        serializer = self._client._serializer
        task = self._cipher.encrypt(work.task.decode(), work.run_id)
        inputs, serialization = _vendor_internals.serialized(serializer, work.run_id, task)
        columns = {
            "name": WORKFLOW, "queue_name": QUEUE, "application_version": VERSION, "application_name": APPLICATION,
            "serialization": serialization,
        }  # fmt: skip
        with self._client._sys_db.engine.begin() as connection:
            if queue_run(connection, self._tables, work, columns, inputs) and beginning is not None:
                self._journals.copy(connection, beginning, work.run_id)

    async def cancel(self, run_id: str) -> None:
        """Mark a run as cancelled, if it has not ended."""
        await self._ask(lambda: self._client.cancel_workflow(run_id))

    async def known(self, run_ids: Sequence[str]) -> set[str]:
        """Return the ids among these of runs that were started."""
        return await self._ask(lambda: self._rows.known(run_ids))

    def _there(self) -> Standing:
        assert self._standing is not None
        return self._standing

    async def position(self, run_id: str) -> WorkPosition | None:
        """Return where a run stands among those of its workflow that wait, and why it waits."""
        return await self._ask(lambda: self._there().position(run_id))

    async def unserved(self) -> Mapping[str, int]:
        """Return how many runs wait that no living process can work on, by the names of their workflows."""
        return await self._ask(lambda: self._there().unserved())

    async def task(self, run_id: str) -> bytes | None:
        """Return the task of a run, also after its end."""
        return await self._ask(lambda: self._journals.task(run_id))

    async def places(self, run_id: str) -> list[str]:
        """Return the names that are recorded of a run, up to the first place that has no outcome yet."""
        return await self._ask(lambda: self._journals.places(run_id))

    async def ended(self, before: float, limit: int) -> list[str]:
        """Return ids of runs that ended before a time, of the workflows that this process works on."""
        workflows = [] if self._worker is None else [*self._worker.offers()]
        if not workflows:
            return []
        return await self._ask(lambda: self._ended.page(before, limit, workflows))

    async def forget(self, run_ids: Sequence[str]) -> None:
        """Remove what is stored of runs that have ended."""
        await self._ask(lambda: self._ended.forget(run_ids), seconds=60.0)

    async def check(self) -> dict[str, Any]:
        """Return the kind of the database, how many runs wait, and which of them no process can work on."""
        numbers = await self._ask(lambda: self._there().count())
        details = {"database": self._place.kind, "queued": numbers.queued, "working": len(self._performs)}
        details["workers"] = numbers.workers
        return {**details, "unserved": numbers.unserved} if numbers.unserved else details

    def statistics(self) -> dict[str, float]:
        """Return the numbers of `RunEngine.statistics`. Those of all processes are of the last look or check."""
        numbers = NONE if self._standing is None else self._standing.numbers
        return {
            "queued": float(numbers.queued), "working": float(len(self._performs)),
            "taken_over": 0.0 if self._reaper is None else float(self._reaper.taken_over),
            "oldest_seconds": numbers.oldest_seconds, "workers": float(numbers.workers),
            "unserved": float(sum(numbers.unserved.values())),
        }  # fmt: skip

    async def _ask(self, function: Callable[[], Answer], seconds: float = ANSWER_SECONDS) -> Answer:
        """Ask the database, in a thread and outside of all contexts: in that of a workflow, DBOS would count a step."""
        if self._pool is None:
            raise BackendUnavailable("The run engine is not open.")
        asking = self._loop.run_in_executor(self._pool, contextvars.Context().run, _insisting, function)
        try:
            return await asyncio.wait_for(asking, seconds)
        except (ConfigurationError, NexusError):
            raise
        except Unreadable as exc:
            raise BackendUnavailable(str(exc)) from exc
        except Exception as exc:
            logger.warning("the database of the run engine does not answer: %s", type(exc).__name__, exc_info=True)
            raise BackendUnavailable("The database of the run engine does not answer.") from exc


def _insisting(function: Callable[[], Answer]) -> Answer:
    """Call a function that may be called again, and again where its connection was lost before it was used."""
    try:
        return function()
    except Exception as exc:
        if not getattr(exc, "connection_invalidated", False):
            raise
        return function()
