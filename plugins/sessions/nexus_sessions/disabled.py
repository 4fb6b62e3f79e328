"""`DisabledSessionStore`: the session store while ``enable_sessions`` is False."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from nexus_core import NotFound, SessionNotFound

if TYPE_CHECKING:
    from nexus_core.state.sessions import Session


class DisabledSessionStore:
    """A `SessionStore` that creates no session and finds none.

    Args:
        store_name: Name of the store of shared state.
    """

    def __init__(self, store_name: str) -> None:
        self.store_name = store_name

    async def create(self, channel: str, user_id: str | None = None) -> Session:
        """See `SessionStore.create`."""
        raise NotFound("Sessions are disabled: enable_sessions is False.")

    async def get(self, *_: Any) -> NoReturn:
        """See `SessionStore.get`."""
        raise SessionNotFound("There is no session with this id.")

    update = renew = remove = get

    async def used(self, session: Session, channel: str) -> None:
        """See `SessionStore.used`."""
