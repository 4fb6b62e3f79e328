"""``nexus plugins``: list, check, info, disable, enable, and the commands that distributions add to them.

Standard library only, so that it works when nothing else does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nexus_core.options.first_party import hint
from nexus_core.plugins.discovery import (
    PluginRecord,
    PluginStatus,
    disabled_file,
    disabled_here,
    discover,
    installed,
    is_name,
    set_disabled,
)
from nexus_core.text import escaped, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from importlib.metadata import Distribution, EntryPoint

GROUP = "nexus.plugin_commands"
"""Entry point group of more commands: callables that take the parsers to add one to, from `add_subparsers`."""

BROKEN_PIPE = 141
"""Exit code that shells report for a program ended by SIGPIPE."""

CHECK_SECONDS = 30.0
"""How long one plugin may take to load when it is checked, a fresh interpreter's start included."""


def run(arguments: Sequence[str]) -> int:
    """Run ``nexus plugins`` with its arguments and return the exit code."""
    options = _parser(arguments[:1]).parse_args(arguments)
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
    except BrokenPipeError:  # such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards the unwritten rest
        return BROKEN_PIPE
    return code


def names() -> list[tuple[str, str]]:
    """Return the commands of ``nexus plugins`` and what each does."""
    added = [(name, _added_by(found)) for name, found in _added().items()]
    return [*((name, text) for name, (_, text) in _commands().items()), *added]


def _added() -> dict[str, list[tuple[EntryPoint, Distribution]]]:
    """Return the commands that distributions add. None replaces one of the core: those help when nothing else does."""
    found: dict[str, list[tuple[EntryPoint, Distribution]]] = {}
    for point, distribution in installed(GROUP):
        if point.name not in _commands() and is_name(point.name):
            found.setdefault(point.name, []).append((point, distribution))
    return found


def _added_by(found: list[tuple[EntryPoint, Distribution]]) -> str:
    return f"Added by {_owners(found)}."


def _owners(found: list[tuple[EntryPoint, Distribution]]) -> str:
    return " and ".join(sorted(distribution.metadata["Name"] for _, distribution in found))


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str) -> None:
    """Add a command that distributions add.

    Raises:
        SystemExit: Several do, or it fails.
    """
    (point, _), *others = found = _added()[name]
    wrong = "both have it" if others else ""
    try:
        if not others:
            point.load()(commands)
            wrong = "" if name in commands.choices else "it adds no command of that name"
    except Exception as exc:
        wrong = one_line(exc)
    if wrong:
        print(f"nexus plugins: the command {name!r} of {_owners(found)} can't be used: {wrong}", file=sys.stderr)
        raise SystemExit(1)


def _commands() -> dict[str, tuple[Callable[[argparse.Namespace], int], str]]:
    return {
        "list": (_list, "List the installed plugins, without importing them."),
        "check": (_check, "Load each plugin and report errors."),
        "info": (_info, "Load one plugin and show everything about it: version, hooks and options."),
        "disable": (_disable, "Disable a plugin in this Python environment."),
        "enable": (_enable, "Enable a disabled plugin."),
    }


def _parser(wanted: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nexus plugins", description="List, check, enable and disable plugins.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, (function, text) in _commands().items():
        command = commands.add_parser(name, help=text, description=text)
        if name in ("info", "disable", "enable"):
            command.add_argument("name", help="Name of the plugin.")
        if name == "check":
            command.add_argument("names", nargs="*", metavar="name", help="Plugins to check. Default: all.")
        if name in ("list", "check", "info"):
            command.add_argument("--json", action="store_true", help="Write JSON, on a terminal too.")
        command.set_defaults(run=function)
    for name, found in _added().items():
        if [name] == list(wanted):
            _add(commands, name)
        else:  # not imported: it need not work for the others to work
            commands.add_parser(name, help=_added_by(found))
    if "".join(wanted) not in commands.choices:
        _add_missing(commands)
    return parser


def _add_missing(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands of first-party distributions that are not installed: they say what to install."""
    from nexus_core.options.first_party import PLUGIN_COMMANDS

    for name, distribution in PLUGIN_COMMANDS.items():
        if name not in commands.choices:
            text = f"not installed: pip install {distribution}"
            command = commands.add_parser(name, help=text, add_help=False, prefix_chars="\0")  # takes any arguments
            command.add_argument("arguments", nargs="*")
            command.set_defaults(run=partial(_not_installed, f"the command {name!r} is {text}"))


def _not_installed(message: str, _: argparse.Namespace) -> int:
    print(f"nexus plugins: {message}", file=sys.stderr)
    return 1


def _list(options: argparse.Namespace) -> int:
    _show(discover(), options.json, ("name", "version", "status", "distribution", "reason"))
    return 0


def _check(options: argparse.Namespace) -> int:
    records = discover()
    known = {record.name for record in records}
    for name in options.names:
        if name not in known:
            return _unknown(name, known)
    chosen = [record for record in records if not options.names or record.name in options.names]
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(_load_apart, chosen))
    if any(record.status is PluginStatus.ACTIVE for record in chosen):
        _start_together(chosen)
    _show(chosen, options.json, ("name", "version", "status", "import_ms", "hooks", "reason"))
    fine = (PluginStatus.ACTIVE, PluginStatus.DISABLED)
    return 0 if all(record.status in fine for record in chosen) else 1


def _start_together(checked: list[PluginRecord]) -> None:
    """Note which plugins fail when a platform starts with all of them, as its health would show it."""
    broken = {record.name for record in checked if record.status is not PluginStatus.ACTIVE}
    with TemporaryDirectory() as folder:
        found = _check_in(Path(folder), disabled=broken | disabled_here())
    for each in found.get("records", ()):
        for record in checked:
            if record.name == each["name"] and (record.status, each["status"]) == (PluginStatus.ACTIVE, "failed"):
                record.status, record.reason = PluginStatus.FAILED, each["reason"]
    if complaint := found.get("complaint") or ("records" not in found and found["reason"]):
        print(f"nexus plugins: a platform with these plugins and options does not start: {complaint}", file=sys.stderr)


def _load_apart(record: PluginRecord) -> list[dict[str, Any]]:
    """Load one plugin in a process of its own, which it may hang or break as it likes, and complete its record.

    Returns:
        What its options are, see `nexus_core.options.description`.
    """
    if record.status is not PluginStatus.AVAILABLE:
        return []
    with TemporaryDirectory() as folder:  # files, not pipes: whatever the plugin has started may keep those open
        found = _check_in(Path(folder), record.name)
    record.status, record.reason = PluginStatus(found["status"]), found["reason"]
    record.warnings = found.get("warnings", [])
    if record.warnings and not record.reason:
        record.reason = "; ".join(record.warnings)
    record.hooks, record.import_ms = found.get("hooks", []), found.get("import_ms")
    return found.get("options") or []


def _check_in(folder: Path, *name: str, disabled: Collection[str] = ()) -> dict[str, Any]:
    written, errors = folder / "record.json", folder / "errors.txt"
    command = [sys.executable, "-m", "nexus_core.app.plugin_check", str(written), *name]
    environment = os.environ | ({"NEXUS_DISABLED_PLUGINS": ",".join(sorted(disabled))} if disabled else {})
    try:
        with errors.open("wb") as stderr:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                timeout=CHECK_SECONDS, check=False, env=environment,
            ).returncode  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"loading it did not end within {CHECK_SECONDS:g} s"}
    try:
        found: dict[str, Any] = json.loads(written.read_bytes())
    except (OSError, ValueError):
        last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] or ["no output"]
        return {"status": "failed", "reason": f"loading it ended the interpreter ({code}): {last[0]}"}
    return found


def _info(options: argparse.Namespace) -> int:
    records = discover()
    found = []
    for record in records:
        if record.name == options.name:
            described = _load_apart(record)
            found.append(record.to_dict() | {"options": described})
    if not found:
        return _unknown(options.name, {record.name for record in records})
    if options.json or not sys.stdout.isatty():
        print(json.dumps(found, indent=2))
        return 0
    for plugin in found:
        described = plugin.pop("options")
        for key, value in plugin.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            print(f"{key.replace('_', ' '):<13} {escaped(str(shown))}")
        if described:
            print()
            _table([["OPTION", "VARIABLE", "TYPE", "DEFAULT", "DESCRIPTION"], *map(_option_row, described)])
    return 0


def _option_row(option: dict[str, Any]) -> list[str]:
    default = option.get("default", "must be set")
    if default in (None, "", [], {}):
        default = "none"
    shown = default if isinstance(default, str) else json.dumps(default)
    return [option["name"], " ".join(option["variables"]), option["type"], shown, option["description"]]


def _disable(options: argparse.Namespace) -> int:
    return _switch(options.name, off=True)


def _enable(options: argparse.Namespace) -> int:
    return _switch(options.name, off=False)


def _switch(name: str, *, off: bool) -> int:
    known = {record.name for record in discover()}
    if name not in known:
        return _unknown(name, known)
    try:
        set_disabled(name, off)
    except OSError as exc:
        print(
            f"nexus plugins: {disabled_file()} can't be written ({exc.strerror}); "
            f"set NEXUS_DISABLED_PLUGINS={name} instead.",
            file=sys.stderr,
        )
        return 1
    print(f"{name} is {'disabled' if off else 'enabled'} in this environment ({disabled_file()}).")
    return 0


def _unknown(name: str, known: set[str]) -> int:
    print(
        f"nexus plugins: no plugin {name!r} is installed; installed plugins: {escaped(', '.join(sorted(known)))}.",
        file=sys.stderr,
    )
    return 66


def _show(records: list[PluginRecord], as_json: bool, columns: Sequence[str]) -> None:
    if as_json or not sys.stdout.isatty():
        print(json.dumps([record.to_dict() for record in records], indent=2))
    elif not records:
        print(f"No plugin is installed. The core works without any; {hint('channel')} adds the first channel.")
    else:
        _table([[column.upper().replace("_", " ") for column in columns], *(_row(r, columns) for r in records)])


def _row(record: PluginRecord, columns: Sequence[str]) -> list[str]:
    values: dict[str, Any] = record.to_dict()
    values["hooks"] = str(len(record.hooks))
    return ["" if values[column] is None else str(values[column]) for column in columns]


def _table(rows: list[list[str]]) -> None:
    rows = [[escaped(cell) for cell in row] for row in rows]  # metadata may hold what a terminal would obey
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
