"""The nodes of a run are its steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kailash.workflow.builder import WorkflowBuilder

from nexus_core import Caller, Nexus
from nexus_core.errors import WorkflowFailed

if TYPE_CHECKING:
    from nexus_core.runs.record import RunStep


async def steps_of(nexus: Nexus, run_id: str | None) -> list[RunStep]:
    assert run_id is not None
    return await (await nexus.view(Caller())).steps(run_id)


def chain(*codes: str, kind: str = "PythonCodeNode") -> WorkflowBuilder:
    builder = WorkflowBuilder()
    for index, code in enumerate(codes):
        builder.add_node(kind, f"n{index}", {"code": code})
        if index:
            builder.add_connection(f"n{index - 1}", "result.y", f"n{index}", "x")
    return builder


@pytest.mark.parametrize("kind", ["PythonCodeNode", "AsyncPythonCodeNode"])
async def test_each_node_is_a_step(nexus: Nexus, kind: str) -> None:
    nexus.register("count", chain(*["result = {'y': x + 1}"] * 3, kind=kind))
    result = await nexus.invoke("count", {"n0": {"x": 1}})
    found = await steps_of(nexus, result.run_id)
    assert [(step.number, step.name, step.outcome) for step in found] == [
        (1, "n0", "completed"), (2, "n1", "completed"), (3, "n2", "completed"),
    ]  # fmt: skip
    assert all(step.ended_at is not None and step.ended_at >= step.began_at for step in found)


async def test_a_node_that_fails_is_a_step_that_has_failed(nexus: Nexus) -> None:
    nexus.register("fail", chain("result = {'y': 1}", "raise ValueError('secret')"))
    with pytest.raises(WorkflowFailed) as caught:
        await nexus.invoke("fail", {})
    found = await steps_of(nexus, caught.value.run_id)
    assert [(step.name, step.outcome) for step in found] == [("n0", "completed"), ("n1", "failed")]
    assert found[1].error is not None
    assert "secret" not in found[1].error


async def test_each_round_of_a_cycle_is_a_step(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "n", {"code": "result = {'x': x + 1}"})
    workflow: Any = builder.build()
    workflow.create_cycle("n_n").connect("n", "n", mapping={"result.x": "x"}).max_iterations(3).build()
    nexus.register("rounds", workflow)
    result = await nexus.invoke("rounds", {"n": {"x": 0}})
    found = await steps_of(nexus, result.run_id)
    assert [step.name for step in found] == ["n"] * 3
    assert {step.outcome for step in found} == {"completed"}
