"""``docs/reference/commands.md``: the commands, with their arguments and options, as the parsers declare them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

from first_party import plugin_commands, plugins
from marked_parts import replaced, table

HEAD = ["command", "argument or option", "meaning"]
GUIDES = {"auth": "../how-to/authentication.md", "health": "../how-to/health.md", "schedules": "../how-to/schedules.md"}
CODE = re.compile(r"(?<![\w`-])--[a-z][a-z-]*|NEXUS_[A-Z_]+")


def commands(page: str) -> str:
    """Write the common options, and the commands of the command line, of the core and of plugins."""
    from nexus_cli.commands.app import own_commands
    from nexus_cli.options import EXECUTE, FLAGS, VALUES

    common = [
        [f"`{name} {word}`", prose(text), f"`{env}`" if env else ""] for name, (_, word, text, env) in VALUES.items()
    ]
    common += [[f"`{name}`", prose(text), ""] for name, (_, text) in FLAGS.items()]
    page = replaced(page, "common options", table(["option", "meaning", "environment variable"], common))

    group = own_commands(None)
    rows = [
        row for name, each in group.commands.items() if name != "plugins" for row in click_rows(f"nexus {name}", each)
    ]
    place = rows.index(next(row for row in rows if row[0].startswith("`nexus execute "))) + 1
    rows[place:place] = [["", f"`{name} {word}`", prose(text)] for name, (word, text) in EXECUTE.items()]
    page = replaced(page, "commands", table(HEAD, rows))
    page = replaced(page, "plugin administration", table(HEAD, [*administration_rows()]))
    parts = [
        f"### {plugin}\n\n[{plugin}]({GUIDES[plugin]}) says more.\n\n{table(HEAD, found)}"
        for plugin, found in contributed_rows().items()
    ]
    return replaced(page, "commands of plugins", "\n\n".join(parts))


def prose(text: str) -> str:
    """Return the first paragraph of a help text, with options and environment variables as code."""
    first = " ".join(text.strip().partition("\n\n")[0].split())
    return CODE.sub(lambda found: f"`{found[0]}`", first)


def click_rows(name: str, command: Any) -> Iterator[list[str]]:
    """Yield a row for a command of click, then one for each argument and option, then those of its commands."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    words = [name, *(_placeholder(each) for each in arguments)]
    if command.options_metavar != "[OPTIONS]":
        words.append(command.options_metavar)
    yield [f"`{' '.join(words)}`", "", prose(command.help or "")]
    for each in command.params:
        shown = _placeholder(each) if each in arguments else f"{'/'.join(each.opts)} {_placeholder(each)}".strip()
        yield ["", f"`{shown}`", prose(each.help or "")]
    for sub, each in getattr(command, "commands", {}).items():
        yield from click_rows(f"{name} {sub}", each)


def _placeholder(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    if parameter.metavar is None and parameter.param_type_name == "option":
        raise ValueError(f"the option {parameter.opts[0]} has no metavar")
    return str(parameter.metavar or parameter.name.upper())


def administration_rows() -> Iterator[list[str]]:
    """Yield the rows of ``nexus plugins``: the core's, and those that distributions of this repository add."""
    from nexus_core.plugins import commands as core

    known = {**core._commands(), **plugin_commands()}
    yield ["`nexus plugins`", "", prose(core._parser([]).description or "")]
    for name in known:
        parser = core._parser([name])
        (found,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
        command = found.choices[name]
        actions = [each for each in command._actions if not isinstance(each, argparse._HelpAction)]
        words = [f"nexus plugins {name}", *(_argparse_placeholder(each) for each in actions if not each.option_strings)]
        added = f" Part of `{plugin_commands()[name]}`." if name in plugin_commands() else ""
        yield [f"`{' '.join(words)}`", "", prose(command.description or "") + added]
        for each in actions:
            yield [
                "",
                f"`{' '.join([*each.option_strings, _argparse_placeholder(each)]).strip()}`",
                prose(each.help or ""),
            ]


def _argparse_placeholder(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    name = str(action.metavar or action.dest).upper()
    return f"[{name}...]" if action.nargs == "*" else name


def contributed_rows() -> dict[str, list[list[str]]]:
    """Return the rows of the commands that plugins add, by plugin.

    Raises:
        ValueError: A plugin adds other commands than its entry points declare.
    """
    import typer

    from nexus_core import Nexus

    declared = {name: each["commands"] for name, each in plugins().items() if each["commands"]}
    nexus = Nexus(enable_auth=True, auth_strategy="api_key", api_key_file="keys.json")
    found: dict[str, list[list[str]]] = {}
    names: dict[str, list[str]] = {}
    for plugin, command in nexus.plugins.collect("nexus_register_commands"):
        if plugin not in declared:
            continue
        app = typer.Typer(rich_markup_mode=None)
        if isinstance(command.callback, typer.Typer):
            app.add_typer(command.callback, name=command.name, help=command.help or None)
        else:
            app.command(command.name, help=command.help or None)(command.callback)
        app.callback()(lambda: None)  # a group even of one
        (made,) = typer.main.get_command(app).commands.values()
        names.setdefault(plugin, []).append(command.name)
        found.setdefault(plugin, []).extend(click_rows(f"nexus {command.name}", made))
    if {name: sorted(each) for name, each in names.items()} != declared:
        raise ValueError(f"entry points declare the commands {declared}, and the hook returns {names}")
    return dict(sorted(found.items()))


FILES = {"docs/reference/commands.md": commands}
