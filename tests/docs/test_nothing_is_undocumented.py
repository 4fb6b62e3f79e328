"""What the code has, read from the code itself, and whether a page tells of it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from doc_pages import ROOT, text

from nexus_core import CoreSettings, errors
from nexus_core.events import event as events

FOLDERS = [ROOT / "nexus_core", *(path for path in sorted(ROOT.glob("plugins/*/*")) if (path / "__init__.py").exists())]
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for folder in FOLDERS
    if folder.name != "tests"
    for path in sorted(folder.rglob("*.py"))
}
PLUGINS = {
    each.name: each.load() for each in entry_points(group="nexus.plugins") if (ROOT / "plugins" / each.name).is_dir()
}


@functools.cache
def every(kind: type[ast.AST]) -> list[tuple[str, Any]]:
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kind)]


def named_texts() -> dict[str, dict[str, set[str]]]:
    """Return the texts that modules give names to: for each module, with what it imports."""
    found: dict[str, dict[str, set[str]]] = {path: {} for path in TREES}
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and type(node.value.value) is str:
                found[path] |= {ast.unparse(name): {node.value.value} for name in node.targets}
    homes = {re.sub(r"^plugins/\w+/|(/__init__)?\.py$", "", path).replace("/", "."): path for path in TREES}
    for path, node in every(ast.ImportFrom):
        home = found.get(homes.get(node.module or "", ""), {})
        found[path] |= {each.asname or each.name: home[each.name] for each in node.names if each.name in home}
    return found


TEXTS = named_texts()


def meant(path: str, node: ast.expr) -> set[str]:
    """Return what an expression may be: itself in angle brackets where only running the code would tell."""
    if isinstance(node, ast.Constant) and type(node.value) is str:
        return {node.value}
    if isinstance(node, ast.IfExp):
        return meant(path, node.body) | meant(path, node.orelse)
    if isinstance(node, ast.JoinedStr):
        return {"".join(str(each.value) if isinstance(each, ast.Constant) else "*" for each in node.values)}
    name = ast.unparse(node).rpartition(".")[2]
    return TEXTS[path].get(name) or {f"<{ast.unparse(node)}>"}


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    for path, node in every(ast.Call):
        if node.args and ast.unparse(node.func).rpartition(".")[2] in names:
            yield path, node


def rows(*page: str) -> list[list[str]]:
    """Return the rows of a page's tables, cell by cell."""
    found = []
    for line in text(*page).splitlines():
        if line.startswith("| "):
            found.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return found


def codes(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


# Options


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_the_page_of_options_names_exactly_those_of_a_plugin(plugin: str) -> None:
    module = PLUGINS[plugin]
    there = set(module.nexus_register_settings().model_fields) if hasattr(module, "nexus_register_settings") else set()
    page = text("docs/reference/options.md")
    section = page.partition(f"\n### {plugin}\n")[2].partition("\n### ")[0].partition("\n<!-- end")[0]
    assert set(re.findall(r"^\| `([a-z0-9_]+)` \|", section, re.MULTILINE)) == there


def test_every_environment_variable_is_documented() -> None:
    options = set(CoreSettings.model_fields)
    for module in PLUGINS.values():
        if hasattr(module, "nexus_register_settings"):
            options |= set(module.nexus_register_settings().model_fields)
    documented = set().union(*(codes(row[0]) for row in rows("docs/reference/options.md")))
    unclear = {
        "<variable>",  # that of an option, see "environment" below
        "<name>",  # those of the command line's options, which are listed there
        "<name.upper()>",  # TRACEPARENT and TRACESTATE
    }
    found = {"TRACEPARENT", "TRACESTATE", "NEXUS_API_CONFIG", "NEXUS_MCP_CONFIG"}  # made of parts
    for path, node in calls("get", "getenv", "pop", "setdefault"):
        if re.search(r"\b(environ\.\w+|getenv)$", ast.unparse(node.func)):
            found |= meant(path, node.args[0])
    for path, node in every(ast.Subscript):
        if ast.unparse(node.value).rpartition(".")[2] == "environ":
            found |= meant(path, node.slice)
    for path, node in every(ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "environment":
                found |= meant(path, value)
    for _, node in every(ast.Constant):
        if type(node.value) is str and re.fullmatch(r"NEXUS_[A-Z0-9_]*[A-Z0-9]", node.value):
            found.add(node.value)
    assert {"NO_COLOR", "NEXUS_APP", "REDIS_URL"} <= found
    found -= {f"NEXUS_{option.upper()}" for option in options}
    assert found - unclear <= documented, f"not in docs/reference/options.md: {sorted(found - unclear - documented)}"
    assert {name for name in documented if name.isupper()} <= found, "what is documented is there"


# Addresses


NOT_HERE = {
    "/.well-known/openid-configuration", "/.well-known/oauth-authorization-server", "/v1/traces", "/v1/metrics",
    "/proc", "/proc/net/tcp", "/proc/net/tcp6",
}  # fmt: skip
"""Addresses of others, and paths of files."""


def documented_addresses() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in rows("docs/reference/routes.md"):
        for address in codes(row[0]):
            found.setdefault(address, set()).update(row[1].split(", "))
    return found


def test_every_address_in_the_code_is_documented() -> None:
    documented = documented_addresses()
    parts = {part for address in documented for part in re.split(r"(?=/)", address)}
    notes = {id(node.value) for _, node in every(ast.Expr)}  # docstrings
    found = 0
    for path, node in every(ast.Constant):
        if id(node) in notes or type(node.value) is not str or not re.fullmatch(r"/[a-z.][\w.{}/-]*", node.value):
            continue
        address = node.value.rstrip("/.")
        if address not in NOT_HERE:
            found += 1
            assert address in documented or set(re.split(r"(?=/)", address)) <= parts, f"{path}: {address}"
    assert found > 20


def test_every_path_of_a_channel_is_documented() -> None:
    documented = documented_addresses()
    found = set()
    for path, channel in every(ast.ClassDef):
        for node in channel.body if "Channel" in map(ast.unparse, channel.bases) else ():
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "paths":
                assert isinstance(node.value, ast.Tuple)
                found |= set().union(*(meant(path, each) for each in node.value.elts))
    assert {"/cli", "/mcp"} <= found
    assert found - {"/"} <= documented.keys()


# Errors, events, metrics


def test_every_class_of_errors_is_documented() -> None:
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases} for _, node in every(ast.ClassDef)
    }
    shown = {"NexusError", "ConfigurationError"}
    while more := {name for name, of in bases.items() if of & shown} - shown:
        shown |= more
    assert {
        name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)
    } == shown
    named = set().union(*(codes(row[1 if len(row) > 2 else 0]) for row in rows("docs/reference/errors.md")))
    assert shown <= named, f"not in docs/reference/errors.md: {sorted(shown - named)}"


def test_every_type_of_events_is_declared() -> None:
    declared = set(events.EVENT_TYPES)
    for module in PLUGINS.values():
        if hasattr(module, "nexus_register_settings"):
            declared |= module.nexus_register_settings().event_types.keys()
    found = {
        value for name, value in vars(events).items() if name.isupper() and re.fullmatch(r"[a-z]+\.[a-z]+", str(value))
    }
    found |= {  # whatever passes them on
        node.value
        for path, node in every(ast.Constant)
        if path.startswith("nexus_core/") and re.fullmatch(r"(workflow|session)\.[a-z]+", str(node.value))
    }
    for path, node in calls("ChannelEvent"):
        if path not in ("nexus_core/events/event.py", "nexus_core/events/shared_log.py", "nexus_core/runs/run.py"):
            found |= meant(path, node.args[0])
    found -= {"<type>"}  # of an argument of a method of the core's, which is given one of those
    assert len(found) > 15
    assert found == declared


def test_the_page_of_metrics_is_generated_with_everything_on_that_has_some() -> None:
    listed = set().union(*(codes(row[0]) for row in rows("docs/reference/metrics.md")))
    found = set()
    for path, node in calls("Measurement", "of", "Family"):
        if ast.unparse(node.func) in ("Measurement", "Measurement.of", "Family"):
            found |= {(path, name) for name in meant(path, node.args[0]) if not name.startswith("<")}
    assert len(found) > 25
    for path, name in found:
        pattern = re.compile(re.escape(name).replace(r"\*", r"\w+"))
        assert any(pattern.fullmatch(each) for each in listed), f"{name} ({Path(path).name}) is not in metrics.md"
