"""Help of one workflow: ``nexus execute NAME --help`` and ``nexus describe NAME``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nexus_cli.commands.fields import Fields
from nexus_cli.options import EXECUTE, NAMES
from nexus_core.text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_cli.terminal.output import Output

OWN = [
    *((f"{name} {metavar}", text) for name, (metavar, text) in EXECUTE.items()),
    ("--help, -h", "Show this help."),
]
RESERVED = NAMES | EXECUTE.keys() | {"--help"}
_LONGEST_DEFAULT = 60


def execute_help(workflow: dict[str, Any] | None) -> str:
    """Return the help text of ``nexus execute``, or of one workflow as its command."""
    name = workflow["name"] if workflow else "NAME"
    lines = [f"Usage: nexus execute {name} [--data JSON | --field value ...]", ""]
    if workflow is None:
        lines += ["Run a workflow and print its result.", "`nexus execute NAME --help` shows the fields of a workflow."]
    else:
        lines += [escaped(workflow["description"], keep="\n") or "Run the workflow and print its result."]
        if rows := list(field_rows(workflow["input_schema"])):
            lines += ["", "Fields:", *_aligned(rows)]
    lines += ["", "Options:", *_aligned(OWN), "", "The common options (--app, --connect, --json, ...): nexus --help"]
    return "\n".join(lines)


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    width = min(30, max(len(left) for left, _ in rows))
    return [f"  {left:<{width}}  {right}".rstrip() for left, right in rows]


def field_rows(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each field's option and its help."""
    fields = Fields(schema)
    required = schema.get("required") or ()
    for name, given in fields.properties.items():
        resolved = fields.resolve(given)
        notes = [escaped(" ".join(str(resolved.get("description", "")).split()))]
        if name in required:
            notes.append("[required]")
        elif "default" in resolved:
            notes.append(f"[default: {_short(resolved['default'])}]")
        if fields.is_list(name):
            notes.append("[repeat for more]")
        if option_of(name) in RESERVED:
            notes.append("[set it with --data]")
        yield _option(fields, name, given), " ".join(note for note in notes if note)


def option_of(name: str) -> str:
    """Return a field's option."""
    return f"--{escaped(name)}"


def _option(fields: Fields, name: str, schema: Any) -> str:
    if fields.is_flag(name):
        return f"{option_of(name)} / --no-{escaped(name)}"
    if fields.is_list(name):
        schema = fields.items(schema)
    return f"{option_of(name)} {placeholder(fields, schema)}"


def choices(fields: Fields, schema: Any) -> list[str]:
    """Return the values that a field allows, if these are enumerated."""
    resolved = fields.resolve(schema)
    parts = [resolved, *(fields.resolve(part) for part in resolved.get("anyOf") or ())]
    values = [value for part in parts for value in part.get("enum") or ()]
    values += [part["const"] for part in parts if "const" in part]
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]


def placeholder(fields: Fields, schema: Any) -> str:
    """Return the placeholder of a field's value: its choices or its types."""
    found = choices(fields, schema)
    if found:
        return escaped("|".join(found))
    types = [kind for kind in fields.types(schema) if kind != "null"]
    names = {"string": "TEXT", "object": "JSON", "array": "JSON"}
    return "|".join(dict.fromkeys(names.get(kind, kind.upper()) for kind in types)) or "VALUE"


def _short(value: Any) -> str:
    text = escaped(value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _LONGEST_DEFAULT else f"{text[:_LONGEST_DEFAULT]}…"


def description(output: Output, workflow: dict[str, Any]) -> None:
    """Show a workflow on a terminal."""
    console = output.console(output.stdout)
    console.print(workflow["name"], style="bold")
    if workflow["description"]:
        console.print(escaped(workflow["description"], keep="\n"))
    if "tool_name" in workflow:
        console.print(f"MCP tool: {workflow['tool_name']}")
    if rows := list(field_rows(workflow["input_schema"])):
        console.print()
        output.table(("FIELD", ""), rows)
    if workflow["output_schema"] is not None:
        console.print()
        console.print("RETURNS", style="bold")
        output.value(workflow["output_schema"])
    if workflow["metadata"]:
        console.print()
        output.table(("METADATA", ""), ((str(k), _plain(v)) for k, v in workflow["metadata"].items()))
    console.print()
    output.note(f"nexus execute {workflow['name']} --help")


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
