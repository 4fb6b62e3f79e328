"""`ManagedSessions`: the `SessionStore` of a platform, with the methods that its session manager overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import SessionNotFound
from nexus_core.state.sessions import Session
from nexus_sessions.overrides import failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_sessions.service import SessionService
    from nexus_sessions.unit_of_work import UnitOfWork


class ManagedSessions:
    """Sessions in a store. Operations that no manager overrides go there directly.

    Args:
        service: The sessions.

    Attributes:
        service: The sessions.
    """

    def __init__(self, service: SessionService) -> None:
        self.service = service
        self._stored = service.stored
        self._call = service.overrides.call
        has = service.overrides.has
        self._creates, self._gets, self._removes = (has(f"{what}_session") for what in ("create", "get", "remove"))
        self._syncs = has("sync_session_state")
        self._sees_changes = self._syncs or has("notify_channel")

    @property
    def store_name(self) -> str:
        """Name of the store with the sessions."""
        return self._stored.store_name

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """See `SessionStore.create`."""
        if not self._creates:
            return self._remembered(await self._stored.create(channel, user_id))
        async with self.service.unit_of_work(user_id) as unit:
            made = await self._call(unit, "create_session", channel, user_id)
            session = _checked(unit, made, "create_session", user_id)
            return await self.service.commit(unit, session)

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.get`."""
        if not self._gets:
            return self._remembered(await self._stored.get(session_id, user_id))
        async with self.service.unit_of_work(user_id) as unit:
            found = await self._call(unit, "get_session", session_id)
            session = _checked(unit, found, "get_session", user_id, session_id)
            return await self.service.commit(unit, session)

    async def update(
        self, session_id: str, user_id: str | None, changes: Mapping[str, Any], version: int | None = None
    ) -> Session:
        """See `SessionStore.update`."""
        if not self._sees_changes:
            return self._remembered(await self._stored.update(session_id, user_id, changes, version))
        session = await self._stored.get(session_id, user_id)
        await self._stored.save(session, version=version)  # without changes: this only checks the version
        async with self.service.unit_of_work(user_id) as unit:
            channel = next(
                iter(session.active_channels), None
            )  # one that has used it before, so that the expiry time is moved
            await self._sync(unit, unit.track(session), changes)
            return await self.service.commit(unit, session, version=version, channel=channel, replaces=True)

    async def used(self, session: Session, channel: str) -> None:
        """See `SessionStore.used`."""
        if self._sees_changes:
            as_given, changes = self._stored.undone(session)
            if changes:
                as_given.active_channels.add(channel)
                try:
                    async with self.service.unit_of_work(session.user_id) as unit:
                        await self._sync(unit, unit.track(as_given), changes)
                        await self.service.commit(unit, as_given, channel=channel)
                except SessionNotFound:
                    pass  # it was removed meanwhile
                return
        await self._stored.used(session, channel)

    async def renew(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.renew`."""
        renewed = await self._stored.renew(session_id, user_id)
        self.service.recent_ids.remove(session_id)
        return self._remembered(renewed)

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """See `SessionStore.remove`. It is gone afterwards, unless the manager raises."""
        if self._removes:
            session = await self._stored.get(session_id, user_id)
            async with self.service.unit_of_work(user_id) as unit:
                unit.track(session)
                await self._call(unit, "remove_session", session_id)
                if session_id not in unit.removed:
                    await self.service.remove(unit, session_id)
                await self.service.commit(unit)
        else:
            await self._stored.remove(session_id, user_id)
            self.service.recent_ids.remove(session_id)

    async def _sync(self, unit: UnitOfWork, session: Session, changes: Mapping[str, Any]) -> None:
        if self._syncs:
            await self._call(unit, "sync_session_state", session.id, dict(changes))
        else:
            await self.service.sync(unit, session.id, changes)

    def _remembered(self, session: Session) -> Session:
        self.service.recent_ids.add(session)
        return session


def _checked(unit: UnitOfWork, given: Any, name: str, user_id: str | None, session_id: str | None = None) -> Session:
    """Return the session that an override returned, if it is one of the caller's that this service had passed to it."""
    if not isinstance(given, Session):
        raise failure(name, f"returned a {type(given).__name__} and no session")
    if unit.sessions.get(given.id) is not given or session_id not in (None, given.id):
        raise failure(name, f"returned another session than the one that super().{name}() returned")
    if given.user_id != user_id:
        raise failure(name, "returned a session that is not its caller's")
    return given
