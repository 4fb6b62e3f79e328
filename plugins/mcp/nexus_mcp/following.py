"""What subscribers of resources are told of: events of runs and sessions, of every process that shares them."""

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
    """Tells of changed runs and sessions, from the first subscription on.

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
        """Make sure that what happens from now on is told. Where that can't be yet, it is tried again."""
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
        """Tell no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _is_change(event: ChannelEvent) -> bool:
    return event.type in TERMINAL or event.type in SESSION_CHANGES


class CallersEvents:
    """Tells one subscriber whenever something has happened that its caller may see.

    Args:
        view: What the caller sees.
        tell: Called when there is something new, once for what has come together.
    """

    def __init__(self, view: CallerView, tell: Callable[[], object]) -> None:
        self._view = view
        self._tell = tell
        self._task: asyncio.Task[None] | None = None
        self._follower: Follower | None = None

    async def begin(self) -> None:
        """Follow from now on.

        Raises:
            BackendUnavailable: What keeps the events does not answer.
        """
        self._follower = await self._view.events()
        self._task = asyncio.create_task(self._follow(self._follower), name="nexus-mcp-events")

    async def _follow(self, follower: Follower) -> None:
        while await follower.next() is not None:
            await follower.ready(1000)
            with suppress(Exception):  # whoever is told may have gone
                self._tell()

    def close(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
        if self._follower is not None:
            self._follower.close()
