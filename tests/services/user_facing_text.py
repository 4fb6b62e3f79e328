"""What users read: pages, string literals and public docstrings, each with the place where it stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from doc_pages import DOCS, ROOT

Text = tuple[str, str]
"""A place (``path:line``) and the text that stands there, white space folded."""

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def pages() -> list[str]:
    """Return the pages that users read, without the record of changes."""
    return [
        "README.md",
        *DOCS,
        *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("plugins/*/README.md"))),
    ]


def sources() -> list[Path]:
    """Return the modules of the core and the plugins, without their tests."""
    return [*sorted(ROOT.glob("nexus_core/**/*.py")), *sorted(ROOT.glob("plugins/*/nexus*/**/*.py"))]


def texts_of_page(name: str) -> Iterator[Text]:
    """Yield the paragraphs of a page."""
    line = 1
    for paragraph in re.split(r"\n\s*\n", (ROOT / name).read_text(encoding="utf-8")):
        yield f"{name}:{line}", " ".join(paragraph.split())
        line += paragraph.count("\n") + 2


def texts_of_module(path: Path) -> Iterator[Text]:
    """Yield a module's public docstrings, and its string literals of more than one word.

    Messages, descriptions, log lines and helps are literals like others, so all of them count. The parts of an f-string
    are joined by ``{}``.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(ROOT).as_posix()
    private = {id(each) for each in private_docstrings(tree)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(each.value) if isinstance(each, ast.Constant) else "{}" for each in node.values)
        elif isinstance(node, ast.Constant) and type(node.value) is str and id(node) not in parts | private:
            text = node.value
        else:
            continue
        if " " in text.strip():
            yield f"{name}:{node.lineno}", " ".join(text.split())


def private_docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    """Yield the docstrings of what has a private name, with everything inside."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and getattr(node, "name", "").startswith("_") and node.name != "__init__":
            for each in ast.walk(node):
                if isinstance(each, DOCUMENTED) and ast.get_docstring(each):
                    yield each.body[0].value


def everything() -> list[Text]:
    """Return every text that users read."""
    found = [each for name in pages() for each in texts_of_page(name)]
    return found + [each for path in sources() for each in texts_of_module(path)]
