"""``nexus events follow`` and ``nexus sessions follow``: events as they happen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from nexus_cli.backends.backend import request_of
from nexus_cli.commands.following import Following
from nexus_core.events.event import EVENTS_MISSED, SESSION_EXPIRED, SESSION_REMOVED

if TYPE_CHECKING:
    from nexus_cli.context import CliContext
    from nexus_cli.terminal.output import Output


def follow(cli: CliContext, after: str | None, session_id: str | None, retry: float) -> None:
    """Show events until the session ends, or until Ctrl-C.

    Args:
        cli: The command line's context.
        after: The id of the last event that the user has seen.
        session_id: The session, or None for the caller's runs and sessions.
        retry: Seconds to retry a lost connection.
    """
    backend = cli.backend()
    output = cli.output  # only now: a backend in this process redirects stdout

    def show(event: dict[str, Any]) -> None:
        if output.pretty:
            _line(output, event)
        else:
            output.json(msgspec.json.encode(event))

    request = request_of("events.follow", after=after, session_id=session_id)
    reply = Following(cli, request, "id", show, retry).run(backend)
    if output.pretty:
        ended = msgspec.json.decode(reply)["ended"]
        output.line(f"The session has ended: {ended}.")
    else:
        output.json(reply)


def _line(output: Output, event: dict[str, Any]) -> None:
    """Write an event on a terminal."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"]))
    about = event.get("workflow") or event.get("session_id") or ""
    output.entry(clock, event["type"], _style(event["type"]), " ".join(filter(None, [about, *_details(event)])))


def _details(event: dict[str, Any]) -> list[str]:
    data = event.get("data") or {}
    words = [_missed(data.get("count"))] if event["type"] == EVENTS_MISSED else []
    if "state" in event:
        words.append(msgspec.json.encode(event["state"]).decode())
    elif data and not words:
        words.append(msgspec.json.encode(data).decode())
    if "error" in event:
        words.append(str(event["error"].get("detail", "")))
    if "duration" in event:
        words.append(f"{event['duration']:.2f} s")
    if "run_id" in event:
        words.append(f"(run {event['run_id']})")
    return words


def _missed(count: int | None) -> str:
    return "events may have been missed" if count is None else f"{count} events were missed"


def _style(type: str) -> str:
    if type in (EVENTS_MISSED, SESSION_REMOVED, SESSION_EXPIRED) or type.endswith(("failed", "cancelled")):
        return "red"
    return "green" if type.endswith("completed") else "cyan"
