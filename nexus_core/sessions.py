"""Sessions: state that one caller shares across channels. The contract, and sessions in any `Store`.

A session belongs to the principal that has made it: for everybody else it is not there. Its state changes by
compare-and-set, so that nothing is lost however many write at a time: what a change names is replaced, what it does not
name stays, and ``null`` takes a member away.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from nexus_core import jsontext
from nexus_core.errors import Conflict, SessionNotFound, ValidationError
from nexus_core.events import SESSION_CREATED, SESSION_REMOVED, SESSION_UPDATED, ChannelEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nexus_core.stores import Store

TRIES = 20
"""How often a change is tried that others' changes get in the way of."""

FRESH = 0.9
"""The part of its time that a session must have left for its end not to be moved when it is used."""


@dataclass(slots=True)
class Session:
    """What one caller carries from channel to channel.

    Attributes:
        id: Unguessable; whoever holds it, and is its user, may use the session.
        user_id: Its principal's `Principal.identity`, or None for a caller without one.
        state: The caller's own JSON object.
        metadata: What the platform and its plugins note about the session.
        active_channels: The channels that have used it.
        version: Grows by one with each change.
        created_at, expires_at: Seconds since the epoch; ``expires_at`` None means never.
        before, stored: For the `SessionStore` that gave it: the state as it was, and what is kept of it.
    """

    id: str
    user_id: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    active_channels: set[str] = field(default_factory=set)
    version: int = 1
    created_at: float = field(default_factory=time.time)
    expires_at: float | None = None
    before: bytes = field(default=b"{}", repr=False, compare=False)
    stored: bytes = field(default=b"", repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the session as channels show it."""
        return {
            "session_id": self.id,
            "state": self.state,
            "active_channels": sorted(self.active_channels),
            "version": self.version,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
        }


class SessionStore(Protocol):
    """Where sessions are kept. Every method answers as if another's session did not exist."""

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """Make a session and return it."""

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """Return a session. Raises `SessionNotFound`, also for another user's."""

    async def update(
        self, session_id: str, user_id: str | None, changes: Mapping[str, Any], version: int | None = None
    ) -> Session:
        """Change members of a session's state, and return the session. None takes a member away.

        Raises:
            SessionNotFound: There is none, or it is another's.
            Conflict: ``version`` is not the session's; the details have the one it is.
            ValidationError: The state would be too large, or is not JSON.
        """

    async def used(self, session: Session, channel: str) -> None:
        """Keep what a call has changed in a session that it got from `get`, and that it was used."""

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """Forget a session. Raises `SessionNotFound`, also for another user's."""


class _Record(msgspec.Struct, omit_defaults=True):
    owner: str | None
    version: int
    created_at: float
    expires_at: float
    state: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    channels: list[str] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Record).decode


class StoredSessions:
    """The `SessionStore` on a `Store`: one step of it to read a session, at most one to write.

    Args:
        store: Where they are.
        publish: Tells the bus what happens to them.
        ttl: Seconds for which an unused session is kept.
        max_bytes: The largest state, as JSON text.
    """

    def __init__(
        self, store: Store, publish: Callable[[ChannelEvent], None], *, ttl: float = 3600.0, max_bytes: int = 64 * 1024
    ) -> None:
        self._store = store
        self._publish = publish
        self._ttl = ttl
        self._max_bytes = max_bytes

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """See `SessionStore.create`."""
        session_id, now = secrets.token_urlsafe(24), time.time()
        record = _Record(user_id, 1, now, now + self._ttl, channels=[channel])
        await self._store.set(_key(session_id), _encode(record), self._ttl)
        self._tell(SESSION_CREATED, session_id, record, {})
        return _session(session_id, record)

    async def get(self, session_id: str, user_id: str | None = None) -> Session:
        """See `SessionStore.get`."""
        record, text = await self._read(session_id, user_id)
        return _session(session_id, record, text)

    async def update(
        self, session_id: str, user_id: str | None, changes: Mapping[str, Any], version: int | None = None
    ) -> Session:
        """See `SessionStore.update`."""
        given = self._checked(changes)

        def change(record: _Record) -> None:
            if version is not None and version != record.version:
                raise Conflict(
                    f"The session has version {record.version}, not {version}.", details={"version": record.version}
                )
            record.state = _merged(record.state, given)

        record = await self._change(session_id, user_id, change)
        self._tell(SESSION_UPDATED, session_id, record, {"version": record.version, "changed": sorted(given)})
        return _session(session_id, record)

    async def used(self, session: Session, channel: str) -> None:
        """See `SessionStore.used`."""
        changes = self._checked(_changes(jsontext.parse_trusted(session.before), session.state))
        lasts = (session.expires_at or 0.0) - time.time()
        if not changes and channel in session.active_channels and lasts > self._ttl * FRESH:
            return

        def change(record: _Record) -> None:
            record.state = _merged(record.state, changes)
            if channel not in record.channels:
                record.channels.append(channel)

        try:
            record = await self._change(session.id, session.user_id, change, session.stored)
        except SessionNotFound:
            return  # it was removed meanwhile
        if changes:
            self._tell(SESSION_UPDATED, session.id, record, {"version": record.version, "changed": sorted(changes)})

    async def remove(self, session_id: str, user_id: str | None = None) -> None:
        """See `SessionStore.remove`."""
        record, text = await self._read(session_id, user_id)
        while not await self._store.delete(_key(session_id), text):
            record, text = await self._read(session_id, user_id)
        self._tell(SESSION_REMOVED, session_id, record, {})

    async def _read(self, session_id: str, user_id: str | None) -> tuple[_Record, bytes]:
        text = await self._store.get(_key(session_id))
        return self._known(text, user_id), text or b""

    def _known(self, text: bytes | None, user_id: str | None) -> _Record:
        """Return what is stored, if it is there for a caller."""
        try:
            record = None if text is None else _decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            record = None
        if record is None or record.owner != user_id or record.expires_at <= time.time():
            raise SessionNotFound("There is no session of that id.")
        return record

    async def _change(
        self, session_id: str, user_id: str | None, change: Callable[[_Record], None], text: bytes = b""
    ) -> _Record:
        """Change a session by a function, until that has worked on what is in the store.

        Args:
            session_id: Which one.
            user_id: Whose.
            change: Changes a record. It may be called several times, each with a record of its own.
            text: What is in the store, as far as is known: that spares a step.
        """
        for _ in range(TRIES):
            text = text or await self._store.get(_key(session_id)) or b""
            record = self._known(text or None, user_id)
            change(record)
            record.version += 1
            record.expires_at = time.time() + self._ttl
            if len(_encode(record.state)) > self._max_bytes:
                raise _too_large(self._max_bytes)
            if await self._store.replace(_key(session_id), text, _encode(record), self._ttl):
                return record
            text = b""
        raise Conflict("The session is being changed by too many at a time.", retry_after=1.0)

    def _checked(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        try:
            text = jsontext.encode(changes)
        except (TypeError, ValueError) as exc:
            raise ValidationError(f"A session's state must be JSON: {exc}.") from None
        if len(text) > self._max_bytes:
            raise _too_large(self._max_bytes)
        checked: dict[str, Any] = jsontext.parse_trusted(text)
        return checked

    def _tell(self, type: str, session_id: str, record: _Record, data: dict[str, Any]) -> None:
        self._publish(ChannelEvent(type, session_id=session_id, data=data or None, owner=record.owner))


def _key(session_id: str) -> str:
    return f"session:{session_id}"


def _session(session_id: str, record: _Record, text: bytes = b"") -> Session:
    return Session(
        session_id, record.owner, record.state, record.metadata, set(record.channels), record.version,
        record.created_at, record.expires_at, before=_encode(record.state), stored=text,
    )  # fmt: skip


def _merged(state: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**state, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return what makes one state of another."""
    gone = dict.fromkeys(before.keys() - after.keys())
    return gone | {name: value for name, value in after.items() if name not in before or before[name] != value}


def _too_large(limit: int) -> ValidationError:
    return ValidationError(f"A session's state has at most {limit} bytes, as JSON.")
