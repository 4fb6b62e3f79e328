"""``docs/reference/python.md``: the public classes, from their docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Any

from docstring_parser import Docstring, DocstringStyle, parse
from marked_parts import table

CLASSES = (
    "Nexus", "Context", "Invocation", "Result", "Run", "Principal", "Session", "ChannelEvent", "Plugin", "Platform",
    "PluginSettings", "Interceptor", "Stage", "ParameterResolver", "EventHandler", "Channel", "Route", "Command",
    "Server", "Workflow", "WorkflowAdapter",
)  # fmt: skip
"""What the page shows, in this order; errors and options have pages."""

HEAD = """# Python API

The public names of `nexus_core`. They are stable within a minor version; a name that this page does not show is
private. `from nexus_core import Nexus` imports each of them. Errors are in [errors](errors.md), options in
[options](options.md), hooks in [hooks](../how-to/plugins.md).

"""


def signature(name: str, function: Any) -> str:
    """Return a function's parameters, without annotations and ``self``."""
    parameters = [
        each.replace(annotation=inspect.Parameter.empty)
        for each in inspect.signature(function).parameters.values()
        if each.name != "self"
    ]
    prefix = "await " if inspect.iscoroutinefunction(function) else ""
    return f"{prefix}{name}{inspect.Signature(parameters)}"


def marked(text: str | None) -> str:
    """Return a docstring's text as one line of Markdown."""
    text = re.sub(r"``(.+?)``", r"`\1`", " ".join((text or "").split()))
    return re.sub(r"<(?=[A-Za-z])", r"\\<", text)


def described(doc: Docstring) -> str:
    """Return the description of a docstring, its code as blocks."""
    found = []
    for paragraph in re.split(r"\n\s*\n", doc.description or ""):
        if paragraph.startswith(("    ", "```")):
            found.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
        else:
            found.append(marked(re.sub(r":: *$", ":", paragraph)))
    return "\n\n".join(found)


def sections(doc: Docstring) -> list[str]:
    """Return the tables of arguments, attributes and errors."""
    found = []
    for kind, head in (("param", "argument"), ("attribute", "attribute")):
        rows = [[f"`{each.args[1]}`", marked(each.description)] for each in doc.params if each.args[0] == kind]
        found += [table([head, "meaning"], rows)] if rows else []
    if doc.returns and doc.returns.description:
        found.append(f"Returns: {marked(doc.returns.description)}")
    rows = [[f"`{each.type_name}`", marked(each.description)] for each in doc.raises]
    return found + ([table(["raises", "when"], rows)] if rows else [])


def parsed(thing: Any) -> Docstring:
    return parse(re.split(r"\n\s*\.\. version", inspect.getdoc(thing) or "")[0], DocstringStyle.GOOGLE)


def members(cls: type) -> list[tuple[str, Any]]:
    """Return the public methods and properties that a class has from this project, in the order of their definition."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("nexus_core"):
            found |= {name: each for name, each in vars(base).items() if not name.startswith("_") and is_member(each)}
    return [(name, each) for name, each in found.items() if inspect.getdoc(each)]


def is_member(each: Any) -> bool:
    return isinstance(each, (property, classmethod, staticmethod)) or inspect.isfunction(each)


def member_text(name: str, member: Any) -> str:
    if isinstance(member, property):
        return f"`{name}`: {described(parsed(member))}"
    function = inspect.unwrap(getattr(member, "__func__", member))
    doc = parsed(member)
    return "\n\n".join([f"### {name}\n\n`{signature(name, function)}`", described(doc), *sections(doc)])


def class_text(name: str, cls: type) -> str:
    doc = parsed(cls)
    examples = [f"```text\n{textwrap.dedent(each.description or '').strip()}\n```" for each in doc.examples]
    properties = [member_text(*each) for each in members(cls) if isinstance(each[1], property)]
    methods = [member_text(*each) for each in members(cls) if not isinstance(each[1], property)]
    return "\n\n".join([f"## {name}", described(doc), *sections(doc), *examples, *properties, *methods])


def python(_text: str) -> str:
    """Return the page."""
    import nexus_core

    parts = [class_text(name, getattr(nexus_core, name)) for name in CLASSES]
    return HEAD + re.sub(r"\n{3,}", "\n\n", "\n\n".join(parts)) + "\n"


FILES = {"docs/reference/python.md": python}
