"""Follows what a server tells, also when it goes away meanwhile and comes back."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexus_cli.server.streams import FOLLOWING, HEARTBEAT_SECONDS
from nexus_core.errors import BackendUnavailable, CredentialEnded, NexusError, NotFound

if TYPE_CHECKING:
    from nexus_cli.backends.backend import Backend, OnEvent
    from nexus_cli.context import CliContext

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between tries; each pause is twice the one before."""

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
"""Silence after which a server counts as gone: it would have said that it goes on."""


class Following:
    """One request that is made again, from the last event on that was shown, when its connection is lost.

    Args:
        cli: What the command line keeps.
        request: The request; its member ``after`` grows.
        place: The member of an event that ``after`` is the latest of.
        show: Takes each event.
        retry: Seconds for which a server that has gone is waited for.
    """

    def __init__(self, cli: CliContext, request: dict[str, Any], place: str, show: OnEvent, retry: float) -> None:
        self._cli = cli
        self._request = request
        self._place = place
        self._show = show
        self._retry = retry
        self._was_connected = self._has_come_back = False
        self._gone_since: float | None = None
        self._pause = SHORTEST_PAUSE

    def run(self, backend: Backend) -> bytes:
        """Return the reply that ends it.

        Raises:
            NexusError: It was refused, or the server does not come back, or what was followed has gone with it.
        """
        options = replace(self._cli.options, silence=SILENCE_SECONDS)
        while True:
            try:
                return backend.call(self._request, options, self._take)
            except NotFound as exc:
                if not self._was_connected:
                    raise
                exc.message += " It was there before: it has ended meanwhile, or the server has lost it."
                raise
            except CredentialEnded:
                # What `nexus login` has left can be renewed; a server that refuses it says so when it is asked again.
                if options.token or self._has_come_back:
                    raise
                self._has_come_back = True
            except NexusError as exc:
                if exc.exit_code != BackendUnavailable.exit_code:  # a repeat won't help
                    raise
                self._wait(exc)

    def _take(self, event: dict[str, Any]) -> None:
        place = event.get(self._place)
        if event["type"] != FOLLOWING:
            self._show(event)
        elif self._gone_since is not None:
            self._cli.output.remark("the server is back")
        elif not self._was_connected:
            self._cli.output.note("Following. Ctrl-C ends it.")
        self._was_connected, self._gone_since, self._pause = True, None, SHORTEST_PAUSE
        self._has_come_back = False
        if place is not None and (event["type"] != FOLLOWING or "after" not in self._request):
            self._request["after"] = place

    def _wait(self, exc: NexusError) -> None:
        """Wait a moment for a server that was there before."""
        now = time.monotonic()
        if not self._was_connected:
            raise exc
        if self._gone_since is None:
            self._gone_since = now
            if self._retry:
                self._cli.output.remark(f"the server has gone; waiting for it up to {self._retry:g} s")
        left = self._gone_since + self._retry - now
        if left <= 0:
            raise exc
        time.sleep(min(max(self._pause, exc.retry_after or 0.0), left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
