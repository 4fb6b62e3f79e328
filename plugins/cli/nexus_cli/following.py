"""``nexus events follow`` and ``nexus sessions follow``: what happens, as it happens, also over a server's restart."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backend import request_of
from nexus_cli.service import FOLLOWING
from nexus_core.errors import BackendUnavailable, NexusError, Overloaded
from nexus_core.events import EVENTS_MISSED, SESSION_EXPIRED, SESSION_REMOVED

if TYPE_CHECKING:
    from nexus_cli.output import Output
    from nexus_cli.state import State

SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between tries; each pause is twice the one before."""


def follow(state: State, after: str | None, session_id: str | None, retry: float) -> None:
    """Show events until the session ends, or for ever.

    Args:
        state: What the command line keeps.
        after: The id of the last event that the user has seen.
        session_id: The session, or None for everything that is the caller's.
        retry: Seconds for which a server that has gone is waited for.
    """
    backend = state.backend()
    Following(state, after, session_id, retry).run(backend)


class Following:
    """Goes on after the last event that it has shown when the server comes back."""

    def __init__(self, state: State, after: str | None, session_id: str | None, retry: float) -> None:
        self._state = state
        self._output = state.output
        self._after = after
        self._session_id = session_id
        self._retry = retry
        self._was_connected = False
        self._gone_since: float | None = None
        self._pause = SHORTEST_PAUSE

    def run(self, backend: Any) -> None:
        """Follow to the end.

        Raises:
            NexusError: It was refused, or the server does not come back.
        """
        while True:
            request = request_of("events.follow", after=self._after, session_id=self._session_id)
            try:
                backend.call(request, self._state.options, self._show)
            except (BackendUnavailable, Overloaded) as exc:
                self._wait(exc)
            else:
                self._output.note("The session has ended.")
                return

    def _show(self, event: dict[str, Any]) -> None:
        self._after = event.get("id", self._after)
        if event["type"] == FOLLOWING:
            if self._gone_since is not None:
                self._output.remark("the server is back")
            self._was_connected, self._gone_since, self._pause = True, None, SHORTEST_PAUSE
        elif self._output.pretty:
            _line(self._output, event)
        else:
            self._output.json(msgspec.json.encode(event))

    def _wait(self, exc: NexusError) -> None:
        """Wait a moment for a server that was there before."""
        now = time.monotonic()
        if not self._was_connected:
            raise exc
        if self._gone_since is None:
            self._gone_since = now
            if self._retry:
                self._output.remark(f"the server has gone; waiting for it up to {self._retry:g} s")
        left = self._gone_since + self._retry - now
        if left <= 0:
            raise exc
        time.sleep(min(self._pause, left))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


def _line(output: Output, event: dict[str, Any]) -> None:
    """Write an event for people."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    about = event.get("workflow") or event.get("session_id") or ""
    output.entry(clock, event["type"], _style(event["type"]), " ".join(filter(None, [about, *_details(event)])))


def _details(event: dict[str, Any]) -> list[str]:
    data = event.get("data") or {}
    told = [] if event["type"] != EVENTS_MISSED else [f"{data.get('count') or 'some'} events were missed"]
    if "state" in event:
        told.append(msgspec.json.encode(event["state"]).decode())
    elif data and not told:
        told.append(msgspec.json.encode(data).decode())
    if "error" in event:
        told.append(str(event["error"].get("detail", "")))
    if "duration" in event:
        told.append(f"{event['duration']:.2f} s")
    if "run_id" in event:
        told.append(f"(run {event['run_id']})")
    return told


def _style(type: str) -> str:
    if type in (EVENTS_MISSED, SESSION_REMOVED, SESSION_EXPIRED) or type.endswith(("failed", "cancelled")):
        return "red"
    return "green" if type.endswith("completed") else "cyan"
