"""Kailash workflows take, give and refuse the same on each channel."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import served
from kailash.workflow.builder import WorkflowBuilder

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PYTHON = "PythonCodeNode"
RULES = {"input_data": {"type": "object", "required": True}, "validation_rules": {"type": "object"}}


def code(**nodes: str) -> WorkflowBuilder:
    builder = WorkflowBuilder()
    for name, text in nodes.items():
        builder.add_node(PYTHON, name, {"code": text})
    return builder


def cycle(rounds: int, text: str) -> Any:
    workflow = code(n=text).build()
    back = workflow.create_cycle("again").connect("n", "n", mapping={"result.count": "count"})
    back.max_iterations(rounds).build()
    return workflow


@pytest.fixture
async def urls() -> AsyncIterator[dict[str, str]]:
    nexus = Nexus()
    nexus.register("count", cycle(4, "result = {'count': count + step}"))
    nexus.register(
        "slow", cycle(1000, "import time\ntime.sleep(0.05)\nresult = {'count': count + 1}"), {"timeout": 0.5}
    )
    nexus.register("both", code(a="result = [x]", b="result = x"))
    nexus.register("greet", code(n="result = parameters.get('greeting', 'Hello') + ' ' + parameters['name']"))
    nexus.register("who", code(n="result = get_workflow_context('user', 'nobody')"))
    builder = WorkflowBuilder()
    builder.add_node("DataProcessorNode", "check", {})
    nexus.register("check", builder, {"expected_parameters": RULES})
    nexus.register("unchecked", builder)
    async with served(nexus) as found:
        yield found


RESULTS: list[tuple[str, Any, Any]] = [
    ("count", {"count": 1, "step": 2}, {"n": {"result": {"count": 9}}}),
    ("both", {"x": 1}, {"a": {"result": [1]}, "b": {"result": 1}}),
    ("both", {"x": 1, "a": {"x": 2}}, {"a": {"result": [2]}, "b": {"result": 1}}),
    ("greet", {"name": "Ada"}, {"n": {"result": "Hello Ada"}}),
    ("greet", {"parameters": {"name": "Ada", "greeting": "Hi"}}, {"n": {"result": "Hi Ada"}}),
    ("who", {"workflow_context": {"user": "Ada"}}, {"n": {"result": "Ada"}}),
]


@pytest.mark.parametrize("channel", CHANNELS)
async def test_results(urls: dict[str, str], channel: str) -> None:
    for workflow, params, result in RESULTS:
        assert (await Client(urls).call(channel, workflow, params)).result == result


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_cycle_ends_at_its_time_limit(urls: dict[str, str], channel: str) -> None:
    assert (await Client(urls).call(channel, "slow", {"count": 0})).code == "workflow_timeout"


@pytest.mark.parametrize("channel", CHANNELS)
async def test_rules_of_callers_hang_nothing(urls: dict[str, str], channel: str) -> None:
    caller = Client(urls)
    doubling = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(40)}
    for rules in (
        {"properties": {"t": {"pattern": "(?=a)(a+)+b"}}},
        {"$ref": "#/$defs/a0", "$defs": {**doubling, "a40": {}}},
    ):
        begin = time.monotonic()
        params = {"input_data": {"t": "a" * 100_000}, "validation_rules": rules}
        assert (await caller.call(channel, "check", params)).code == "workflow_error"
        assert time.monotonic() - begin < 15
        refused = await caller.call(channel, "unchecked", params)
        assert (refused.code, refused.reply["errors"][0]["pointer"]) == ("validation_error", "/validation_rules")
    schema = {"input_data": {}, "validation_schema": "/etc/hostname"}
    assert (await caller.call(channel, "check", schema)).code == "validation_error"


async def test_the_command_line_has_a_flag_for_each_name_in_parameters(urls: dict[str, str]) -> None:
    status, out, err = await Client(urls).nexus("execute", "greet", "--name", "Ada", "--greeting", "Hi")
    assert status == 0, err
    assert json.loads(out)["result"] == {"n": {"result": "Hi Ada"}}
