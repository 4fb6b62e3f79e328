"""Inputs as the SDK's runtime and channels take them: names, nested configuration, envelopes, the workflow context."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from kailash.nodes.base import Node, NodeParameter
from kailash.runtime.local import LocalRuntime
from kailash.workflow.builder import WorkflowBuilder
from kailash.workflow.input_envelope import bind_parameter_envelope

from nexus_core import ConfigurationError, ValidationError

if TYPE_CHECKING:
    from nexus_core import Nexus

PYTHON = "PythonCodeNode"
GREETING = "result = 'Hello ' + parameters.get('name', 'World') + parameters['end']"


def code(text: str, **config: Any) -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node(PYTHON, "n", {"code": text, **config})
    return builder


async def plain(builder: WorkflowBuilder, params: dict[str, Any]) -> Any:
    """Return what Kailash's own runtime gives."""

    def run() -> dict[str, Any]:
        with LocalRuntime() as runtime:
            results: dict[str, Any] = runtime.execute(builder.build(), parameters=params)[0]
            return results

    return await asyncio.to_thread(run)


async def test_of_two_names_for_one_input_neither_is_required(nexus: Nexus) -> None:
    builder = code("result = x")
    builder.add_workflow_inputs("n", {"a": "x", "b": "x"})
    schema = nexus.register("names", builder).input_schema
    assert schema["properties"].keys() == {"a", "b"}
    assert schema["required"] == []
    assert "a, b" in schema["properties"]["a"]["description"]
    for params in ({"a": 1}, {"b": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}):
        assert (await nexus.invoke("names", params)).value == await plain(builder, params)
    with pytest.raises(ValidationError, match="/a: missing"):
        await nexus.invoke("names", {})
    assert (await nexus.invoke("names", {"n": {"x": 3}})).value == {"n": {"result": 3}}


async def test_a_nested_configuration_is_seen(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("FilterNode", "keep", config={"field": "name", "operator": "==", "value": "${wanted}"})
    schema = nexus.register("keep", builder).input_schema
    assert "field" not in schema["properties"]
    assert "wanted" in schema["properties"]
    rows = [{"name": "a"}, {"name": "b"}]
    value = (await nexus.invoke("keep", {"data": rows, "wanted": "b"})).value
    assert value["keep"]["filtered_data"] == [{"name": "b"}]
    with pytest.raises(ValidationError, match="/field: unknown"):
        await nexus.invoke("keep", {"data": rows, "wanted": "b", "field": "x"})
    added = nexus.register("add", code("result = x + k", config={"k": 5}))
    assert added.input_schema["required"] == ["x"]
    assert (await nexus.invoke("add", {"x": 1})).value == await plain(code("result = x + k", config={"k": 5}), {"x": 1})


async def test_parameters_is_all_that_the_caller_has_sent(nexus: Nexus) -> None:
    schema = nexus.register("greet", code(GREETING)).input_schema
    assert schema["properties"].keys() == {"name", "end"}
    assert schema["required"] == ["end"]
    for params in ({"name": "Ada", "end": "!"}, {"end": "?"}):
        alone = await plain(code(GREETING), bind_parameter_envelope(params))
        assert (await nexus.invoke("greet", params)).value == alone
        assert (await nexus.invoke("greet", {"parameters": params})).value == alone
    for wrong, complaint in (
        ({}, "/end: missing"),
        ({"end": "!", "nme": "Ada"}, 'nme: unknown name; did you mean "name"'),
        ({"parameters": {"end": "!", "nme": "Ada"}}, "/parameters/nme: unknown name"),
    ):
        with pytest.raises(ValidationError, match=complaint):
            await nexus.invoke("greet", wrong)


async def test_a_name_in_parameters_goes_to_the_nodes_that_take_it_too(nexus: Nexus) -> None:
    builder = code("result = [parameters.get('x'), x]")
    builder.add_node(PYTHON, "m", {"code": "result = [x]"})
    nexus.register("both", builder)
    value = (await nexus.invoke("both", {"x": 1})).value
    assert value == {"n": {"result": [1, 1]}, "m": {"result": [1]}}


def describe(parameters: dict, unit: str = "km") -> dict:
    return {"names": sorted(parameters), "unit": unit}


@pytest.mark.parametrize("text", ["result = sorted(parameters)", "result = sorted(k for k in parameters)"])
async def test_parameters_that_are_used_as_a_whole_take_any_name(nexus: Nexus, text: str) -> None:
    schema = nexus.register("any", code(text)).input_schema
    assert schema["additionalProperties"] is True
    for params in ({}, {"b": 1, "a": [2]}):
        assert (await nexus.invoke("any", params)).value == await plain(code(text), bind_parameter_envelope(params))
    builder = WorkflowBuilder()
    builder.add_node(PYTHON, "n", {"function": describe})
    nexus.register("function", builder)
    for params in ({"a": 1, "unit": "m"}, {"parameters": {"a": 1, "unit": "m"}, "unit": "m"}):
        expected = {"n": {"result": {"names": ["a", "unit"], "unit": "m"}}}
        assert (await nexus.invoke("function", params)).value == expected
    closed = nexus.register("closed", code(text), {"expected_parameters": {"a": {"type": "integer"}}})
    assert closed.input_schema["properties"] == {"a": {"type": "integer"}}
    assert (await nexus.invoke("closed", {"a": 1})).value == {"n": {"result": ["a"]}}
    with pytest.raises(ValidationError, match="/b: unknown name"):
        await nexus.invoke("closed", {"a": 1, "b": 2})


async def test_expected_parameters_may_name_the_mapping_itself(nexus: Nexus) -> None:
    expected = {"parameters": {"type": "object", "required": True}}
    nexus.register("whole", code("result = sorted(parameters)"), {"expected_parameters": expected})
    assert (await nexus.invoke("whole", {"parameters": {"b": 1}})).value == {"n": {"result": ["b"]}}
    with pytest.raises(ValidationError, match="/parameters: missing"):
        await nexus.invoke("whole", {})


class Reader(Node):
    def get_parameters(self) -> dict[str, NodeParameter]:
        return {}

    def run(self, **inputs: Any) -> dict[str, Any]:
        return {"result": self.get_workflow_context("user", "nobody")}


READS = "result = get_workflow_context('user', 'nobody')\nset_workflow_context('user', 'changed')"


@pytest.mark.parametrize("node", [PYTHON, Reader])
async def test_callers_send_the_workflow_context(nexus: Nexus, node: Any) -> None:
    builder = WorkflowBuilder()
    builder.add_node(node, "n", {"code": READS} if node == PYTHON else {})
    schema = nexus.register("who", builder).input_schema
    assert schema["properties"]["workflow_context"] == {"type": "object"}
    for params in ({"workflow_context": {"user": "Ada"}}, {}, {"workflow_context": {}}):
        assert (await nexus.invoke("who", params)).value == await plain(builder, dict(params))
    with pytest.raises(ValidationError, match="/workflow_context: expected object"):
        await nexus.invoke("who", {"workflow_context": "Ada"})


async def test_the_workflow_context_is_taken_where_it_is_read_and_expected(nexus: Nexus) -> None:
    nexus.register("none", code("result = 1"))
    nexus.register("closed", code(READS + "\nx"), {"expected_parameters": {"x": {}}})
    for name in ("none", "closed"):
        with pytest.raises(ValidationError, match="/workflow_context: unknown name"):
            await nexus.invoke(name, {"workflow_context": {"user": "Ada"}})
    entry = {"type": "object", "properties": {"user": {"type": "string"}}}
    nexus.register("open", code(READS), {"expected_parameters": {"workflow_context": entry}})
    assert (await nexus.invoke("open", {"workflow_context": {"user": "Ada"}})).value == {"n": {"result": "Ada"}}
    with pytest.raises(ValidationError, match="/workflow_context/user: expected string"):
        await nexus.invoke("open", {"workflow_context": {"user": 1}})
    with pytest.raises(ConfigurationError, match='"workflow_context", which no node takes'):
        nexus.register("unread", code("result = 1"), {"expected_parameters": {"workflow_context": entry}})


@pytest.mark.parametrize("node", ["parameters", "workflow_context"])
async def test_a_node_may_have_the_name_of_an_envelope(nexus: Nexus, node: str) -> None:
    builder = WorkflowBuilder()
    builder.add_node(PYTHON, node, {"code": "result = [x, get_workflow_context('x', 0)]"})
    nexus.register("named", builder)
    assert (await nexus.invoke("named", {node: {"x": 1}})).value == {node: {"result": [1, 0]}}
    assert (await nexus.invoke("named", {"x": 1})).value == {node: {"result": [1, 0]}}
