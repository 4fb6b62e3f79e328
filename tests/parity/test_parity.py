"""The same call through every door has the same answer."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import enum
import re
import sys
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import pytest
from doors import DOORS, Answer, Python

from nexus_core import Nexus, WorkflowError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass
class Item:
    name: str
    amount: int = 1


def order(
    items: list[Item], size: Size = Size.SMALL, when: datetime.date | None = None, mode: Literal["a", "b"] = "a"
) -> dict[str, Any]:
    assert all(isinstance(item, Item) for item in items)
    assert isinstance(size, Size)
    total = sum(item.amount for item in items)
    return {"total": total, "size": size, "when": when, "mode": mode, "first": items[0] if items else None}


async def count(upto: int) -> AsyncIterator[int]:
    for number in range(upto):
        yield number


async def explain() -> None:
    raise WorkflowError("The order has no items.")


async def fail() -> None:
    raise RuntimeError("a secret")


async def quit_process() -> None:
    sys.exit(3)


async def hang() -> None:
    await asyncio.Event().wait()


async def return_object() -> Any:
    return object()


async def return_nan() -> float:
    return float("nan")


async def return_much() -> str:
    return "x" * 2_000_000


async def nest(levels: int) -> Any:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


async def repeat_keys() -> dict[Any, str]:
    return {1: "first", "1": "last"}


async def break_promise() -> int:
    return "not a number"  # type: ignore[return-value]


def text(value: str) -> str:
    return value


def numbers(whole: int = 0, real: float = 0.0, flag: bool = False) -> dict[str, Any]:
    assert type(whole) is int
    assert type(real) is float
    return {"whole": whole, "real": real, "flag": flag}


def build() -> Nexus:
    nexus = Nexus(api_port=0, cli_port=0, mcp_port=0, max_result_bytes=1_000_000)
    for function in (
        order, count, explain, fail, quit_process, return_object, return_nan, return_much, break_promise, text, numbers,
        nest, repeat_keys,
    ):  # fmt: skip
        nexus.register(function.__name__, function)
    nexus.register("hang", hang, {"timeout": 0.2})
    expected = {"data": {"type": "object", "required": True}, "note": {"type": "string"}}
    nexus.register("expected", lambda data, note="": {"data": data}, {"expected_parameters": expected})
    return nexus


@pytest.fixture(name="platform", scope="module")
def platform_fixture(serving: Any) -> Any:
    nexus = build()
    with serving(nexus) as (urls, loop):
        yield nexus, urls, loop


async def ask(platform: Any, door: Any, workflow: str, params: str) -> Answer:
    return await door(platform[1]).call(workflow, params)


async def expected(platform: Any, workflow: str, params: str) -> Answer:
    nexus, _, loop = platform
    call = asyncio.run_coroutine_threadsafe(Python(nexus).call(workflow, params), loop)
    return await asyncio.wrap_future(call)


VALUES = {
    "typed": ("order", '{"items": [{"name": "pen", "amount": 2}], "size": "large", "when": "2026-02-28"}'),
    "defaults": ("order", '{"items": []}'),
    "no parameters": ("numbers", "{}"),
    "whole as real": ("numbers", '{"whole": 3.0, "real": 3, "flag": true}'),
    "nested": ("nest", '{"levels": 128}'),
    "equal keys": ("repeat_keys", "{}"),
    "stream": ("count", '{"upto": 5}'),
    "unicode": ("text", '{"value": "\\u00e9\\ud83d\\ude00\\u0000\\u001b[31m"}'),
    "big integer": ("expected", '{"data": {"n": 123456789012345678901234567890}}'),
    "expected parameters": ("expected", '{"data": {"a": [1, 2.5, null, {"b": true}]}, "note": "x"}'),
}
ERRORS = {
    "wrong types": ("numbers", '{"whole": "3", "real": [], "flag": 1}', "validation_error"),
    "not whole": ("numbers", '{"whole": 3.5}', "validation_error"),
    "missing": ("order", "{}", "validation_error"),
    "unknown name": ("order", '{"items": [], "sise": "small"}', "validation_error"),
    "nested": ("order", '{"items": [{"nme": "pen"}]}', "validation_error"),
    "not a choice": ("order", '{"items": [], "size": "smal", "mode": "c"}', "validation_error"),
    "no such date": ("order", '{"items": [], "when": "2026-02-30"}', "validation_error"),
    "expected parameters": ("expected", '{"data": 1}', "validation_error"),
    "many unknown names": (
        "numbers", "{" + ", ".join(f'"x{n}": 1' for n in range(2000)) + "}", "validation_error",
    ),
    "unknown workflow": ("nothing", "{}", "workflow_not_found"),
    "told": ("explain", "{}", "workflow_error"),
    "raised": ("fail", "{}", "workflow_failed"),
    "left the process": ("quit_process", "{}", "workflow_failed"),
    "hung": ("hang", "{}", "workflow_timeout"),
    "not JSON": ("return_object", "{}", "workflow_failed"),
    "not a number": ("return_nan", "{}", "workflow_failed"),
    "nested too deeply": ("nest", '{"levels": 129}', "workflow_failed"),
    "too large": ("return_much", "{}", "workflow_failed"),
    "not as promised": ("break_promise", "{}", "workflow_failed"),
}  # fmt: skip
MALFORMED = {
    "NaN": '{"real": NaN}',
    "infinite": '{"real": 1e999}',
    "duplicate key": '{"whole": 1, "whole": 2}',
    "hidden duplicate key": '{"whole": 1, "wh\\u006fle": 2}',
    "cut short": '{"whole": 1',
    "lone surrogate": '{"whole": "\\ud800"}',
    "long integer": '{"whole": ' + "1" * 5000 + "}",
    "deep": '{"whole": ' + "[" * 900 + "]" * 900 + "}",
    "very deep": '{"whole": ' + "[" * 50_000 + "]" * 50_000 + "}",
}


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", VALUES)
async def test_values_are_equal(platform: Any, door: Any, case: str) -> None:
    workflow, params = VALUES[case]
    wanted = await expected(platform, workflow, params)
    assert wanted.code is None, wanted
    assert await ask(platform, door, workflow, params) == wanted


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", ERRORS)
async def test_errors_are_equal(platform: Any, door: Any, case: str) -> None:
    workflow, params, code = ERRORS[case]
    wanted = await expected(platform, workflow, params)
    assert wanted.code == code
    given = await ask(platform, door, workflow, params)
    assert given.code == code
    assert given.errors == wanted.errors
    if code == "workflow_not_found":  # a channel may add the nearest name
        assert given.detail is not None
        assert given.detail.startswith(wanted.detail)
    else:
        assert given.detail == wanted.detail
    assert "secret" not in str(given)


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
@pytest.mark.parametrize("case", MALFORMED)
async def test_text_that_is_no_proper_json_is_refused(platform: Any, door: Any, case: str) -> None:
    wanted = await expected(platform, "numbers", MALFORMED[case])
    assert wanted.code == "malformed_request"
    given = await ask(platform, door, "numbers", MALFORMED[case])
    assert given.code == "malformed_request"
    assert without_place(given.detail) == without_place(wanted.detail)


def without_place(detail: str | None) -> str:
    """Return a message without what depends on the channel: its word for the text, and the place in it."""
    return re.sub(r"^(The (body|message|value of --data))| \(byte \d+\)| - at `[^`]*`", "", detail or "")


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
@pytest.mark.parametrize("name", ["..", "a/b", "../../etc/passwd", "a\r\nX-Injected: 1", "a" * 5000, "né", "%2e%2e"])
async def test_names_that_can_not_be_are_not_found(platform: Any, door: Any, name: str) -> None:
    if door.name == "rest":
        name = quote(name, safe="")
    given = await ask(platform, door, name, "{}")
    assert given.code in ("workflow_not_found", "not_found")
    assert len(given.detail or "") < 400
    assert (given.detail or "").isprintable()
