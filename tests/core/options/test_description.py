"""What `nexus plugins info` says about options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SecretStr

from nexus_core import PluginSettings
from nexus_core.options.description import described_options
from nexus_core.options.settings import Seconds


def work() -> None: ...


CASES: list[tuple[Any, Any, str, Any]] = [
    (bool, True, "bool", True),
    (Seconds | None, 1.5, "float | None", 1.5),
    (Annotated[list[Literal["a", "b"]], Field(max_length=2)], ["a"], "list['a' | 'b']", ["a"]),
    (dict[str, int], {"a": 1}, "dict[str, int]", {"a": 1}),
    (tuple[int, ...], (1, 2), "tuple[int, ...]", [1, 2]),
    (Path | None, Path("keys"), "Path | None", "keys"),
    (list[str | Callable[[Any], Any]], [work], "list[str | Callable]", ["work"]),
    (Any, None, "Any", None),
    (SecretStr, SecretStr("hidden"), "secret", "**********"),
    (bytes, b"\xff", "bytes", "bytes"),
]


@pytest.mark.parametrize(("annotation", "value", "kind", "default"), CASES, ids=[case[2] for case in CASES])
def test_types_and_defaults(annotation: Any, value: Any, kind: str, default: Any) -> None:
    model = type("Model", (PluginSettings,), {"__annotations__": {"sample": annotation}, "sample": value})
    (found,) = described_options(model)
    assert (found["type"], found["default"]) == (kind, default)
    assert json.dumps(found)


def test_a_default_from_a_factory() -> None:
    class Model(PluginSettings):
        sample: list[int] = Field(default_factory=lambda: [1])

    assert described_options(Model)[0]["default"] == [1]
