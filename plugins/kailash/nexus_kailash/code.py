"""Reads off a code string which variables it expects: nodes with code do not declare their inputs."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PROVIDED = frozenset(
    {
        "get_input_data_path",
        "get_output_data_path",
        "get_data_path",
        "get_workflow_context",
        "set_workflow_context",
        "get_resource",
    }
)
"""What Kailash itself puts into the namespace of a code string, beside modules."""


def free_names(code: str, modules: Iterable[str] = ()) -> list[str]:
    """Return the names that code reads before it binds them, in the order of their first use.

    Args:
        code: Python statements; text that is not Python has no names.
        modules: Modules that are there without an import.
    """
    return [name for name in _read_first(code) if not hasattr(builtins, name) and name not in modules]


def hiding_names(code: str, modules: Iterable[str] = ()) -> list[str]:
    """Return the names that code reads and finds in Python, unless an input of that name hides it there.

    Args:
        code: As for `free_names`.
        modules: As for `free_names`.
    """
    return [name for name in _read_first(code) if hasattr(builtins, name) or name in modules]


def _read_first(code: str) -> list[str]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return []
    reader = _Reader(set(PROVIDED))
    reader.visit(tree)
    return list(reader.free)


class _Reader(ast.NodeVisitor):
    """Walks statements in the order in which they run."""

    def __init__(self, bound: set[str]) -> None:
        self._bound = bound
        self.free: dict[str, None] = {}

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bound.add(node.id)
        elif node.id not in self._bound:
            self.free[node.id] = None

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit(node.value, *node.targets)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._visit(node.value, node.target if node.value else None)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):  # x += 1 reads x first
            self.visit(ast.Name(node.target.id, ast.Load()))
        self._visit(node.value, node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit(node.value, node.target)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._visit(node.iter, node.target, *node.body, *node.orelse)

    visit_AsyncFor = visit_For

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self._bound |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}

    visit_ImportFrom = visit_Import

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bound |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        inner = _Reader(set(self._bound))
        for generator in node.generators:
            inner._visit(generator.iter, generator.target, *generator.ifs)
        if isinstance(node, ast.DictComp):
            inner._visit(node.key, node.value)
        else:
            inner._visit(node.elt)
        self.free |= inner.free

    visit_SetComp = visit_GeneratorExp = visit_DictComp = visit_ListComp

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit(*node.decorator_list)
        self._bound.add(node.name)
        self._visit_function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node.args, [node.body])

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit(*node.decorator_list, *node.bases, *node.keywords)
        self._bound.add(node.name)
        inner = _Reader(set(self._bound))
        inner._visit(*node.body)
        self.free |= inner.free

    def _visit_function(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> None:
        self._visit(*arguments.defaults, *arguments.kw_defaults)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        inner = _Reader(self._bound | {each.arg for each in every if each})
        inner._visit(*body)
        self.free |= inner.free

    def _visit(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)
