"""`DbosJournal`: the journal of a run, whose places are steps of a workflow of DBOS."""

from __future__ import annotations

import asyncio
import base64
import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from nexus_core.runs.journal import JournalMismatch
from nexus_dbos.cipher import ENCRYPTED, Unreadable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context

    from nexus_dbos.cipher import Cipher

BINARY = "="
"""Begins what is stored of an outcome that is no text. No JSON text begins with it."""

CANCEL_SECONDS = 10.0
"""How long a run that DBOS has as cancelled waits for the platform to cancel its work."""

logger = logging.getLogger(__name__)


class DbosJournal:
    """The journal of a run. It is used on the platform's event loop; DBOS's steps run on DBOS's own.

    Args:
        run_id: The run.
        attempt: Which attempt at the run this is, from 1.
        cipher: Encrypts the outcomes.
        context: The context of the workflow of DBOS. DBOS counts the steps by it.
        loop: The event loop of DBOS.

    Attributes:
        leave: Cancels the work of this attempt; set where it begins.
    """

    def __init__(
        self, run_id: str, attempt: int, cipher: Cipher, context: Context, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._run_id, self._attempt, self._cipher = run_id, attempt, cipher
        self._context, self._loop = context, loop
        self._places = 0
        self.leave: Callable[[], object] = _nothing

    @property
    def attempt(self) -> int:
        """Which attempt at the run this is, from 1."""
        return self._attempt

    async def once(self, name: str, call: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return what is recorded at this place, or what ``call`` returns, once recorded."""
        ours = asyncio.get_running_loop()
        self._places += 1
        place = self._places
        made: bytes | None = None
        asked: asyncio.Future[None] = ours.create_future()
        outcome: Future[str] = Future()

        async def step() -> str:
            ours.call_soon_threadsafe(_say, asked)
            return await asyncio.wrap_future(outcome)

        # Both event loops keep the order of what they are given: places are numbered in the order of these calls.
        started = self._context.copy().run(asyncio.run_coroutine_threadsafe, _record(name, step), self._loop)
        recorded = asyncio.wrap_future(started)
        try:
            both: set[asyncio.Future[Any]] = {asked, recorded}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not recorded.done():
                made = await call()
                outcome.set_result(self._cipher.encrypt(_text(made), self._run_id, place))
            await asyncio.wait({recorded})
        except BaseException:
            outcome.cancel()  # ends the step without a record
            recorded.cancel()
            raise
        problem = asyncio.CancelledError() if recorded.cancelled() else recorded.exception()
        if problem is None:
            if made is not None:
                return made
            try:
                return _bytes(self._cipher.decrypt(recorded.result(), self._run_id, place))
            except Unreadable as exc:
                problem = exc
        return await self._refused(problem)

    async def _refused(self, problem: BaseException) -> bytes:
        """Raise that the code has changed. All else is no failure of the run: this attempt at it is left."""
        from dbos import error

        if isinstance(problem, error.DBOSUnexpectedStepError):
            _, place, asked, recorded = problem.inputs
            raise JournalMismatch(place, recorded, asked) from problem
        if isinstance(problem, error.DBOSWorkflowCancelledError):
            await asyncio.sleep(CANCEL_SECONDS)
        elif isinstance(problem, Unreadable):
            logger.error("%s", problem)
        elif not isinstance(problem, error.DBOSWorkflowConflictIDError | asyncio.CancelledError):
            logger.warning("a step was not recorded: the run begins again there", exc_info=problem)
        self.leave()
        never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        return await never  # until the work is cancelled: what the workflow would make of an error is not the run's


def _say(asked: asyncio.Future[None]) -> None:
    if not asked.done():
        asked.set_result(None)


async def _record(name: str, step: Callable[[], Coroutine[Any, Any, str]]) -> str:
    from dbos import DBOS

    return await DBOS.run_step_async({"name": name}, step)


def _nothing() -> None:
    """Do nothing."""


def _text(outcome: bytes) -> str:
    try:
        text = outcome.decode()
    except UnicodeDecodeError:
        text = BINARY
    is_text = not text.startswith((BINARY, ENCRYPTED))
    return text if is_text else BINARY + base64.b64encode(outcome).decode()


def _bytes(text: str) -> bytes:
    if text.startswith(BINARY):
        return base64.b64decode(text[1:])
    return text.encode()
