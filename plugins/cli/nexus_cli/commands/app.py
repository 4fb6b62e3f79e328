"""The tree of commands, as typer has it. The commands themselves are imported when they run."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus_cli.commands import question_commands, repeat_commands
from nexus_cli.options import FLAGS, LONGEST, RETRY_SECONDS, VALUES, UsageError, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_cli.context import CliContext

_PASS = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def build(markup: Any) -> typer.Typer:
    """Return the application with every built-in command.

    Args:
        markup: The format of help: ``"rich"`` on a terminal, None for plain text, which starts much faster.
    """
    app = typer.Typer(
        name="nexus", add_completion=False, rich_markup_mode=markup, no_args_is_help=True,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Run workflows: of an application in this process (--app) or on a running server (--connect).",
    )  # fmt: skip
    app.callback()(_options)
    app.command("serve")(serve)
    app.command("worker")(worker)
    app.command(
        "execute", context_settings={**_PASS, "help_option_names": []}, options_metavar="NAME [--FIELD VALUE]..."
    )(execute)
    app.command("list")(list_workflows)
    app.command("describe")(describe)

    def group(
        name: str, text: str, callback: Callable[..., None] = _no_options, **commands: Callable[..., None]
    ) -> None:
        has_default = callback is not _no_options
        made = typer.Typer(help=text, rich_markup_mode=markup, invoke_without_command=has_default)
        made.callback()(callback)
        for each, function in commands.items():
            made.command(each)(function)
        app.add_typer(made, name=name, no_args_is_help=not has_default)

    group("runs", "List, show, follow, cancel, retry, fork and prune runs.", _runs,
          list=runs_list, show=runs_show, steps=runs_steps, cancel=runs_cancel, follow=runs_follow,
          retry=repeat_commands.retry, fork=repeat_commands.fork, prune=runs_prune)  # fmt: skip
    group("questions", "List, show and answer the questions of runs.", question_commands.default,
          list=question_commands.listed, show=question_commands.show, answer=question_commands.answer)  # fmt: skip
    group("sessions", "Create, show, update, follow and delete sessions.",
          create=sessions_create, show=sessions_show, set=sessions_set, renew=sessions_renew, revoke=sessions_revoke,
          follow=sessions_follow)  # fmt: skip
    group("events", "Follow the events of your runs and sessions.", follow=events_follow)
    group("config", "Show the options, their values and their sources.", show=config_show, schema=config_schema)
    app.command("shell")(shell)
    app.command("plugins", context_settings={**_PASS, "help_option_names": []})(plugins)
    app.command("mcp-config")(mcp_config)
    app.command("completion")(completion)
    app.command("version")(version)
    return app


@cache
def own_commands(markup: Any) -> Any:
    """Return the built-in commands as a click group, cached: making it takes most of a short command's time.

    Args:
        markup: See `build`.
    """
    return typer.main.get_command(build(markup))


def _value_option(name: str) -> Any:
    _, metavar, text, variable = VALUES[name]
    return typer.Option(name, metavar=metavar, help=f"{text} [{variable}]" if variable else text)


def _flag(name: str) -> Any:
    return typer.Option(name, metavar="", help=FLAGS[name][1])


def _options(
    app: Annotated[str, _value_option("--app")] = "",
    connect: Annotated[str, _value_option("--connect")] = "",
    session: Annotated[str, _value_option("--session")] = "",
    token: Annotated[str, _value_option("--token")] = "",
    timeout: Annotated[str, _value_option("--timeout")] = "",
    header: Annotated[str, _value_option("--header")] = "",
    json: Annotated[bool, _flag("--json")] = False,
    debug: Annotated[bool, _flag("--debug")] = False,
) -> None:
    """List the common options in the help text; `nexus_cli.options.take` has removed them from the arguments."""


def serve(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="[MODULE:ATTR]", help="Application; also FILE.py:ATTR.")] = "",
    stdio: Annotated[
        bool, typer.Option("--stdio", metavar="", help="Speak MCP on stdin and stdout, without ports.")
    ] = False,
) -> None:
    """Serve an application on its ports until it is stopped."""
    from nexus_core.app import serving

    cli: CliContext = context.obj
    if target:
        from dataclasses import replace

        cli.options = replace(cli.options, app=target)
    serving.serve(cli.nexus, stdio=stdio)


def worker(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="[MODULE:ATTR]", help="Application; also FILE.py:ATTR.")] = "",
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", min=1, help="Maximum number of runs at once.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Work on this workflow alone; may be repeated.")
    ] = None,
) -> None:
    """Work on durable runs until it is stopped, without ports for calls."""
    cli: CliContext = context.obj
    if target:
        from dataclasses import replace

        cli.options = replace(cli.options, app=target)
    cli.nexus().work(concurrency, only or ())


def execute(context: typer.Context) -> None:
    """Run a workflow and print its result."""
    from nexus_cli.commands.execution import run

    run(context.obj, context.args)


def list_workflows(context: typer.Context) -> None:
    """List the workflows."""
    from nexus_cli.commands import listing

    listing.workflows(context.obj)


def describe(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the workflow.")]) -> None:
    """Show a workflow: its description, parameters and result."""
    from nexus_cli.commands import listing

    listing.workflow(context.obj, name)


def _runs(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from nexus_cli.commands import listing

        listing.runs(context.obj)


def runs_list(
    context: typer.Context,
    workflow: Annotated[str, typer.Option(metavar="NAME", help="Show only runs of this workflow.")] = "",
    status: Annotated[
        str, typer.Option(metavar="STATUS", help="Show only runs of this status: pending, running, completed, ...")
    ] = "",
    channel: Annotated[str, typer.Option(metavar="NAME", help="Only runs that came through this channel.")] = "",
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only runs accepted at this time or later: 2026-01-31T12:00, in UTC.")
    ] = "",
    until: Annotated[str, typer.Option(metavar="TIME", help="Only runs accepted before this time.")] = "",
    text: Annotated[
        str, typer.Option(metavar="TEXT", help="Only runs whose id begins or ends with TEXT: 8 characters or more.")
    ] = "",
    caller: Annotated[
        str, typer.Option(metavar="CALLER", help="Runs of this caller, or * for all: for operators.")
    ] = "",
    before: Annotated[str, typer.Option(metavar="NEXT", help="The next page: what the end of a page says.")] = "",
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of runs.")] = 100,
) -> None:
    """List runs, newest first."""
    from nexus_cli.commands import listing

    given = {
        "workflow": workflow, "status": status, "channel": channel, "since": since, "until": until, "text": text,
        "caller": caller, "before": before,
    }  # fmt: skip
    listing.runs(context.obj, **{name: value or None for name, value in given.items()}, limit=limit)


_Retry = Annotated[
    str,
    typer.Option("--retry", metavar="SECONDS", help=f"Seconds to retry a lost connection [{RETRY_SECONDS:g}]."),
]
_RunId = Annotated[str, typer.Argument(metavar="ID", help="Id of the run.")]


def runs_show(context: typer.Context, run_id: _RunId) -> None:
    """Show a run, with its result or error."""
    context.obj.show("runs.show", run_id=run_id)


def runs_steps(
    context: typer.Context,
    run_id: _RunId,
    after: Annotated[int, typer.Option(metavar="NUMBER", help="Only steps with higher numbers.")] = 0,
    limit: Annotated[int, typer.Option(metavar="N", help="Maximum number of steps.")] = 100,
) -> None:
    """List the steps of a run, in the order in which they began."""
    from nexus_cli.commands import listing

    listing.steps(context.obj, run_id, after, limit)


def runs_cancel(context: typer.Context, run_id: _RunId) -> None:
    """Cancel a run."""
    context.obj.show("runs.cancel", run_id=run_id)


def runs_prune(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Only count what would be removed.")] = False,
) -> None:
    """Remove ended runs that are beyond the limits of the run store, now: for operators."""
    context.obj.show("runs.prune", dry_run=dry_run)


def runs_follow(context: typer.Context, run_id: _RunId, retry: _Retry = "") -> None:
    """Follow a run to its end: one JSON line an event, or a progress bar on a terminal."""
    from nexus_cli.commands.execution import follow

    follow(context.obj, run_id, _seconds(retry))


def _seconds(retry: str) -> float:
    return seconds("--retry", retry, 0.0, LONGEST) if retry else RETRY_SECONDS


def _no_options() -> None:
    """Make a group of a Typer with any number of commands."""


_SessionId = Annotated[str, typer.Argument(metavar="[ID]", help="Id of the session. Default: --session.")]


def sessions_create(context: typer.Context) -> None:
    """Create a session and print its id."""
    from nexus_cli.commands import sessions

    sessions.create(context.obj)


def _show_session(cli: CliContext, command: str, session_id: str) -> None:
    from nexus_cli.commands.sessions import named

    cli.show(command, session_id=named(cli, session_id))


def sessions_show(context: typer.Context, session_id: _SessionId = "") -> None:
    """Show a session's state."""
    _show_session(context.obj, "sessions.show", session_id)


def sessions_set(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[ID] NAME=VALUE...", help="JSON, else text; NAME= removes the member."),
    ] = [],  # noqa: B006  (typer copies it)
    data: Annotated[
        str, typer.Option(metavar="JSON", help="Changes as an object; @FILE reads a file, - reads stdin.")
    ] = "",
    version: Annotated[
        int, typer.Option(metavar="N", help="Update only if the session has this version; 0 for any.", min=0)
    ] = 0,
) -> None:
    """Update members of a session's state; the others stay unchanged."""
    from nexus_cli.commands import sessions

    sessions.change(context.obj, [*words], data or None, version or None)


def sessions_renew(context: typer.Context, session_id: _SessionId = "") -> None:
    """Replace the id of a session, as after a login. The old id stops working."""
    _show_session(context.obj, "sessions.renew", session_id)


def sessions_revoke(context: typer.Context, session_id: _SessionId = "") -> None:
    """Delete a session, on every channel."""
    _show_session(context.obj, "sessions.revoke", session_id)


def sessions_follow(context: typer.Context, session_id: _SessionId = "", retry: _Retry = "") -> None:
    """Follow the events of a session until it ends: one line an event, JSON unless on a terminal."""
    from nexus_cli.commands import events, sessions

    events.follow(context.obj, None, sessions.named(context.obj, session_id), _seconds(retry))


def events_follow(
    context: typer.Context,
    after: Annotated[str, typer.Option(metavar="ID", help="Start after the event with this id.")] = "",
    retry: _Retry = "",
) -> None:
    """Follow the events of your runs and sessions; with --session, of that session until it ends."""
    from nexus_cli.commands import events

    events.follow(context.obj, after or None, context.obj.options.session, _seconds(retry))


_ConfigFile = Annotated[
    str, typer.Option("--config", metavar="FILE", help="Configuration file. Default: NEXUS_CONFIG_FILE.")
]


def config_show(
    context: typer.Context,
    changed: Annotated[bool, typer.Option("--changed", metavar="", help="Show only options that are set.")] = False,
    config: _ConfigFile = "",
) -> None:
    """Show each option: value, source, default and plugin. Secrets are not shown."""
    from nexus_cli.commands import config as config_command

    config_command.show(context.obj, config, changed=changed)


def config_schema(context: typer.Context, config: _ConfigFile = "") -> None:
    """Print the JSON Schema of the configuration file."""
    from nexus_cli.commands import config as config_command

    config_command.schema(context.obj, config)


def shell(context: typer.Context) -> int:
    """Run commands interactively, with history and completion."""
    from nexus_cli.commands.shell import run

    return run(context.obj, context.find_root().command)


def plugins(context: typer.Context) -> int:
    """List, check, enable and disable installed plugins."""
    from nexus_core.plugins.commands import run

    cli: CliContext = context.obj
    wants_json = cli.options.json and context.args[:1] in (["list"], ["check"], ["info"])
    return run([*context.args, "--json"] if wants_json else context.args)


def mcp_config(
    context: typer.Context,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the server in the client.")] = "nexus",
) -> None:
    """Print the configuration of MCP clients for the application."""
    from nexus_cli.commands.mcp_config import configuration

    cli: CliContext = context.obj
    cli.output.document(configuration(cli.app_name(), name))


def completion(
    context: typer.Context,
    shell_name: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Shell.")],
) -> None:
    """Print a shell's completion script: eval "$(nexus completion bash)"."""
    from nexus_cli.commands.completion_scripts import SCRIPTS

    if not context.obj.preferences().enable_shell_completion:
        raise UsageError("Completion is disabled: enable_shell_completion is off.")
    if shell_name not in SCRIPTS:
        raise UsageError(f"Unknown shell. Completion exists for {', '.join(SCRIPTS)}.")
    cli: CliContext = context.obj
    cli.output.line(SCRIPTS[shell_name].strip())


def version(context: typer.Context) -> None:
    """Print the versions of Nexus and Python."""
    import platform
    from importlib.metadata import version as version_of

    from nexus_core.plugins.discovery import core_version

    cli: CliContext = context.obj
    versions = {"nexus": core_version(), "cli": version_of("nexus-hub-cli"), "python": platform.python_version()}
    if cli.output.pretty:
        cli.output.line(f"nexus {versions['nexus']} (cli {versions['cli']}, Python {versions['python']})")
    else:
        cli.output.document(versions)
