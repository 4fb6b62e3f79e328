"""Events for subscribers of resources: runs and sessions, of every process that shares its events."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from nexus_core import BackendUnavailable
from nexus_core.events.event import SESSION_EXPIRED, SESSION_REMOVED, SESSION_UPDATED, TERMINAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core import ChannelEvent, Platform
    from nexus_core.app.view import CallerView
    from nexus_core.events.log import Follower

log = logging.getLogger(__name__)

SESSION_CHANGES = frozenset({SESSION_UPDATED, SESSION_REMOVED, SESSION_EXPIRED})
RETRY_SECONDS = 1.0


class Changes:
    """Passes changes of runs and sessions on, from the first subscription.

    Args:
        nexus: The platform.
        run_ended: Called with the id of each run that has ended.
        session_changed: Called with the id of each session that has changed or ended.
    """

    def __init__(
        self, platform: Platform, run_ended: Callable[[str], None], session_changed: Callable[[str], None]
    ) -> None:
        self._platform = platform
        self._run_ended = run_ended
        self._session_changed = session_changed
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Pass on the changes from now. If the event log is unavailable, following it is retried."""
        if self._task is not None:
            return
        has_begun = asyncio.Event()
        self._task = asyncio.create_task(self._tell(has_begun), name="nexus-mcp-changes")
        await has_begun.wait()

    async def _tell(self, has_begun: asyncio.Event) -> None:
        while True:
            try:
                follower = await self._platform.event_log.follow(None, _is_change)
            except BackendUnavailable:
                has_begun.set()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            has_begun.set()
            try:
                while (event := await follower.next()) is not None:
                    self._pass_on(event)
            finally:
                follower.close()

    def _pass_on(self, event: ChannelEvent) -> None:
        if event.type in TERMINAL:
            self._run_ended(event.run_id)
        elif event.session_id is not None:
            self._session_changed(event.session_id)

    async def close(self) -> None:
        """Stop passing changes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _is_change(event: ChannelEvent) -> bool:
    return event.type in TERMINAL or event.type in SESSION_CHANGES


class CallersEvents:
    """Notifies one subscriber of events that its caller may see.

    Args:
        view: The view of the caller.
        tell: Called after new events, once for several at the same time.
    """

    def __init__(self, view: CallerView, tell: Callable[[], object]) -> None:
        self._view = view
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._follower: Follower | None = None

    async def begin(self) -> None:
        """Follow from now on.

        Raises:
            BackendUnavailable: The backend of the event log is unavailable.
        """
        self._follower = await self._view.events()
        self._task = asyncio.create_task(self._follow(self._follower), name="nexus-mcp-events")

    async def _follow(self, follower: Follower) -> None:
        while await follower.next() is not None:
            await follower.ready(1000)
            with suppress(Exception):  # the subscriber may have disconnected
                self._tell()

    def close(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
        if self._follower is not None:
            self._follower.close()
