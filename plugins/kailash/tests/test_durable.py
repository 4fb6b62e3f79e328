"""Durable runs of Kailash workflows go on behind their last finished nodes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from kailash.nodes.base import NodeParameter
from kailash.nodes.base_async import AsyncNode
from kailash.workflow.builder import WorkflowBuilder
from memory_engine import Gives, Journals
from nexus_kailash.plugin import KailashPlugin

from nexus_core import Caller, Nexus
from nexus_core.testing import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("ignore:Instance-based")

SECONDS = 20.0


class Diary:
    """What nodes have done, and what they wait for."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}

    def node(self, name: str, value: Any = None) -> AsyncNode:
        """Return a node that gives a value, once its gate is open."""
        diary = self

        class Async(AsyncNode):  # type: ignore[misc]
            def get_parameters(self) -> dict[str, NodeParameter]:
                return {"x": NodeParameter(name="x", type=object, required=False)}

            async def async_run(self, **inputs: Any) -> dict[str, Any]:
                diary.done.append(name)
                if name in diary.gates:
                    await diary.gates[name].wait()
                self.set_workflow_context(name, len(diary.done))
                return {"x": value(inputs.get("x")) if callable(value) else value}

        return Async()


async def killed_at(node: str, make: Callable[[Nexus, Diary], None], params: dict[str, Any]) -> tuple[Any, Diary]:
    """Run a workflow whose first process dies at a node. Return its value, and what was done."""
    journals, diary = Journals(), Diary()
    gate = diary.gates[node] = asyncio.Event()
    options: dict[str, Any] = {"run_store": "kept", "run_engine": "memory", "discover": False}
    both = [Nexus(plugins=[KailashPlugin, Gives(journals)], **options) for _ in range(2)]
    for nexus in both:
        make(nexus, diary)
    async with both[0], both[1]:
        calling = asyncio.ensure_future(both[0].invoke("flow", params))
        await eventually(lambda: node in diary.done, SECONDS)
        works = next(engine for engine in journals.engines if engine.pages)
        await works.die()
        gate.set()
        result = await asyncio.wait_for(calling, SECONDS)
        view = await both[1].view(Caller())
        state = await view.run(result.run_id)
        progress = [event.data["done"] async for event in state.follow() if event.type == "workflow.progress"]
    assert progress == [*range(1, len(progress) + 1)]
    return result.value, diary


def diamond(nexus: Nexus, diary: Diary) -> None:
    """Register a, then b and c at once, then d, which needs both."""
    builder = WorkflowBuilder()
    builder.add_node_instance(diary.node("a", 1), "a")
    builder.add_node_instance(diary.node("b", lambda x: x + 1), "b")
    builder.add_node_instance(diary.node("c", lambda x: (x, x)), "c")
    builder.add_node_instance(diary.node("d", lambda x: [x]), "d")
    for source, target in ("ab", "ac", "bd"):
        builder.add_connection(source, "x", target, "x")
    nexus.register("flow", builder, metadata={"durable": True})


@pytest.mark.parametrize("node", ["a", "b", "d"])
async def test_a_run_goes_on_behind_its_last_finished_node(node: str) -> None:
    value, diary = await killed_at(node, diamond, {})
    assert value == {"c": {"x": [1, 1]}, "d": {"x": [2]}}
    counts = {each: diary.done.count(each) for each in "abcd"}
    again = set() if node == "a" else {"c"}  # a tuple is not what its JSON text says
    assert counts == {each: 2 if each == node or each in again else 1 for each in counts}


def rounds(nexus: Nexus, diary: Diary) -> None:
    """Register a cycle that counts to three."""
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "n", {"code": "result = {'x': x + 1}"})
    builder.add_node_instance(diary.node("end", lambda x: x), "end")
    builder.add_connection("n", "result.x", "end", "x")
    workflow: Any = builder.build()
    workflow.create_cycle("n_n").connect("n", "n", mapping={"result.x": "x"}).max_iterations(3).build()
    nexus.register("flow", workflow, metadata={"durable": True})


async def test_a_round_of_a_cycle_that_is_done_is_not_done_again() -> None:
    value, diary = await killed_at("end", rounds, {"n": {"x": 0}})
    assert value["end"] == {"x": 3}
    assert diary.done == ["end", "end"]
