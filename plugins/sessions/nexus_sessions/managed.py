"""`ManagedSessions`: the `SessionStore` of a platform, by way of what its manager overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nexus_core import SessionNotFound
from nexus_core.state.sessions import Session
from nexus_sessions.overrides import failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_sessions.service import SessionService
    from nexus_sessions.unit import Unit


class ManagedSessions:
    """Sessions in a store. What no manager overrides goes there at once.

    Args:
        service: Does the work.
    """

    def __init__(self, service: SessionService) -> None:
        self._service = service
        self._stored = service.stored
        self._call = service.overrides.call
        has = service.overrides.has
        self._creates, self._gets, self._removes = (has(f"{what}_session") for what in ("create", "get", "remove"))
        self._syncs = has("sync_session_state")
        self._sees_changes = self._syncs or has("notify_channel")

    @property
    def store_name(self) -> str:
        """The name of the store that they are in."""
        return self._stored.store_name

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """See `SessionStore.create`."""
        if not self._creates:
            return self._noted(await self._stored.create(channel, user_id))
        async with self._service.unit(user_id) as unit:
            made = await self._call(unit, "create_session", channel, user_id)
            session = _checked(unit, made, "create_session", user_id)
            return await self._service.keep(unit, session)

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.get`."""
        if not self._gets:
            return self._noted(await self._stored.get(session_id, user_id))
        async with self._service.unit(user_id) as unit:
            found = await self._call(unit, "get_session", session_id)
            session = _checked(unit, found, "get_session", user_id, session_id)
            return await self._service.keep(unit, session)

    async def update(
        self, session_id: str, user_id: str | None, changes: Mapping[str, Any], version: int | None = None
    ) -> Session:
        """See `SessionStore.update`."""
        if not self._sees_changes:
            return self._noted(await self._stored.update(session_id, user_id, changes, version))
        session = await self._stored.get(session_id, user_id)
        await self._stored.save(session, version=version)  # nothing has changed: this only looks at the version
        async with self._service.unit(user_id) as unit:
            channel = next(iter(session.active_channels), None)  # has it used already: so that its end is moved
            await self._sync(unit, unit.hand(session), changes)
            return await self._service.keep(unit, session, version=version, channel=channel, replaces=True)

    async def used(self, session: Session, channel: str) -> None:
        """See `SessionStore.used`."""
        if self._sees_changes:
            as_given, changes = self._stored.undone(session)
            if changes:
                as_given.active_channels.add(channel)
                try:
                    async with self._service.unit(session.user_id) as unit:
                        await self._sync(unit, unit.hand(as_given), changes)
                        await self._service.keep(unit, as_given, channel=channel)
                except SessionNotFound:
                    pass  # it was removed meanwhile
                return
        await self._stored.used(session, channel)

    async def renew(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.renew`."""
        renewed = await self._stored.renew(session_id, user_id)
        self._service.seen.forget(session_id)
        return self._noted(renewed)

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """See `SessionStore.remove`. What a manager does beside, it is gone afterwards, unless the manager raises."""
        if self._removes:
            session = await self._stored.get(session_id, user_id)
            async with self._service.unit(user_id) as unit:
                unit.hand(session)
                await self._call(unit, "remove_session", session_id)
                if session_id not in unit.removed:
                    await self._service.remove(unit, session_id)
                await self._service.keep(unit)
        else:
            await self._stored.remove(session_id, user_id)
            self._service.seen.forget(session_id)

    async def _sync(self, unit: Unit, session: Session, changes: Mapping[str, Any]) -> None:
        if self._syncs:
            await self._call(unit, "sync_session_state", session.id, dict(changes))
        else:
            await self._service.sync(unit, session.id, changes)

    def _noted(self, session: Session) -> Session:
        self._service.seen.note(session)
        return session


def _checked(unit: Unit, given: Any, name: str, user_id: str | None, session_id: str | None = None) -> Session:
    """Return what an override gave, if that is a session of the caller's that comes from here."""
    if not isinstance(given, Session):
        raise failure(name, f"gave a {type(given).__name__} and no session")
    if unit.sessions.get(given.id) is not given or session_id not in (None, given.id):
        raise failure(name, f"gave another session than the one that super().{name}() gave it")
    if given.user_id != user_id:
        raise failure(name, "gave a session that is not its caller's")
    return given
