"""``docs/reference/api.md``: the stable classes, from their docstrings and signatures."""

from __future__ import annotations

import inspect
import re
from typing import Any

CLASSES = [
    "Nexus", "Context", "Caller", "Invocation", "Result", "Run", "Plugin", "Platform", "Channel", "NexusError",
    "JsonForm", "FunctionForm",
]  # fmt: skip
FUNCTIONS = ["schema_of", "input_schema_of", "output_schema_of"]
JSON = ["encode", "plain", "canonical", "parse", "parse_object"]
HEAD = """# Stable classes

Generated from the docstrings. All are exported by `nexus_core`. `Platform` is what plugins may use of a `Nexus`.
A member of another class that is not listed here is private.
"""
FUNCTIONS_HEAD = """## Schemas of type hints and functions

Exported by `nexus_core`.
"""
JSON_HEAD = """## JSON

Functions of the module `nexus_core.jsontext`: how every channel reads and writes JSON.
"""
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Example):$|^Example::$", re.MULTILINE)


def api(_page: str) -> str:
    """Return the page."""
    import nexus_core
    from nexus_core import jsontext

    return "\n".join([
        HEAD,
        *(_class(name, getattr(nexus_core, name)) for name in CLASSES),
        FUNCTIONS_HEAD,
        *(_function(name, getattr(nexus_core, name)) for name in FUNCTIONS),
        JSON_HEAD,
        *(_function(f"jsontext.{name}", getattr(jsontext, name)) for name in JSON),
    ])  # fmt: skip


def _class(name: str, cls: type) -> str:
    parts = [f"## {name}\n", f"`{name}{_signature(cls)}`\n" if not getattr(cls, "_is_protocol", False) else ""]
    parts.append(_docstring(cls) + "\n")
    for member, value in sorted(_members(cls).items()):
        if isinstance(value, property):
            parts.append(f"### {name}.{member}\n\n{_docstring(value.fget)}\n")
        else:
            parts.append(_function(f"{name}.{member}", getattr(value, "__func__", value)))
    return "\n".join(part for part in parts if part)


def _function(name: str, function: Any) -> str:
    word = "async " if inspect.iscoroutinefunction(function) else ""
    return f"### {word}{name}{_signature(function)}\n\n{_docstring(function)}\n"


def _members(cls: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in reversed(cls.__mro__[:-1]):
        if each.__module__.startswith("nexus_core"):
            found |= vars(each)
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("_")
        and (isinstance(value, property | staticmethod | classmethod) or inspect.isfunction(value))
        and (getattr(getattr(value, "fget", value), "__doc__", None))
    }


def _signature(function: Any) -> str:
    try:
        parameters = [*inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return "()"
    names = []
    for each in parameters:
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and not any(name.startswith("*") for name in names):
            names.append("*")
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        default = "" if each.default is each.empty else f"={_shown(each.default)}"
        names.append(f"{stars}{each.name}{default}")
    return f"({', '.join(names)})"


def _shown(value: Any) -> str:
    return "..." if type(value).__repr__ is object.__repr__ else repr(value)


def _docstring(target: Any) -> str:
    """Return a docstring as Markdown: sections in bold, double backticks as code, indented text as it is."""
    text = inspect.getdoc(target) or ""
    text = re.sub(r"^\.\. versionadded:: (.*)$", r"Added in \1.", text, flags=re.MULTILINE)
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    text = re.sub(r"^ *```(?:python)?\n", "", text, flags=re.MULTILINE)  # examples of docstrings have tests there
    lines: list[str] = []
    section = ""
    for line in text.split("\n"):
        if found := SECTION.match(line):
            section = (found[1] or "Example").removesuffix("::")
            lines += ["", f"**{section}**", ""]
        elif section in ("", "Example") or not line.startswith("    "):
            section = section if not line or line.startswith(" ") else ""
            lines.append(line)
        elif line.startswith("     "):
            lines[-1] += f" {line.strip()}"
        else:
            name, colon, rest = line.strip().partition(": ")
            lines.append(f"- `{name}`: {rest}" if colon and section != "Returns" else f"- {line.strip()}")
    return "\n".join(lines).strip()


FILES = {"docs/reference/api.md": api}
