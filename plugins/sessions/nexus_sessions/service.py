"""`SessionService`: does what a manager's methods are for, on the event loop, and keeps what its overrides change."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import short_id

from nexus_core import BackendUnavailable, ConfigurationError, NexusError, SessionNotFound, jsontext
from nexus_core.concurrency.threads import is_on
from nexus_core.events.event import SESSION_UPDATED, ChannelEvent
from nexus_core.runs.context import current_run
from nexus_sessions.overrides import failure
from nexus_sessions.unit import Unit, current_unit, given_up

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping

    from nexus_core.state.sessions import Session
    from nexus_core.state.stored_sessions import StoredSessions
    from nexus_sessions.overrides import Overrides
    from nexus_sessions.seen import SeenSessions

log = logging.getLogger(__name__)

BATCH = 200
"""How many expired sessions are read at a time."""


class SessionService:
    """What stands behind a `SessionManager`, and behind the platform where there is none.

    Args:
        stored: Keeps the sessions.
        seen: Remembers which there are.
        overrides: The manager's own methods.
        publish: Tells the bus of events.
        loop: The platform's event loop.
    """

    def __init__(
        self,
        stored: StoredSessions,
        seen: SeenSessions,
        overrides: Overrides,
        publish: Callable[[ChannelEvent], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.stored = stored
        self.seen = seen
        self.overrides = overrides
        self._publish = publish
        self._loop = loop

    @property
    def is_usable(self) -> bool:
        """Whether its event loop is there."""
        return not self._loop.is_closed()

    # For a manager's methods

    def ask(self, step: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Take a step: on the event loop return an awaitable, in another thread the outcome.

        Raises:
            ConfigurationError: The caller is on another event loop, which would have to stand still meanwhile.
            RuntimeError: The caller's call of the manager has been given up.
            BackendUnavailable: It took too long.
        """
        unit = self._unit()
        if is_on(self._loop):
            return step(unit, *args)
        self._refuse_other_loops()
        work = asyncio.run_coroutine_threadsafe(step(unit, *args), self._loop)
        try:
            return work.result(self.overrides.timeout)
        except TimeoutError:
            work.cancel()
            raise BackendUnavailable("The sessions did not answer in time.", retry_after=1.0) from None

    def notify(self, channel: str, session_id: str, state: Mapping[str, Any]) -> Any:
        """See `SessionManager.notify_channel`."""
        unit = self._unit()
        if not unit.keeps:
            return self.ask(self._notify, [str(channel)], session_id, state)
        unit.note(str(channel), session_id)
        return self.done()

    def done(self) -> Any:
        """Return what there is to return where nothing is left to do."""
        return _Done() if is_on(self._loop) else None

    def _unit(self) -> Unit:
        """Return the unit that the running code is part of; where it is in none, one that keeps nothing."""
        unit = current_unit.get()
        if unit is not None and unit.manager is self:
            if unit.is_given_up:
                raise given_up()
            return unit if unit.is_open else Unit(self, unit.owner, sees_all=unit.sees_all, keeps=False)
        run = current_run.get()
        return Unit(self, sees_all=True, keeps=False) if run is None else Unit(self, run.owner, keeps=False)

    def _refuse_other_loops(self) -> None:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise ConfigurationError(
                "A session manager is used on another event loop than its platform's: use asyncio.to_thread there."
            )
        if not self.is_usable:
            raise ConfigurationError("A session manager is used after its platform has ended.")

    # Steps

    async def create(self, unit: Unit, channel: str, user_id: str | None = None) -> Session:
        """See `SessionManager.create_session`."""
        session = await self.stored.create(channel, user_id)
        if unit.is_given_up:  # meanwhile
            await self.stored.discard(session)
            raise given_up()
        self.seen.note(session)
        unit.made.append(session)
        return unit.hand(session)

    async def get(self, unit: Unit, session_id: str) -> Session:
        """See `SessionManager.get_session`."""
        session = unit.sessions.get(session_id)
        if session is not None:
            return session
        if unit.sees_all:
            session = await self.stored.look(session_id)
            if session is None or _is_over(session):
                raise _not_found()
        else:
            session = await self.stored.get(session_id, unit.owner)
        self.seen.note(session)
        return unit.hand(session)

    async def sync(self, unit: Unit, session_id: str, state: Mapping[str, Any]) -> Session:
        """See `SessionManager.sync_session_state`."""
        session = await self.get(unit, session_id)
        if unit.keeps:
            merged = {**session.state, **state}
            session.state = {name: value for name, value in merged.items() if value is not None}
        else:
            session = await self.stored.update(session_id, session.user_id, state)
        if self.overrides.has("notify_channel"):
            for channel in sorted(session.active_channels):
                await self.overrides.call(unit, "notify_channel", channel, session_id, dict(state))
        return session

    async def expired(self, unit: Unit) -> list[Session]:
        """See `SessionManager.get_expired_sessions`."""
        found = []
        for session_id in self.seen.due(time.time(), BATCH):
            session = unit.sessions.get(session_id) or await self.stored.look(session_id)
            if session is None:
                self.seen.forget(session_id)
            elif not _is_over(session):  # another process has used it
                self.seen.note(session)
            elif unit.sees_all or session.user_id == unit.owner:
                found.append(unit.hand(session))
        return found

    async def cleanup(self, unit: Unit) -> None:
        """See `SessionManager.cleanup_expired_sessions`."""
        for session in await self.expired(unit):
            try:
                if self.overrides.has("cleanup_session_resources"):
                    await self.overrides.call(unit, "cleanup_session_resources", session)
                if self.overrides.has("remove_session"):
                    await self.overrides.call(unit, "remove_session", session.id)
                else:
                    await self.remove(unit, session.id)
            except BackendUnavailable:
                raise  # the next one would have to wait as long
            except NexusError as exc:
                log.warning("The session %s could not be cleaned up: %s", short_id(session.id), exc)

    async def remove(self, unit: Unit, session_id: str) -> None:
        """See `SessionManager.remove_session`."""
        session = unit.sessions.pop(session_id, None)
        if session is None:
            session = await (self.stored.look(session_id) if unit.sees_all else self.stored.get(session_id, unit.owner))
        if session is None:
            raise _not_found()
        unit.removed.add(session_id)
        self.seen.forget(session_id)
        if not _is_over(session):
            await self.stored.remove(session_id, session.user_id)
        elif not await self.stored.discard(session):
            used_since = await self.stored.look(session_id)
            if used_since is not None:
                self.seen.note(used_since)

    async def _notify(
        self, unit: Unit, channels: list[str], session_id: str, state: Mapping[str, Any] | None = None
    ) -> None:
        self._tell(await self.get(unit, session_id), channels, sorted(state or ()))

    def _tell(self, session: Session, channels: list[str], changed: list[str]) -> None:
        told = {"version": session.version, "changed": changed, "channels": channels}
        self._publish(ChannelEvent(SESSION_UPDATED, session_id=session.id, data=told, owner=session.user_id))

    # Units of work

    @asynccontextmanager
    async def unit(self, owner: str | None, *, sees_all: bool = False) -> AsyncIterator[Unit]:
        """Begin a unit of work. When it fails, what it has changed is not kept, and what it has made is removed."""
        unit = Unit(self, owner, sees_all=sees_all)
        try:
            yield unit
        except BaseException:
            unit.is_open, unit.is_given_up = False, True
            for session in unit.made:
                self.seen.forget(session.id)
                with suppress(BackendUnavailable):
                    await self.stored.discard(session)
            raise

    async def keep(
        self, unit: Unit, session: Session | None = None, *, version: int | None = None, channel: str | None = None,
        replaces: bool = False,
    ) -> Session:  # fmt: skip
        """End a unit of work, and keep what it has changed.

        Args:
            unit: The unit.
            session: The session that it is about, which goes first: if it can't be kept, nothing is.
            version: The version that this one must still have, if it must.
            channel: The channel that has used it, if one has.
            replaces: Whether its members take the place of what others have changed, see `StoredSessions.save`.

        Returns:
            That session as it is kept.
        """
        unit.is_open = False
        kept = None if session is None else await self._keep(unit, session, version, channel, replaces)
        for each in unit.sessions.values():
            if each is not session:
                with suppress(SessionNotFound):  # it is over, or somebody has removed it
                    await self._keep(unit, each)
        for session_id, channels in unit.notified.items():
            with suppress(SessionNotFound):
                await self._notify(Unit(self, unit.owner, sees_all=unit.sees_all, keeps=False), channels, session_id)
        return kept  # type: ignore[return-value]

    async def _keep(
        self, unit: Unit, session: Session, version: int | None = None, channel: str | None = None,
        replaces: bool = False,
    ) -> Session:  # fmt: skip
        _check(session)
        _, changes = self.stored.undone(session)
        channels = unit.notified.pop(session.id, [])
        kept = await self.stored.save(session, channel, version, tuple(channels), replaces=replaces)
        if channels and not changes:
            self._tell(kept, channels, [])
        self.seen.note(kept)
        return kept


class _Done:
    """An awaitable with nothing to wait for, that need not be awaited."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _is_over(session: Session) -> bool:
    return session.expires_at is not None and session.expires_at <= time.time()


def _not_found() -> SessionNotFound:
    return SessionNotFound("There is no session of that id.")


def _check(session: Session) -> None:
    """Refuse what no override may leave behind: it is not the caller's mistake."""
    for what in ("state", "metadata"):
        members = getattr(session, what)
        if not isinstance(members, dict):
            raise failure("override", f"left a {type(members).__name__} as a session's {what}")
    try:
        jsontext.encode(session.metadata)
    except (TypeError, ValueError) as exc:
        raise failure("override", f"left metadata that are not JSON: {exc}") from None
