"""`StoredSessions`: sessions in any `Store`, by compare-and-set."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_core import jsontext
from nexus_core.errors import Conflict, SessionNotFound, ValidationError
from nexus_core.events.event import SESSION_CREATED, SESSION_EXPIRED, SESSION_REMOVED, SESSION_UPDATED, ChannelEvent
from nexus_core.state.limits import SESSIONS, current_payer, user_payer
from nexus_core.state.sessions import Session
from nexus_core.state.stores import scoping
from nexus_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.state.stores import Store

TRIES = 50
"""How often a change is tried that others' changes get in the way of."""

PAUSE_SECONDS = 0.002
"""The longest pause after the first of them; it grows with each, up to `LONGEST_PAUSE_SECONDS`."""

LONGEST_PAUSE_SECONDS = 0.05

FRESH = 0.9
"""The part of its time that a session must have left for its end not to be moved when it is used."""

TTL = 3600.0
"""Seconds for which an unused session is kept, by default."""

MAX_BYTES = 64 * 1024
"""The largest state, as JSON text, by default."""


_NONE = object()


class _Record(msgspec.Struct, omit_defaults=True):
    owner: str | None
    version: int
    created_at: float
    expires_at: float
    state: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    channels: list[str] = []
    payer: str = ""

    @property
    def paid_by(self) -> str:
        """Whose limits count for it: its owner's, else those of who has made it."""
        return self.payer if self.owner is None else user_payer(self.owner)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


class StoredSessions:
    """The `SessionStore` on a `Store`: one step of it to read a session, at most one to write.

    Args:
        store: Where they are.
        publish: Tells the bus what happens to them. Called on the event loop.
        ttl: Seconds for which an unused session is kept.
        max_bytes: The largest state, as JSON text; the metadata may be as large.
        linger: Seconds for which an expired session is still there for `look` alone.
    """

    def __init__(
        self, store: Store, publish: Callable[[ChannelEvent], None], *, ttl: float = TTL, max_bytes: int = MAX_BYTES,
        linger: float = 0.0,
    ) -> None:  # fmt: skip
        self._store = store
        self._scoped = scoping(store)
        self._publish = publish
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._linger = linger

    @property
    def store_name(self) -> str:
        """The name of the store that they are in."""
        return self._store.name

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """See `SessionStore.create`."""
        session_id, now = _new_id(), time.time()
        payer = current_payer.get() if user_id is None else ""
        record = _Record(user_id, 1, now, now + self._ttl, channels=[channel], payer=payer)
        text = _encode(record)
        await self._paid(record).set(_key(session_id), text, self._ttl + self._linger)
        self._tell(SESSION_CREATED, session_id, record, {})
        return _session(session_id, record, text)

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.get`."""
        record, text = await self._read(session_id, user_id)
        return _session(session_id, record, text)

    async def update(
        self, session_id: str, user_id: str | None, changes: Mapping[str, Any], version: int | None = None
    ) -> Session:
        """See `SessionStore.update`."""
        given = self._checked(changes, "state")

        def change(record: _Record) -> None:
            _check_version(record, version)
            record.state = _merged(record.state, given)

        record, text = await self._change(session_id, user_id, change)
        self._tell(SESSION_UPDATED, session_id, record, {"version": record.version, "changed": sorted(given)})
        return _session(session_id, record, text)

    async def used(self, session: Session, channel: str) -> None:
        """See `SessionStore.used`."""
        try:
            await self.save(session, channel)
        except SessionNotFound:
            return  # it was removed meanwhile

    async def save(
        self, session: Session, channel: str | None = None, version: int | None = None, notified: tuple[str, ...] = (),
        *, replaces: bool = False,
    ) -> Session:  # fmt: skip
        """Keep what has changed in a session since it was given out, keeping what others have changed since.

        A member of the state that others have changed since is not overwritten: what is in its place now may have been
        made of what was there before.

        Args:
            session: The session, with another state or other metadata than it had.
            channel: The channel that has used it, if one has: that moves its end.
            version: The version that it must still have, if it must.
            notified: Channels that the event of the change shall name.
            replaces: Whether its members take the place of others' all the same: they don't come of what was there.

        Returns:
            The session as it is kept now.

        Raises:
            SessionNotFound, ValidationError: See `SessionStore.update`.
            Conflict: See `SessionStore.update`; or others have changed the same member since.
        """
        given_out = _decode(session.stored)
        changes = self._checked(_changes(given_out.state, session.state), "state")
        metadata = self._checked(session.metadata, "metadata")
        has_joined = channel is not None and channel not in given_out.channels
        is_fresh = channel is None or given_out.expires_at - time.time() > self._ttl * FRESH
        if not (changes or has_joined) and is_fresh and metadata == given_out.metadata:
            _check_version(given_out, version)
            return session

        def change(record: _Record) -> None:
            _check_version(record, version)
            if not replaces:
                _check_unchanged(given_out.state, record, changes)
            record.state = _merged(record.state, changes)
            gone = given_out.metadata.keys() - metadata.keys()
            noted = {name: value for name, value in metadata.items() if given_out.metadata.get(name, _NONE) != value}
            record.metadata = {name: value for name, value in record.metadata.items() if name not in gone} | noted
            if channel is not None and channel not in record.channels:
                record.channels.append(channel)

        record, text = await self._change(session.id, session.user_id, change, session.stored)
        if changes:
            told = {"version": record.version, "changed": sorted(changes)}
            self._tell(SESSION_UPDATED, session.id, record, told | ({"channels": [*notified]} if notified else {}))
        return _session(session.id, record, text)

    def undone(self, session: Session) -> tuple[Session, dict[str, Any]]:
        """Return a session with the state that it had when it was given out, and what has changed in that since."""
        before = _decode(session.stored).state
        return replace(session, state=before), _changes(before, session.state)

    async def renew(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.renew`."""
        record, text = await self._renewable(session_id, user_id)
        new_id, left = _new_id(), self._ttl + self._linger
        while True:
            record.owner, record.expires_at = user_id, time.time() + self._ttl
            record.version += 1
            new_text = _encode(record)
            await self._paid(record).set(_key(new_id), new_text, left)
            if await self._delete(session_id, text):
                break
            try:
                record, text = await self._renewable(session_id, user_id)  # it has changed meanwhile
            except SessionNotFound:
                await self._delete(new_id, new_text)
                raise
        self._tell(SESSION_REMOVED, session_id, _decode(text), {"reason": "renewed"})
        self._tell(SESSION_CREATED, new_id, record, {})
        return _session(new_id, record, new_text)

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """See `SessionStore.remove`."""
        record, text = await self._read(session_id, user_id)
        while not await self._delete(session_id, text):
            record, text = await self._read(session_id, user_id)
        self._tell(SESSION_REMOVED, session_id, record, {})

    async def look(self, session_id: str) -> Session | None:
        """Return a session of any caller, expired or not; None when nothing is kept of it. For housekeeping."""
        text = await self._store.get(_key(session_id))
        record = None if text is None else _decoded(text)
        return None if record is None else _session(session_id, record, text or b"")

    async def discard(self, session: Session) -> bool:
        """Forget a session that `look` has given, unless it has been used since. Returns whether it is forgotten."""
        if not await self._delete(session.id, session.stored):
            return False
        record = _decode(session.stored)
        is_over = record.expires_at <= time.time()
        self._tell(SESSION_EXPIRED if is_over else SESSION_REMOVED, session.id, record, {})
        return True

    def _paid(self, record: _Record) -> Store:
        """Return the store as the one whose limits count for a session writes to it."""
        return self._scoped(SESSIONS, record.paid_by)

    async def _delete(self, session_id: str, text: bytes) -> bool:
        return await self._paid(_decode(text)).delete(_key(session_id), text)

    async def _renewable(self, session_id: str, user_id: str | None) -> tuple[_Record, bytes]:
        text = await self._store.get(_key(session_id))
        record = None if text is None else _decoded(text)
        return self._known(text, user_id if record is None or record.owner is not None else None), text or b""

    async def _read(self, session_id: str, user_id: str | None) -> tuple[_Record, bytes]:
        text = await self._store.get(_key(session_id))
        return self._known(text, user_id), text or b""

    def _known(self, text: bytes | None, user_id: str | None) -> _Record:
        """Return what is stored, if it is there for a caller."""
        record = None if text is None else _decoded(text)
        if record is None or record.owner != user_id or record.expires_at <= time.time():
            raise SessionNotFound("There is no session with this id.")
        return record

    async def _change(
        self, session_id: str, user_id: str | None, change: Callable[[_Record], None], text: bytes = b""
    ) -> tuple[_Record, bytes]:
        """Change a session by a function, until that has worked on what is in the store.

        Args:
            session_id: Which one.
            user_id: Whose.
            change: Changes a record. It may be called several times, each with a record of its own.
            text: What is in the store, as far as is known: that spares a step.
        """
        for tried in range(1, TRIES + 1):
            text = text or await self._store.get(_key(session_id)) or b""
            record = self._known(text or None, user_id)
            change(record)
            record.version += 1
            record.expires_at = time.time() + self._ttl
            for what, members in (("state", record.state), ("metadata", record.metadata)):
                if len(_encode(members)) > self._max_bytes:
                    raise _too_large(what, self._max_bytes)
            changed = _encode(record)
            if await self._paid(record).replace(_key(session_id), text, changed, self._ttl + self._linger):
                return record, changed
            text = b""
            pause = min(PAUSE_SECONDS * tried, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  (no secret: so that not all try at once again)
        raise Conflict("Too many calls are changing the session at the same time.", retry_after=1.0)

    def _checked(self, changes: Mapping[str, Any], what: str) -> dict[str, Any]:
        """Return changes as what they are in JSON, if they are."""
        try:
            text = jsontext.encode(changes)
        except (TypeError, ValueError) as exc:
            raise ValidationError(f"A session's {what} must be JSON: {exc}.") from None
        if len(text) > self._max_bytes:
            raise _too_large(what, self._max_bytes)
        checked: dict[str, Any] = jsontext.parse_trusted(text)
        return checked

    def _tell(self, type: str, session_id: str, record: _Record, data: dict[str, Any]) -> None:
        self._publish(ChannelEvent(type, session_id=session_id, data=data or None, owner=record.owner))


def _new_id() -> str:
    """Return an id that can't be guessed, and that no command line takes for an option."""
    return secrets.token_hex(24)


def _key(session_id: str) -> str:
    return f"session:{session_id}"


def _decoded(text: bytes) -> _Record | None:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None  # somebody else has written it


def _session(session_id: str, record: _Record, text: bytes) -> Session:
    return Session(
        session_id, record.owner, record.state, record.metadata, set(record.channels), record.version,
        record.created_at, record.expires_at, stored=text,
    )  # fmt: skip


def _check_version(record: _Record, version: int | None) -> None:
    if version is not None and version != record.version:
        raise Conflict(f"The session has version {record.version}, not {version}.", details={"version": record.version})


def _check_unchanged(before: dict[str, Any], record: _Record, changes: Mapping[str, Any]) -> None:
    """Refuse changes of members that others have changed too. Two that count from 1 make 2 both, and it should be 3."""
    lost = [name for name in changes if record.state.get(name, _NONE) != before.get(name, _NONE)]
    if lost:
        names = ", ".join(f'"{printable(name, 50)}"' for name in sorted(lost)[:5])
        raise Conflict(
            f"Another call has changed {names} of the session while this one ran: its changes of the session are not "
            'stored. Repeat the call; workflows with metadata["serial"] = "session" run one at a time in each session.',
            details={"version": record.version, "members": sorted(lost)},
        )


def _merged(state: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**state, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what makes one state of another."""
    gone = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: value for name, value in after.items() if name not in before or before[name] != value}


def _too_large(what: str, limit: int) -> ValidationError:
    return ValidationError(f"A session's {what} has at most {limit} bytes, as JSON.")
