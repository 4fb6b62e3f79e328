"""Follows a stream of events, and reconnects when its server is lost."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nexus_cli.server.streams import FOLLOWING, HEARTBEAT_SECONDS
from nexus_core.errors import BackendUnavailable, CredentialEnded, NexusError, NotFound

if TYPE_CHECKING:
    from nexus_cli.backends.backend import CliBackend, OnEvent
    from nexus_cli.context import CliContext

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between attempts; each pause is twice the one before."""

SILENCE_SECONDS = 4 * HEARTBEAT_SECONDS
"""Seconds without a heartbeat after which a server counts as lost."""


class Following:
    """One request, which is repeated from the last event on when the connection is lost.

    Args:
        cli: The command line's context.
        request: The request; its member ``after`` is updated.
        cursor: The member of an event that ``after`` takes.
        show: Called with each event.
        retry: Seconds to retry a lost connection.
    """

    def __init__(self, cli: CliContext, request: dict[str, Any], cursor: str, show: OnEvent, retry: float) -> None:
        self._cli = cli
        self._request = request
        self._cursor = cursor
        self._show = show
        self._retry = retry
        self._was_connected = self._was_renewed = False
        self._lost_since: float | None = None
        self._pause = SHORTEST_PAUSE

    def run(self, backend: CliBackend) -> bytes:
        """Return the final reply.

        Raises:
            NexusError: The request was refused, the server is unavailable, or it has lost the run or session.
        """
        options = replace(self._cli.options, silence=SILENCE_SECONDS)
        while True:
            try:
                return backend.call(self._request, options, self._take)
            except NotFound as exc:
                if not self._was_connected:
                    raise
                exc.message += " It has ended meanwhile, or the server was restarted and has lost it."
                raise
            except CredentialEnded:
                # A stored login can be renewed. If the server refuses it again, its error is final.
                if options.token or self._was_renewed:
                    raise
                self._was_renewed = True
            except NexusError as exc:
                if exc.exit_code != BackendUnavailable.exit_code:  # not temporary
                    raise
                self._wait(exc)

    def _take(self, event: dict[str, Any]) -> None:
        cursor = event.get(self._cursor)
        if event["type"] != FOLLOWING:
            self._show(event)
        elif self._lost_since is not None:
            self._cli.output.remark("reconnected to the server")
        elif not self._was_connected:
            self._cli.output.note("Following. Ctrl-C ends it.")
        self._was_connected, self._lost_since, self._pause = True, None, SHORTEST_PAUSE
        self._was_renewed = False
        if cursor is not None and (event["type"] != FOLLOWING or "after" not in self._request):
            self._request["after"] = cursor

    def _wait(self, exc: NexusError) -> None:
        """Wait before the next attempt, if the server was connected before."""
        now = time.monotonic()
        if not self._was_connected:
            raise exc
        if self._lost_since is None:
            self._lost_since = now
            if self._retry:
                self._cli.output.remark(f"connection to the server lost; reconnecting for up to {self._retry:g} s")
        left = self._lost_since + self._retry - now
        if left <= 0:
            raise exc
        time.sleep(min(max(self._pause, exc.retry_after or 0.0), left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
