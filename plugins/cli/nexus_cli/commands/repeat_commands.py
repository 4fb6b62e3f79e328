"""``nexus runs retry`` and ``nexus runs fork``, as typer has them: runs that are repeated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus_cli.options import UsageError

if TYPE_CHECKING:
    from nexus_cli.context import CliContext


def retry(
    context: typer.Context,
    run_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Id of the run. Default: the runs that a filter shows.")
    ] = "",
    status: Annotated[
        str, typer.Option(metavar="STATUS", help="Retry runs with this status: failed, cancelled, completed, blocked.")
    ] = "",
    workflow: Annotated[str, typer.Option(metavar="NAME", help="Only runs of this workflow.")] = "",
    channel: Annotated[str, typer.Option(metavar="NAME", help="Only runs that came through this channel.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only runs accepted at this time or later: 2026-01-31T12:00, in UTC.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Only runs accepted before this time.")] = "",
    before: Annotated[str, typer.Option(metavar="NEXT", help="The next page: the `next` of the one before.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of runs, at most 1000.")] = 1000,
    batch: Annotated[
        str, typer.Option(metavar="BATCH", help="An id of your own: with the same one, no run is retried twice.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar="", help="Only count what would be retried, and list the first ids.")
    ] = False,
) -> None:
    """Start a run with the parameters of another one that has ended; or, with a filter, of many."""
    filters: dict[str, Any] = {
        "status": status, "workflow": workflow, "channel": channel, "since": since, "until": until, "before": before,
        "batch": batch,
    }  # fmt: skip
    given = {name: value for name, value in filters.items() if value}
    if run_id and (given or dry_run):
        raise UsageError("Name a run, or give a filter: not both.")
    if not dry_run:
        _refuse_own_process(context.obj)
    if run_id:
        context.obj.show("runs.retry", run_id=run_id)
        return
    if not status:
        raise UsageError("Name a run, or say which ones with --status: nexus runs retry --status failed --dry-run")
    context.obj.show("runs.retry_all", **given, limit=limit, dry_run=dry_run)


def fork(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a durable run.")],
    from_step: Annotated[
        str, typer.Option("--from", metavar="STEP", help="The first step that is done again: its name or its number.")
    ],
    params: Annotated[
        str,
        typer.Option("--input", metavar="JSON", help="New parameters as an object; @FILE reads a file, - reads stdin."),
    ] = "",
) -> None:
    """Start a run that has done what a durable run did before a step, and does the rest again."""
    _refuse_own_process(context.obj)
    given = None
    if params:
        from nexus_cli.commands.execution import read_data
        from nexus_core.jsontext import parse_object

        given = parse_object(read_data(params, "--input"), "value of --input")
    context.obj.show("runs.fork", run_id=run_id, from_step=from_step, params=given)


def _refuse_own_process(cli: CliContext) -> None:
    """Refuse a run in the background of an application that stops with the command.

    Raises:
        UsageError: No server is named.
    """
    if not cli.options.connect:
        raise UsageError("A run is repeated on a server, where it goes on: add --connect URL.")
