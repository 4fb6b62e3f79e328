"""``nexus schedules``. The command line brings typer: nothing else may import this module."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Annotated, Any, Protocol
from urllib.parse import quote, urlsplit

import msgspec
import typer

from nexus_core import Command
from nexus_core.errors import BackendUnavailable, NotFound, ValidationError, error_from_problem
from nexus_schedules.routes import MOST_TIMES, PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core import Platform
    from nexus_schedules.scheduler import Scheduler

SECONDS = 30.0

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]
_Count = Annotated[int, typer.Option("--count", metavar="NUMBER", min=1, max=MOST_TIMES, help="Times of each.")]


class ScheduleOutput(Protocol):
    """What the command line writes with."""

    pretty: bool

    def json(self, text: bytes) -> None:
        """Write a JSON text."""

    def line(self, text: str) -> None:
        """Write a line."""

    def table(self, columns: list[str], rows: list[list[str]]) -> None:
        """Write a table."""


def schedule_commands(platform: Platform, scheduler: Callable[[], Scheduler | None]) -> Command:
    """Return the command group ``schedules``.

    Args:
        platform: The platform; a command starts it, unless it is for a server.
        scheduler: Returns the schedules of the started platform.
    """
    group, actions = typer.Typer(no_args_is_help=True), ScheduleCommands(platform, scheduler)
    for name in ("list", "next", "pause", "resume"):
        group.command(name)(getattr(actions, name))
    group.command("run-now")(actions.run_now)
    return Command("schedules", group, ScheduleCommands.__doc__ or "")


class ScheduleCommands:
    """List schedules and their next times; pause, resume and start them."""

    def __init__(self, platform: Platform, scheduler: Callable[[], Scheduler | None]) -> None:
        self._platform = platform
        self._scheduler = scheduler

    def list(self, context: typer.Context) -> None:
        """List schedules, each with its next time, in its zone and in UTC."""
        found, output = self._ask(context, "list"), _output(context)
        if not output.pretty:
            output.json(msgspec.json.encode(found))
            return
        rows = [[each["name"], each["workflow"], each["expression"], _state(each), *_first(each), _last(each)]
                for each in found["schedules"]]  # fmt: skip
        output.table(["SCHEDULE", "WORKFLOW", "TIMES", "STATE", "NEXT", "NEXT IN UTC", "LAST"], rows)

    def next(self, context: typer.Context, count: _Count = 5) -> None:
        """List the next times of all schedules, in order."""
        found, output = self._ask(context, "list", count=count), _output(context)
        times = sorted(
            ({"schedule": each["name"], **moment} for each in found["schedules"] for moment in each["next"]),
            key=lambda moment: (moment["utc"], moment["schedule"]),
        )
        if output.pretty:
            rows = [[each["utc"], each["local"], each["schedule"]] for each in times]
            output.table(["UTC", "LOCAL", "SCHEDULE"], rows)
        else:
            output.json(msgspec.json.encode({"times": times}))

    def pause(self, context: typer.Context, name: _Name) -> None:
        """Pause a schedule: its times are left out until it is resumed."""
        self._changed(context, self._ask(context, "pause", name), f"The schedule {name} is paused.")

    def resume(self, context: typer.Context, name: _Name) -> None:
        """Resume a schedule. Times that passed meanwhile are not made up for."""
        self._changed(context, self._ask(context, "resume", name), f"The schedule {name} is resumed.")

    def run_now(self, context: typer.Context, name: _Name) -> None:
        """Start a run of a schedule now, on a server (--connect)."""
        if not context.obj.options.connect:
            raise ValidationError("run-now needs a running server: nexus --connect URL schedules run-now NAME.")
        found = self._ask(context, "run", name)
        self._changed(context, found, f"The run {found['run_id']} of {name} is started.")

    def _changed(self, context: typer.Context, found: dict[str, Any], text: str) -> None:
        output = _output(context)
        if output.pretty:
            output.line(text)
        else:
            output.json(msgspec.json.encode(found))

    def _ask(self, context: typer.Context, action: str, name: str = "", count: int = 1) -> dict[str, Any]:
        options = context.obj.options
        if options.connect:
            return _ask_server(options.connect, options.token, action, name, count)
        asked: dict[str, Any] = context.obj.run(self._ask_here(action, name, count))
        return asked

    async def _ask_here(self, action: str, name: str, count: int) -> dict[str, Any]:
        async with self._platform:
            scheduler = self._scheduler()
            if scheduler is None:
                if action == "list":
                    return {"schedules": []}
                raise NotFound("The application has no schedules.")
            if action == "list":
                return await scheduler.page(count)
            return await scheduler.set_paused(name, action == "pause")


def _ask_server(url: str, token: str | None, action: str, name: str, count: int) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValidationError("--connect needs a URL such as http://127.0.0.1:8001.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=SECONDS)
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = token if " " in token.strip() else f"Bearer {token}"
    base = parts.path.rstrip("/").removesuffix("/cli") + PATH
    method, path = ("GET", f"{base}?count={count}") if action == "list" else (
        "POST", f"{base}/{quote(name, safe='')}/{action}"
    )  # fmt: skip
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        status, body = response.status, msgspec.json.decode(response.read())
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as exc:
        raise BackendUnavailable(f"{url} does not answer: {exc or type(exc).__name__}") from None
    finally:
        connection.close()
    if status != 200:
        raise error_from_problem(body)
    return body  # type: ignore[no-any-return]


def _output(context: typer.Context) -> ScheduleOutput:
    return context.obj.output  # type: ignore[no-any-return]


def _state(each: dict[str, Any]) -> str:
    if each["paused"]:
        return "paused"
    return "running" if each["running"] else "waiting"


def _first(each: dict[str, Any]) -> list[str]:
    return [*each["next"][0].values()] if each["next"] and not each["paused"] else ["-", "-"]


def _last(each: dict[str, Any]) -> str:
    last = each["last"]
    if last is None:
        return "-"
    return f"{last['due']} failed: {last['error']}" if last["error"] else str(last["due"])
