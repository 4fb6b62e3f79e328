"""`SessionService`: the base methods of a session manager, on the event loop, and the saving of its changes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from nexus_toolkit.redaction import short_id

from nexus_core import BackendUnavailable, ConfigurationError, NexusError, SessionNotFound, jsontext
from nexus_core.concurrency.threads import is_current_loop
from nexus_core.events.event import SESSION_UPDATED, ChannelEvent
from nexus_core.runs.context import current_run
from nexus_sessions.overrides import failure
from nexus_sessions.recent_ids import RecentSessionIds
from nexus_sessions.unit_of_work import UnitOfWork, abandoned, current_unit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping

    from nexus_core.state.sessions import Session
    from nexus_core.state.stored_sessions import StoredSessions
    from nexus_sessions.overrides import Overrides

log = logging.getLogger(__name__)

BATCH = 200
"""Number of expired sessions that are read at a time."""


class SessionService:
    """The implementation of a `SessionManager`'s methods, used by the platform too if there is no manager.

    Args:
        stored: The sessions in their store.
        overrides: The manager's overridden methods.
        publish: Publishes an event.
        loop: The platform's event loop.

    Attributes:
        stored: The sessions in their store.
        recent_ids: The ids of the sessions that this process has used.
        overrides: The manager's overridden methods.
    """

    def __init__(
        self,
        stored: StoredSessions,
        overrides: Overrides,
        publish: Callable[[ChannelEvent], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.stored = stored
        self.recent_ids = RecentSessionIds()
        self.overrides = overrides
        self._publish = publish
        self._loop = loop

    @property
    def is_usable(self) -> bool:
        """Whether its event loop is open."""
        return not self._loop.is_closed()

    # Called by a manager's methods

    def perform(self, step: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        """Perform a step: return an awaitable on the event loop, and the result in another thread.

        Raises:
            ConfigurationError: The caller is on another event loop, which this would block.
            RuntimeError: The caller's call of the manager has failed or timed out already.
            BackendUnavailable: The step has timed out.
        """
        unit = self._unit()
        if is_current_loop(self._loop):
            return step(unit, *args)
        self._refuse_other_loops()
        work = asyncio.run_coroutine_threadsafe(step(unit, *args), self._loop)
        try:
            return work.result(self.overrides.timeout)
        except TimeoutError:
            work.cancel()
            raise BackendUnavailable("The session store did not reply in time.", retry_after=1.0) from None

    def notify(self, channel: str, session_id: str, state: Mapping[str, Any]) -> Any:
        """See `SessionManager.notify_channel`."""
        unit = self._unit()
        if not unit.saves:
            return self.perform(self._notify, [str(channel)], session_id, state)
        unit.notify(str(channel), session_id)
        return self.done()

    def done(self) -> Any:
        """Return an awaitable on the event loop, and None in another thread."""
        return _Done() if is_current_loop(self._loop) else None

    def _unit(self) -> UnitOfWork:
        """Return the unit of work that the running code is part of; outside of one, one that saves nothing."""
        unit = current_unit.get()
        if unit is not None and unit.manager is self:
            if unit.is_abandoned:
                raise abandoned()
            return unit if unit.is_open else UnitOfWork(self, unit.owner, sees_all=unit.sees_all, saves=False)
        run = current_run.get()
        return UnitOfWork(self, sees_all=True, saves=False) if run is None else UnitOfWork(self, run.owner, saves=False)

    def _refuse_other_loops(self) -> None:
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise ConfigurationError(
                "The session manager is used on another event loop than its platform's: use asyncio.to_thread there."
            )
        if not self.is_usable:
            raise ConfigurationError("The session manager is used after its platform has stopped.")

    # Steps

    async def create(self, unit: UnitOfWork, channel: str, user_id: str | None = None) -> Session:
        """See `SessionManager.create_session`."""
        session = await self.stored.create(channel, user_id)
        if unit.is_abandoned:  # meanwhile
            await self.stored.discard(session)
            raise abandoned()
        self.recent_ids.add(session)
        unit.created.append(session)
        return unit.track(session)

    async def get(self, unit: UnitOfWork, session_id: str) -> Session:
        """See `SessionManager.get_session`."""
        session = unit.sessions.get(session_id)
        if session is not None:
            return session
        if unit.sees_all:
            session = await self.stored.look(session_id)
            if session is None or _has_expired(session):
                raise _not_found()
        else:
            session = await self.stored.get(session_id, unit.owner)
        self.recent_ids.add(session)
        return unit.track(session)

    async def sync(self, unit: UnitOfWork, session_id: str, state: Mapping[str, Any]) -> Session:
        """See `SessionManager.sync_session_state`."""
        session = await self.get(unit, session_id)
        if unit.saves:
            merged = {**session.state, **state}
            session.state = {name: value for name, value in merged.items() if value is not None}
        else:
            session = await self.stored.update(session_id, session.user_id, state)
        if self.overrides.has("notify_channel"):
            for channel in sorted(session.active_channels):
                await self.overrides.call(unit, "notify_channel", channel, session_id, dict(state))
        return session

    async def expired(self, unit: UnitOfWork) -> list[Session]:
        """See `SessionManager.get_expired_sessions`."""
        found = []
        for session_id in self.recent_ids.expired(time.time(), BATCH):
            session = unit.sessions.get(session_id) or await self.stored.look(session_id)
            if session is None:
                self.recent_ids.remove(session_id)
            elif not _has_expired(session):  # another process has used it
                self.recent_ids.add(session)
            elif unit.sees_all or session.user_id == unit.owner:
                found.append(unit.track(session))
        return found

    async def cleanup(self, unit: UnitOfWork) -> None:
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

    async def remove(self, unit: UnitOfWork, session_id: str) -> None:
        """See `SessionManager.remove_session`."""
        session = unit.sessions.pop(session_id, None)
        if session is None:
            session = await (self.stored.look(session_id) if unit.sees_all else self.stored.get(session_id, unit.owner))
        if session is None:
            raise _not_found()
        unit.removed.add(session_id)
        self.recent_ids.remove(session_id)
        if not _has_expired(session):
            await self.stored.remove(session_id, session.user_id)
        elif not await self.stored.discard(session):
            used_since = await self.stored.look(session_id)
            if used_since is not None:
                self.recent_ids.add(used_since)

    async def _notify(
        self, unit: UnitOfWork, channels: list[str], session_id: str, state: Mapping[str, Any] | None = None
    ) -> None:
        self._publish_update(await self.get(unit, session_id), channels, sorted(state or ()))

    def _publish_update(self, session: Session, channels: list[str], changed: list[str]) -> None:
        data = {"version": session.version, "changed": changed, "channels": channels}
        self._publish(ChannelEvent(SESSION_UPDATED, session_id=session.id, data=data, owner=session.user_id))

    # Units of work

    @asynccontextmanager
    async def unit_of_work(self, owner: str | None, *, sees_all: bool = False) -> AsyncIterator[UnitOfWork]:
        """Begin a unit of work. If it fails, nothing is saved, and the sessions it has created are removed."""
        unit = UnitOfWork(self, owner, sees_all=sees_all)
        try:
            yield unit
        except BaseException:
            unit.is_open, unit.is_abandoned = False, True
            for session in unit.created:
                self.recent_ids.remove(session.id)
                with suppress(BackendUnavailable):
                    await self.stored.discard(session)
            raise

    async def commit(
        self, unit: UnitOfWork, session: Session | None = None, *, version: int | None = None,
        channel: str | None = None, replaces: bool = False,
    ) -> Session:  # fmt: skip
        """End a unit of work and save its changes.

        Args:
            unit: The unit of work.
            session: The session to save first: if this fails, nothing is saved.
            version: The version that this session must still have, if any.
            channel: The channel that has used it, if any.
            replaces: Whether its members replace concurrent changes, see `StoredSessions.save`.

        Returns:
            That session as it is saved.
        """
        unit.is_open = False
        saved = None if session is None else await self._save(unit, session, version, channel, replaces)
        for each in unit.sessions.values():
            if each is not session:
                with suppress(SessionNotFound):  # it has expired or was removed
                    await self._save(unit, each)
        for session_id, channels in unit.notified.items():
            with suppress(SessionNotFound):
                await self._notify(
                    UnitOfWork(self, unit.owner, sees_all=unit.sees_all, saves=False), channels, session_id
                )
        return saved  # type: ignore[return-value]

    async def _save(
        self, unit: UnitOfWork, session: Session, version: int | None = None, channel: str | None = None,
        replaces: bool = False,
    ) -> Session:  # fmt: skip
        _check(session)
        _, changes = self.stored.undone(session)
        channels = unit.notified.pop(session.id, [])
        kept = await self.stored.save(session, channel, version, tuple(channels), replaces=replaces)
        if channels and not changes:
            self._publish_update(kept, channels, [])
        self.recent_ids.add(kept)
        return kept


class _Done:
    """An awaitable that is done, and need not be awaited."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


def _has_expired(session: Session) -> bool:
    return session.expires_at is not None and session.expires_at <= time.time()


def _not_found() -> SessionNotFound:
    return SessionNotFound("There is no session with this id.")


def _check(session: Session) -> None:
    """Refuse a state or metadata that no override may leave behind; the error is not the caller's."""
    for what in ("state", "metadata"):
        members = getattr(session, what)
        if not isinstance(members, dict):
            raise failure("override", f"left a {type(members).__name__} as a session's {what}")
    try:
        jsontext.encode(session.metadata)
    except (TypeError, ValueError) as exc:
        raise failure("override", f"left metadata that is not JSON: {exc}") from None
