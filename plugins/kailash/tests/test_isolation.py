"""Runs of one workflow know nothing of each other, nor callers of what nodes hand on among themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from kailash.nodes.base import NodeParameter
from kailash.nodes.base_async import AsyncNode
from kailash.runtime.local import LocalRuntime
from kailash.workflow.builder import WorkflowBuilder
from nexus_kailash.plugin import KailashPlugin

from nexus_core import Nexus, Stage
from nexus_core.errors import Overloaded, WorkflowFailed
from nexus_core.testing import eventually, stage_of

PYTHON, ASYNC = "PythonCodeNode", "AsyncPythonCodeNode"


def code(text: str, kind: str = PYTHON, **config: Any) -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node(kind, "only", {"code": text, **config})
    return builder


async def test_what_a_node_keeps_is_kept_for_its_run(nexus: Nexus) -> None:
    builder = code(
        "import time\nbefore = get_workflow_context('who', 'nobody')\nset_workflow_context('who', who)\n"
        "time.sleep(0.05)\nresult = before"
    )
    builder.add_node(PYTHON, "next", {"code": "result = [before, get_workflow_context('who')]"})
    builder.add_connection("only", "result", "next", "before")
    nexus.register("kept", builder)
    results = await asyncio.gather(*(nexus.invoke("kept", {"who": f"caller {n}"}) for n in range(10)))
    assert [each.value["next"]["result"] for each in results] == [["nobody", f"caller {n}"] for n in range(10)]


async def test_what_an_author_runs_elsewhere_is_as_it_was(nexus: Nexus) -> None:
    seen = "result = [text, get_workflow_context('x', 0)]\nset_workflow_context('x', 1)\nother"
    workflow = code(seen).build()
    nexus.register("seen", workflow)
    inputs = {"text": "${other}", "other": "b"}
    assert (await nexus.invoke("seen", inputs)).value == {"only": {"result": ["${other}", 0]}}

    def run() -> Any:
        with LocalRuntime() as runtime:
            return runtime.execute(workflow, parameters={"only": inputs})[0]["only"]["result"]

    assert await asyncio.to_thread(run) == ["b", 0]
    assert (await nexus.invoke("seen", inputs)).value == {"only": {"result": ["${other}", 0]}}


@pytest.mark.parametrize("kind", [PYTHON, ASYNC])
@pytest.mark.parametrize("text", ["${secret}", "say ${secret}!", ["${secret}"], {"${secret}": "${secret}"}])
async def test_a_callers_text_is_no_placeholder(nexus: Nexus, kind: str, text: Any) -> None:
    builder = WorkflowBuilder()
    builder.add_node(PYTHON, "login", {"code": "result = 'hunter2'"})
    builder.add_node(kind, "echo", {"code": "secret\nresult = [text]"})
    builder.add_connection("login", "result", "echo", "secret")
    nexus.register("echo", builder)
    assert (await nexus.invoke("echo", {"text": text})).value == {"echo": {"result": [text]}}


async def test_a_placeholder_in_the_configuration_is_one(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("FilterNode", "keep", {"field": "${column}", "operator": "==", "value": "b"})
    builder.add_node(PYTHON, "column", {"code": "result = 'name'"})
    builder.add_connection("column", "result", "keep", "column")
    nexus.register("keep", builder)
    rows = [{"name": "a"}, {"name": "b"}]
    assert (await nexus.invoke("keep", {"data": rows})).value["keep"]["filtered_data"] == [{"name": "b"}]


async def test_what_code_does_to_its_inputs_stays_in_its_run(nexus: Nexus) -> None:
    change = "items.append(1)\nresult = len(items)"
    expected = {"items": {"type": "list", "default": []}}
    nexus.register("configured", code(change, items=[]))
    nexus.register("default", code(change), {"expected_parameters": expected})
    for name in ("configured", "default") * 2:
        assert (await nexus.invoke(name)).value == {"only": {"result": 1}}
    given: list[int] = []
    nexus.register("given", code(change))
    await nexus.invoke("given", {"items": given})
    assert given == []


async def test_a_workflow_is_registered_as_it_is(nexus: Nexus) -> None:
    workflow = code("result = x").build()
    nexus.register("fixed", workflow)
    workflow.add_node("more", PYTHON, code="result = y")
    workflow.connect("only", "more", {"result": "y"})
    assert (await nexus.invoke("fixed", {"x": 1})).value == {"only": {"result": 1}}
    workflow.graph.remove_node("only")
    del workflow.nodes["only"], workflow._node_instances["only"]
    assert (await nexus.invoke("fixed", {"x": 1})).value == {"only": {"result": 1}}


async def test_a_builder_may_be_built_on(nexus: Nexus) -> None:
    builder = code("result = x")
    nexus.register("short", builder)
    builder.add_node(PYTHON, "more", {"code": "result = [y]"})
    builder.add_connection("only", "result", "more", "y")
    nexus.register("long", builder)
    assert (await nexus.invoke("short", {"x": 1})).value == {"only": {"result": 1}}
    assert (await nexus.invoke("long", {"x": 1})).value == {"more": {"result": [1]}}


class Sleeper(AsyncNode):
    """Waits for ever, and tells what becomes of it."""

    def __init__(self, told: list[str]) -> None:
        super().__init__(name="sleeper")
        self.told = told

    def get_parameters(self) -> dict[str, NodeParameter]:
        return {}

    async def async_run(self, **_: Any) -> dict[str, Any]:
        self.told.append("asleep")
        try:
            await asyncio.Event().wait()
        finally:
            self.told.append("cancelled")
        return {}


async def test_the_neighbours_of_a_failed_node_are_cancelled(nexus: Nexus) -> None:
    told: list[str] = []

    def fail() -> dict:
        while not told:
            time.sleep(0.001)
        raise ValueError("no")

    builder = WorkflowBuilder()
    builder.add_node(PYTHON, "fails", {"function": fail})
    with pytest.warns(UserWarning, match="Instance-based"):
        builder.add_node_instance(Sleeper(told), "sleeps")
    nexus.register("both", builder)
    with pytest.raises(WorkflowFailed):
        await nexus.invoke("both")
    await eventually(lambda: told == ["asleep", "cancelled"])


async def test_a_thread_beside_a_failed_node_keeps_the_runs_place() -> None:
    release, started = threading.Event(), threading.Event()

    def wait() -> dict:
        started.set()
        release.wait(30)
        return {}

    def fail() -> dict:
        started.wait(30)
        raise ValueError("no")

    builder = WorkflowBuilder()
    builder.add_node(PYTHON, "waits", {"function": wait})
    builder.add_node(PYTHON, "fails", {"function": fail})
    async with Nexus(discover=False, plugins=[KailashPlugin], max_concurrent_workflows=1) as nexus:
        nexus.register("both", builder)
        nexus.register("plain", lambda: 1)
        with pytest.raises(WorkflowFailed):
            await nexus.invoke("both")
        with pytest.raises(Overloaded):
            await nexus.invoke("plain")
        release.set()
        await eventually(lambda: not stage_of(nexus, Stage.ADMIT).in_use)
        assert (await nexus.invoke("plain")).value == 1
