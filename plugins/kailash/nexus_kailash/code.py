"""Reads off a code string which variables it expects: nodes with code do not declare their inputs."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

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
"""What Kailash itself puts into the namespace of a code string, in addition to modules."""


_NAMESPACES = frozenset({"locals", "globals", "vars", "dir"})
_CATCHES_ALL = frozenset({"Exception", "BaseException"})
_CATCHES_NAMES = frozenset({"NameError", "UnboundLocalError"})


def free_names(code: str, modules: Iterable[str] = ()) -> dict[str, bool]:
    """Return the names that code reads before it binds them, in the order of their first use, and which it needs.

    It does without a name where it catches the ``NameError``, or checks that the name exists
    (``"x" in locals()``).

    Args:
        code: Python statements; text that is not Python has no names.
        modules: Modules that are there without an import.
    """
    found = _read_first(code)
    return {name: needed for name, needed in found.items() if not hasattr(builtins, name) and name not in modules}


def hiding_names(code: str, modules: Iterable[str] = ()) -> list[str]:
    """Return the names that code reads and finds in Python, unless an input of that name hides it there.

    Args:
        code: As for `free_names`.
        modules: As for `free_names`.
    """
    return [name for name in _read_first(code) if hasattr(builtins, name) or name in modules]


def _read_first(code: str) -> dict[str, bool]:
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return {}
    reader = _Reader(set(PROVIDED), {})
    reader.visit(tree)
    looked_up = set(filter(None, map(_looked_up, ast.walk(tree))))
    needed = {name: reader.free[name] and name not in looked_up for name in reader.free}
    return needed | {name: False for name in sorted(looked_up - needed.keys())}


class _Reader(ast.NodeVisitor):
    """Walks statements in the order in which they run."""

    def __init__(self, bound: set[str], free: dict[str, bool]) -> None:
        self._bound = bound
        self._dispensable: Container[str] = ()
        self.free = free

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bound.add(node.id)
        elif node.id not in self._bound:
            self.free[node.id] = self.free.get(node.id, False) or node.id not in self._dispensable

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

    def visit_Try(self, node: ast.Try) -> None:
        before, self._dispensable = self._dispensable, _Either(self._dispensable, _without(node.handlers))
        self._visit(*node.body)
        self._dispensable = before
        self._visit(*node.handlers, *node.orelse, *node.finalbody)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bound |= {node.name} if node.name else set()
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        self._bound |= {node.name} if node.name else set()

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        self._bound |= {node.rest} if node.rest else set()

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        inner = self._inner()
        for generator in node.generators:
            inner._visit(generator.iter, generator.target, *generator.ifs)
        if isinstance(node, ast.DictComp):
            inner._visit(node.key, node.value)
        else:
            inner._visit(node.elt)

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
        self._inner()._visit(*node.body)

    def _visit_function(self, arguments: ast.arguments, body: Iterable[ast.AST]) -> None:
        self._visit(*arguments.defaults, *arguments.kw_defaults)
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        self._inner({each.arg for each in every if each})._visit(*body)

    def _inner(self, bound: Iterable[str] = ()) -> _Reader:
        inner = _Reader(self._bound.union(bound), self.free)
        inner._dispensable = self._dispensable
        return inner

    def _visit(self, *nodes: ast.AST | None) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)


class _Either:
    def __init__(self, *names: Container[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return any(name in each for each in self._names)


class _Every:
    def __contains__(self, name: object) -> bool:
        return True


def _without(handlers: list[ast.ExceptHandler]) -> Container[str]:
    """Return the names that code in front of these handlers does without.

    Whoever catches everything may mean other errors: it does without the names that it binds itself.
    """
    names: set[str] = set()
    for handler in handlers:
        kinds = {each.id for each in ast.walk(handler.type or ast.Name("Exception")) if isinstance(each, ast.Name)}
        if kinds & _CATCHES_NAMES:
            return _Every()
        if kinds & _CATCHES_ALL:
            stored = (each for each in ast.walk(handler) if isinstance(each, ast.Name))
            names |= {each.id for each in stored if isinstance(each.ctx, ast.Store)}
    return names


def _looked_up(node: ast.AST) -> str | None:
    """Return the name in ``"x" in locals()`` and ``globals().get("x")``, or None."""
    match node:
        case ast.Compare(ast.Constant(str(name)), [ast.In() | ast.NotIn()], [ast.Call(ast.Name(namespace))]):
            return name if namespace in _NAMESPACES else None
        case ast.Call(ast.Attribute(ast.Call(ast.Name(namespace)), "get"), [ast.Constant(str(name)), *_]):
            return name if namespace in _NAMESPACES else None
    return None
