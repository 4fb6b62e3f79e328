"""The commands. Each translates its arguments to one request and the reply to output."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nexus_cli.options import FLAGS, LONGEST, RETRY_SECONDS, VALUES, UsageError, seconds

if TYPE_CHECKING:
    from nexus_cli.state import State

_PASS = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def build(markup: Any) -> typer.Typer:
    """Return the application with every command.

    Args:
        markup: How help is written: ``"rich"`` for people, None for plain text, which starts much faster.
    """
    app = typer.Typer(
        name="nexus", add_completion=False, rich_markup_mode=markup, no_args_is_help=True,
        context_settings={"help_option_names": ["--help", "-h"]},
        help="Run workflows: of an application in this process (--app), or on a running server (--connect).",
    )  # fmt: skip
    app.callback()(_options)
    app.command("serve")(serve)
    app.command("execute", context_settings={**_PASS, "help_option_names": []})(execute)
    app.command("list")(list_workflows)
    app.command("describe")(describe)
    runs = typer.Typer(help="See, follow and cancel runs.", rich_markup_mode=markup, invoke_without_command=True)
    runs.callback()(_runs)
    runs.command("list")(runs_list)
    runs.command("show")(runs_show)
    runs.command("cancel")(runs_cancel)
    runs.command("follow")(runs_follow)
    app.add_typer(runs, name="runs")
    sessions = typer.Typer(help="Begin, show, change, follow and end sessions.", rich_markup_mode=markup)
    sessions.callback()(_group)
    sessions.command("create")(sessions_create)
    sessions.command("show")(sessions_show)
    sessions.command("set")(sessions_set)
    sessions.command("renew")(sessions_renew)
    sessions.command("revoke")(sessions_revoke)
    sessions.command("follow")(sessions_follow)
    app.add_typer(sessions, name="sessions", no_args_is_help=True)
    events = typer.Typer(help="Follow what happens to your runs and sessions.", rich_markup_mode=markup)
    events.callback()(_group)
    events.command("follow")(events_follow)
    app.add_typer(events, name="events", no_args_is_help=True)
    config = typer.Typer(help="See what options there are and what they are set to.", rich_markup_mode=markup)
    config.callback()(_group)
    config.command("show")(config_show)
    config.command("schema")(config_schema)
    app.add_typer(config, name="config", no_args_is_help=True)
    app.command("shell")(shell)
    app.command("plugins", context_settings={**_PASS, "help_option_names": []})(plugins)
    app.command("mcp-config")(mcp_config)
    app.command("completion")(completion)
    app.command("version")(version)
    return app


@cache
def own_commands(markup: Any) -> Any:
    """Return what reads a command line, without commands of plugins; made once, as that takes most of a short command.

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
    json: Annotated[bool, _flag("--json")] = False,
    debug: Annotated[bool, _flag("--debug")] = False,
) -> None:
    """Hold the place of the common options in the help text; `nexus_cli.options` has taken them out before."""


def serve(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="[MODULE:ATTR]", help="The application; also FILE.py:ATTR.")] = "",
    stdio: Annotated[
        bool, typer.Option("--stdio", metavar="", help="Speak MCP on stdin and stdout; open no port.")
    ] = False,
) -> None:
    """Serve an application on its ports until it is stopped."""
    from nexus_core.app import serving

    state: State = context.obj
    if target:
        from dataclasses import replace

        state.options = replace(state.options, app=target)
    serving.serve(state.nexus, stdio=stdio)


def execute(context: typer.Context) -> None:
    """Run a workflow and print its result."""
    from nexus_cli.execution import run

    run(context.obj, context.args)


def list_workflows(context: typer.Context) -> None:
    """List the workflows."""
    from nexus_cli import showing

    showing.workflows(context.obj)


def describe(context: typer.Context, name: Annotated[str, typer.Argument(help="The workflow.")]) -> None:
    """Show what a workflow does, takes and returns."""
    from nexus_cli import showing

    showing.workflow(context.obj, name)


def _runs(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        from nexus_cli import showing

        showing.runs(context.obj)


def runs_list(
    context: typer.Context,
    workflow: Annotated[str, typer.Option(help="Only runs of this workflow.")] = "",
    status: Annotated[str, typer.Option(help="Only runs that are pending, running, completed, ...")] = "",
    limit: Annotated[int, typer.Option(help="How many.")] = 100,
) -> None:
    """List runs, newest first."""
    from nexus_cli import showing

    showing.runs(context.obj, workflow=workflow or None, status=status or None, limit=limit)


_Retry = Annotated[
    str,
    typer.Option(
        "--retry", metavar="SECONDS", help=f"How long to wait for a server that goes away [{RETRY_SECONDS:g}]."
    ),
]
_RunId = Annotated[str, typer.Argument(metavar="ID", help="The run.")]


def runs_show(context: typer.Context, run_id: _RunId) -> None:
    """Show a run, with its result or error."""
    from nexus_cli import showing

    showing.run(context.obj, "runs.show", run_id)


def runs_cancel(context: typer.Context, run_id: _RunId) -> None:
    """Cancel a run."""
    from nexus_cli import showing

    showing.run(context.obj, "runs.cancel", run_id)


def runs_follow(context: typer.Context, run_id: _RunId, retry: _Retry = "") -> None:
    """Follow a run to its end: a JSON line for each event, or a progress bar on a terminal."""
    from nexus_cli.execution import follow

    follow(context.obj, run_id, _seconds(retry))


def _seconds(retry: str) -> float:
    return seconds("--retry", retry, 0.0, LONGEST) if retry else RETRY_SECONDS


def _group() -> None:
    """Make a group of commands, however many it has."""


_SessionId = Annotated[str, typer.Argument(metavar="[ID]", help="The session; that of --session unless it is given.")]


def sessions_create(context: typer.Context) -> None:
    """Begin a session."""
    from nexus_cli import sessions

    sessions.create(context.obj)


def sessions_show(context: typer.Context, session_id: _SessionId = "") -> None:
    """Show a session's state."""
    from nexus_cli import sessions

    sessions.show(context.obj, "sessions.show", session_id)


def sessions_set(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[ID] NAME=VALUE...", help="JSON, or text where it is none; NAME= takes it away."),
    ] = [],  # noqa: B006  (typer copies it)
    data: Annotated[str, typer.Option(metavar="JSON", help="Changes as an object; @FILE reads a file, - stdin.")] = "",
    version: Annotated[
        int, typer.Option(metavar="N", help="The version that the session must have; 0 for any.", min=0)
    ] = 0,
) -> None:
    """Change members of a session's state; those that are not named stay."""
    from nexus_cli import sessions

    sessions.change(context.obj, [*words], data or None, version or None)


def sessions_renew(context: typer.Context, session_id: _SessionId = "") -> None:
    """Give a session another id, as after a login. The old one is no one's any more."""
    from nexus_cli import sessions

    sessions.show(context.obj, "sessions.renew", session_id)


def sessions_revoke(context: typer.Context, session_id: _SessionId = "") -> None:
    """End a session, on every channel."""
    from nexus_cli import sessions

    sessions.show(context.obj, "sessions.revoke", session_id)


def sessions_follow(context: typer.Context, session_id: _SessionId = "", retry: _Retry = "") -> None:
    """Show what happens to a session, until it ends: a JSON line for each event, or a readable one on a terminal."""
    from nexus_cli import events, sessions

    events.follow(context.obj, None, sessions.named(context.obj, session_id), _seconds(retry))


def events_follow(
    context: typer.Context,
    after: Annotated[str, typer.Option(metavar="ID", help="Begin after the event of this id.")] = "",
    retry: _Retry = "",
) -> None:
    """Show what happens to your runs and sessions, as it happens; with --session, to that session until it ends."""
    from nexus_cli import events

    events.follow(context.obj, after or None, context.obj.options.session, _seconds(retry))


_ConfigFile = Annotated[
    str, typer.Option("--config", metavar="FILE", help="The configuration file, in place of NEXUS_CONFIG_FILE.")
]


def config_show(
    context: typer.Context,
    changed: Annotated[bool, typer.Option("--changed", metavar="", help="Only those that are set somewhere.")] = False,
    config: _ConfigFile = "",
) -> None:
    """Show each option: its value, where that was set, its default, and whose it is. Secrets are not shown."""
    from nexus_cli import configuration

    configuration.show(context.obj, config, changed=changed)


def config_schema(context: typer.Context, config: _ConfigFile = "") -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from nexus_cli import configuration

    configuration.schema(context.obj, config)


def shell(context: typer.Context) -> int:
    """Type commands without "nexus" in front, with history and completion."""
    from nexus_cli.shell import run

    return run(context.obj)


def plugins(context: typer.Context) -> int:
    """See, check and switch installed plugins: list, check, info, disable, enable."""
    from nexus_core.plugins.commands import run

    state: State = context.obj
    wants_json = state.options.json and context.args[:1] in (["list"], ["check"], ["info"])
    return run([*context.args, "--json"] if wants_json else context.args)


def mcp_config(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="What the client shall call the server.")] = "nexus",
) -> None:
    """Print the configuration that MCP clients need to use the application."""
    from nexus_cli.mcp_config import configuration

    state: State = context.obj
    state.output.document(configuration(state.app_name(), name))


def completion(
    context: typer.Context,
    shell_name: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell.")],
) -> None:
    """Print a shell's completion script: eval "$(nexus completion bash)"."""
    from nexus_cli.completion import SCRIPTS

    if not context.obj.preferences().enable_shell_completion:
        raise UsageError("enable_shell_completion is off.")
    if shell_name not in SCRIPTS:
        raise UsageError(f"Completion is for {', '.join(SCRIPTS)}.")
    state: State = context.obj
    state.output.line(SCRIPTS[shell_name].strip())


def version(context: typer.Context) -> None:
    """Print the versions of Nexus and Python."""
    import platform
    from importlib.metadata import version as version_of

    from nexus_core.plugins.discovery import core_version

    state: State = context.obj
    versions = {"nexus": core_version(), "cli": version_of("nexus-hub-cli"), "python": platform.python_version()}
    if state.output.pretty:
        state.output.line(f"nexus {versions['nexus']} (cli {versions['cli']}, Python {versions['python']})")
    else:
        state.output.document(versions)
