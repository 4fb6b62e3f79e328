"""A workflow gives in Nexus what it gives under Kailash's own `LocalRuntime`."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from kailash.nodes.code.python import PythonCodeNode
from kailash.runtime.local import LocalRuntime
from kailash.workflow.builder import WorkflowBuilder

if TYPE_CHECKING:
    from nexus_core import Nexus

PYTHON, ASYNC = "PythonCodeNode", "AsyncPythonCodeNode"


def built(nodes: list[tuple[str, str, dict[str, Any]]], *connections: str) -> WorkflowBuilder:
    """Make a builder of nodes (name, type, configuration) and connections such as ``a.result>b.x``."""
    builder = WorkflowBuilder()
    for name, kind, config in nodes:
        builder.add_node(kind, name, config)
    for each in connections:
        source, target = each.split(">")
        builder.add_connection(*source.split(".", 1), *target.split(".", 1))
    return builder


async def both(nexus: Nexus, builder: WorkflowBuilder, inputs: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
    """Return what Kailash's runtime gives for the workflow's last nodes, and what Nexus gives."""

    def run() -> dict[str, Any]:
        with LocalRuntime() as runtime:
            results: dict[str, Any] = runtime.execute(builder.build(), parameters=inputs)[0]
            return results

    alone = await asyncio.to_thread(run)
    nexus.register("w", builder, replace=True)
    value = (await nexus.invoke("w", inputs)).value
    return {node: alone[node] for node in value}, value


@pytest.mark.parametrize("kind", [PYTHON, ASYNC])
@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("result = 'text'", "result"), ("result = None", "result"), ("result = [1]", "result"),
        ("result = {'a': {'b': 1}}", "result"), ("result = {'a': {'b': 1}}", "result.a"),
        ("result = {'a': {'b': 1}}", "result.a.b"), ("result = {'result': 3}", "result"),
        ("result = {'result': 3}", "result.result"), ("x = 5\ny = 6", "y"), ("x = {'a': 1}", "x.a"),
    ],
)  # fmt: skip
async def test_a_connection_hands_on_the_output_it_names(nexus: Nexus, kind: str, code: str, output: str) -> None:
    nodes = [("a", kind, {"code": code}), ("b", PYTHON, {"code": "result = [v]"})]
    alone, value = await both(nexus, built(nodes, f"a.{output}>b.v"), {})
    assert value == alone


async def test_code_without_a_result_gives_its_variables_but_not_its_source(nexus: Nexus) -> None:
    for kind, config in ((PYTHON, {"code": "x = a + k\n_hidden = 1", "k": 7}), (ASYNC, {"code": "x = a + 1"})):
        alone, value = await both(nexus, built([("n", kind, config)]), {"n": {"a": 1}})
        left_out = {"name", *inspect.signature(PythonCodeNode).parameters} - {"kwargs"}
        assert value["n"] == {name: each for name, each in alone["n"].items() if name not in left_out}
        assert {"a", "x"} <= value["n"].keys()
        assert not left_out & value["n"].keys()


@pytest.mark.parametrize("status", ["ok", "bad"])
async def test_a_switch_takes_the_same_branch_behind_another_node(nexus: Nexus, status: str) -> None:
    nodes = [
        ("read", PYTHON, {"code": "result = {'status': status}"}),
        ("switch", "SwitchNode", {"condition_field": "status", "operator": "==", "value": "ok"}),
        ("yes", PYTHON, {"code": "result = ['yes', data]"}),
        ("no", PYTHON, {"code": "result = ['no', data]"}),
        ("both", PYTHON, {"code": "result = [a, b]"}),
        ("either", PYTHON, {"code": "result = [taken]"}),
    ]
    connections = (
        "read.result>switch.input_data", "switch.true_output>yes.data", "switch.false_output>no.data",
        "yes.result>both.a", "no.result>both.b", "yes.result>either.taken", "no.result>either.taken",
    )  # fmt: skip
    alone, value = await both(nexus, built(nodes, *connections), {"read": {"status": status}})
    assert value == alone
    taken = ["yes" if status == "ok" else "no", {"status": status}]
    assert value == {"both": {"result": [taken, None][:: 1 if status == "ok" else -1]}, "either": {"result": [taken]}}


async def test_functions_take_parameters_of_any_name(nexus: Nexus) -> None:
    def greet(name: str, id: int = 1, description: str = "none", _mark: str = "!") -> list:
        return [name, id, description, _mark]

    builder = built([("greet", PYTHON, {"function": greet})])
    alone, value = await both(nexus, builder, {"greet": {"name": "Ada", "id": 2, "_mark": "?"}})
    assert value == alone == {"greet": {"result": ["Ada", 2, "none", "?"]}}


async def test_one_output_may_feed_two_inputs_of_a_node(nexus: Nexus) -> None:
    nodes = [("a", PYTHON, {"code": "result = 3"}), ("b", PYTHON, {"code": "result = x + y"})]
    workflow = nexus.register("twice", built(nodes, "a.result>b.x", "a.result>b.y"))
    assert workflow.input_schema["properties"] == {}
    assert (await nexus.invoke("twice")).value == {"b": {"result": 6}}


async def test_an_output_that_is_not_there_is_no_input(nexus: Nexus, caplog: pytest.LogCaptureFixture) -> None:
    def use(found: Any = "nothing") -> list:
        return [found]

    nodes = [("a", PYTHON, {"code": "result = 3"}), ("b", PYTHON, {"function": use})]
    nexus.register("lost", built(nodes, "a.reslt>b.found"))
    assert (await nexus.invoke("lost")).value == {"b": {"result": ["nothing"]}}
    assert 'The node "a" returned no "reslt" for "b"' in caplog.text
