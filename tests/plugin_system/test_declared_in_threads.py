"""Commands are listed in many threads at once."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from nexus_cli.commands.declared_commands import declared_commands


def test_a_parser_that_fails_for_a_moment_costs_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = declared_commands()
    assert any(each.help for each in expected)
    parse, calls = ast.parse, 0

    def failing(source: Any, *args: Any, **kwargs: Any) -> ast.AST:
        nonlocal calls
        calls += 1
        if calls % 3:
            raise SystemError("AST constructor recursion depth mismatch (before=51, after=45)")
        return parse(source, *args, **kwargs)

    monkeypatch.setattr(ast, "parse", failing)
    assert declared_commands() == expected
