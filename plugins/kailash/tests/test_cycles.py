"""Workflows with cycles give what they give under Kailash's `LocalRuntime`, and obey Nexus's limits between nodes."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from kailash.nodes.base import NodeParameter
from kailash.nodes.base_async import AsyncNode
from kailash.nodes.base_cycle_aware import CycleAwareNode
from kailash.runtime.local import LocalRuntime
from kailash.workflow.builder import WorkflowBuilder
from nexus_kailash.plugin import KailashPlugin

from nexus_core import ConfigurationError, Nexus, ValidationError, WorkflowError
from nexus_core.errors import Overloaded, RunCancelled, WorkflowFailed, WorkflowTimeout
from nexus_core.pipeline.invocation import Invocation
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from kailash.workflow.graph import Workflow

PYTHON, ASYNC = "PythonCodeNode", "AsyncPythonCodeNode"
COUNT = "result = {'count': count + step, 'done': count + step >= 5}"
COUNT_FROM_0 = f"try:\n    count = count\nexcept NameError:\n    count = 0\nstep = 1\n{COUNT}"


def built(nodes: list[tuple[str, str, dict[str, Any]]], *connections: str) -> Workflow:
    builder = WorkflowBuilder()
    for name, kind, config in nodes:
        builder.add_node(kind, name, config)
    for each in connections:
        source, target = each.split(">")
        builder.add_connection(*source.split(".", 1), *target.split(".", 1))
    return builder.build()


def closed(
    workflow: Workflow, source: str, target: str, mapping: dict[str, str], rounds: int = 10, until: str = ""
) -> Workflow:
    cycle = workflow.create_cycle(f"{source}_{target}").connect(source, target, mapping=mapping)
    cycle = cycle.max_iterations(rounds) if rounds else cycle
    (cycle.converge_when(until) if until else cycle).build()
    return workflow


def counter(code: str = COUNT_FROM_0, rounds: int = 10, until: str = "done == True") -> Workflow:
    return closed(built([("n", PYTHON, {"code": code})]), "n", "n", {"result.count": "count"}, rounds, until)


def loop_of_two() -> Workflow:
    nodes = [
        ("start", PYTHON, {"code": "result = {'n': first}"}),
        ("grow", PYTHON, {"code": "result = {'n': n * factor}"}),
        ("check", PYTHON, {"code": "result = {'n': n, 'enough': n > 100}"}),
        ("end", PYTHON, {"code": "result = ['end', n]"}),
    ]
    workflow = built(nodes, "start.result.n>grow.n", "grow.result.n>check.n", "check.result.n>end.n")
    return closed(workflow, "check", "grow", {"result.n": "n"}, 20, "enough == True")


def loop_with_switch() -> Workflow:
    nodes = [
        ("grow", PYTHON, {"code": "result = {'n': n + 1, 'more': n + 1 < 4}"}),
        ("switch", "SwitchNode", {"condition_field": "more", "operator": "==", "value": True}),
        ("end", PYTHON, {"code": "result = ['end', data]"}),
    ]
    workflow = built(nodes, "grow.result>switch.input_data", "switch.false_output>end.data")
    return closed(workflow, "switch", "grow", {"true_output.n": "n"}, 20)


async def both(nexus: Nexus, workflow: Workflow, inputs: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
    def run() -> dict[str, Any]:
        with LocalRuntime() as runtime:
            results: dict[str, Any] = runtime.execute(workflow, parameters=inputs)[0]
            return results

    alone = await asyncio.to_thread(run)
    nexus.register("w", workflow, replace=True)
    value = (await nexus.invoke("w", inputs)).value
    return {node: alone.get(node) for node in value}, value


@pytest.mark.parametrize(
    ("workflow", "inputs", "expected"),
    [
        (counter(), {}, {"n": {"result": {"count": 5, "done": True}}}),
        (counter(until=""), {}, {"n": {"result": {"count": 10, "done": True}}}),
        (counter(COUNT), {"n": {"count": 2, "step": 2}}, {"n": {"result": {"count": 6, "done": True}}}),
        (loop_of_two(), {"start": {"first": 3}, "grow": {"factor": 4}}, {"end": {"result": ["end", 192]}}),
        (loop_with_switch(), {"grow": {"n": 0}}, {"end": {"result": ["end", {"n": 4, "more": False}]}}),
    ],
)
async def test_a_cycle_gives_what_it_gives_under_the_local_runtime(
    nexus: Nexus, workflow: Workflow, inputs: dict[str, Any], expected: dict[str, Any]
) -> None:
    alone, value = await both(nexus, workflow, inputs)
    assert value == alone == expected


async def test_what_follows_a_cycle_runs_after_it_a_second_cycle_included(nexus: Nexus) -> None:
    nodes = [
        ("a", PYTHON, {"code": "result = {'n': n + 1}"}),
        ("between", PYTHON, {"code": "result = {'m': n}"}),
        ("b", PYTHON, {"code": "result = {'m': m * 2}"}),
        ("then", PYTHON, {"code": "result = {'m': m}"}),
        ("end", PYTHON, {"code": "result = [m, k]"}),
        ("side", PYTHON, {"code": "result = 'side'"}),
    ]
    connections = ("a.result.n>between.n", "between.result.m>b.m", "b.result.m>then.m", "then.result.m>end.m",
                   "side.result>end.k")  # fmt: skip
    workflow = closed(built(nodes, *connections), "a", "a", {"result.n": "n"}, 3)
    nexus.register("chain", closed(workflow, "b", "b", {"result.m": "m"}, 2))
    run = nexus.submit(Invocation("chain", {"n": 0}))
    assert await run.wait(30)
    assert run.result.value == {"end": {"result": [12, "side"]}}
    told = [event.data["message"] for event in run.events if event.type == "workflow.progress"]
    assert [each for each in told if each != "side"] == ["a", "a", "a", "between", "b", "b", "then", "end"]


async def test_callers_give_the_first_value_of_what_the_next_rounds_feed(nexus: Nexus) -> None:
    schema = nexus.register("count", counter(COUNT)).input_schema
    assert set(schema["required"]) == {"count", "step"}
    with pytest.raises(ValidationError, match="/count: missing"):
        await nexus.invoke("count", {"step": 1})
    assert (await nexus.invoke("count", {"count": 0, "step": 3})).value["n"]["result"]["count"] == 6
    schema = nexus.register("two", loop_of_two()).input_schema
    assert schema["properties"].keys() == {"first", "factor"}


class OnLoop(AsyncNode):
    """Counts, and notes the event loop it runs on."""

    def __init__(self, loops: set[Any]) -> None:
        super().__init__(name="on_loop")
        self.loops = loops

    def get_parameters(self) -> dict[str, NodeParameter]:
        return {"count": NodeParameter(name="count", type=int, required=True)}

    async def async_run(self, **inputs: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.loops.add(asyncio.get_running_loop())
        return {"count": inputs["count"] + 1}


async def test_async_nodes_of_a_cycle_run_on_the_event_loop(nexus: Nexus) -> None:
    loops: set[Any] = set()
    builder = WorkflowBuilder()
    with pytest.warns(UserWarning, match="Instance-based"):
        builder.add_node_instance(OnLoop(loops), "n")
    nexus.register("count", closed(builder.build(), "n", "n", {"count": "count"}, 3))
    assert (await nexus.invoke("count", {"count": 0})).value == {"n": {"count": 3}}
    assert loops == {asyncio.get_running_loop()}


class Rounds(CycleAwareNode):
    def get_parameters(self) -> dict[str, NodeParameter]:
        return {"tag": NodeParameter(name="tag", type=str, required=True)}

    def run(self, **inputs: Any) -> dict[str, Any]:
        context = inputs["context"]
        seen = [*self.get_previous_state(context).get("seen", []), self.get_iteration(context)]
        return {"tag": inputs["tag"], "seen": seen, **self.set_cycle_state({"seen": seen})}


async def test_runs_at_once_keep_their_rounds_apart(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node(Rounds, "n", {})
    workflow = closed(builder.build(), "n", "n", {"tag": "tag"}, 5)
    nexus.register("rounds", workflow)
    results = await asyncio.gather(*(nexus.invoke("rounds", {"tag": f"run {n}"}) for n in range(20)))
    assert [each.value["n"]["tag"] for each in results] == [f"run {n}" for n in range(20)]
    assert all(each.value["n"]["seen"] == [0, 1, 2, 3, 4] for each in results)


async def test_each_execution_of_a_node_is_progress(nexus: Nexus) -> None:
    nexus.register("two", loop_of_two())
    run = nexus.submit(Invocation("two", {"first": 30, "factor": 2}))
    assert await run.wait(30)
    told = [event.data for event in run.events if event.type == "workflow.progress"]
    assert [each["message"] for each in told] == ["start", "grow", "check", "grow", "check", "end"]
    assert [each["done"] for each in told] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", [PYTHON, ASYNC])
@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_no_further_node_runs_once_the_run_has_ended(kind: str, how: str) -> None:
    rounds, release = [], threading.Event()

    def step(count: int = 0) -> dict[str, Any]:
        rounds.append(count)
        release.wait(30)
        return {"count": count + 1}

    if kind == PYTHON:
        workflow = closed(built([("n", PYTHON, {"function": step})]), "n", "n", {"result.count": "count"}, 1000)
    else:
        code = "import asyncio\nawait asyncio.sleep(30)\nresult = {'count': 1}"
        workflow = closed(built([("n", ASYNC, {"code": code})]), "n", "n", {"count": "count"}, 1000)
    async with Nexus(discover=False, plugins=[KailashPlugin], max_concurrent_workflows=1) as nexus:
        nexus.register("long", workflow, metadata={"timeout": 1.0 if how == "deadline" else 30})
        nexus.register("plain", lambda: 1)
        run = nexus.submit(Invocation("long", {}))
        if kind == PYTHON:
            await eventually(lambda: rounds)
        if how == "cancelled":
            await eventually(lambda: run.status == "running")
            run.cancel()
        assert await run.wait(15)
        assert isinstance(run.error, WorkflowTimeout if how == "deadline" else RunCancelled)
        if kind == PYTHON:  # its thread can't be stopped within the node: it keeps the run's place
            with pytest.raises(Overloaded):
                await nexus.invoke("plain")
            release.set()
        end = time.monotonic() + 10
        while True:
            try:
                assert (await nexus.invoke("plain")).value == 1
                break
            except Overloaded:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
        assert len(rounds) == (1 if kind == PYTHON else 0)


async def test_what_fails_in_a_cycle_fails_the_run(nexus: Nexus, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(count: int = 0) -> dict[str, Any]:
        if count == 2:
            raise WorkflowError("Twice is enough.")
        return {"count": count + 1}

    nexus.register("refuse", closed(built([("n", PYTHON, {"function": refuse})]), "n", "n", {"result.count": "count"}))
    with pytest.raises(WorkflowError, match="Twice is enough"):
        await nexus.invoke("refuse")
    nexus.register("fail", counter("result = {'count': 1 / count - 1}", until=""))
    with pytest.raises(WorkflowFailed):
        await nexus.invoke("fail", {"count": 1})
    assert "division by zero" in caplog.text


async def test_what_nodes_keep_and_placeholders_are_as_without_cycles(nexus: Nexus) -> None:
    code = "set_workflow_context('n', get_workflow_context('n', 0) + 1)\nresult = {'n': get_workflow_context('n')}"
    nexus.register("kept", closed(built([("n", PYTHON, {"code": code})]), "n", "n", {"result.n": "x"}, 3))
    for _ in range(2):
        assert (await nexus.invoke("kept")).value == {"n": {"result": {"n": 3}}}
    nodes = [
        ("keep", "FilterNode", {"field": "${column}", "operator": "==", "value": "b"}),
        ("n", PYTHON, {"code": "result = {'rows': rows, 'text': text}"}),
    ]
    workflow = built(nodes, "keep.filtered_data>n.rows")
    nexus.register("keep", closed(workflow, "n", "keep", {"result.rows": "data"}, 2))
    params = {"data": [{"name": "a"}, {"name": "b"}], "column": "name", "text": "${rows}"}
    assert (await nexus.invoke("keep", params)).value == {"n": {"result": {"rows": [{"name": "b"}], "text": "${rows}"}}}


async def test_cycles_that_kailash_cannot_run_are_refused(nexus: Nexus) -> None:
    with pytest.raises(ConfigurationError, match='endless: the cycle "n_n" has no max_iterations'):
        nexus.register("endless", counter(rounds=0))
    nodes = [("a", PYTHON, {"code": "result = x"}), ("b", PYTHON, {"code": "result = x"})]
    with pytest.raises(ConfigurationError, match=r"round: .*cycle"):
        nexus.register("round", built(nodes, "a.result>b.x", "b.result>a.x"))
