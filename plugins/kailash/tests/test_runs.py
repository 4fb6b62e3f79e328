"""How Kailash workflows run: results, failures, progress, deadlines, many at once."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from kailash.nodes.base import Node, NodeParameter
from kailash.workflow.builder import WorkflowBuilder
from nexus_kailash.plugin import KailashPlugin

from nexus_core import Nexus, WorkflowError
from nexus_core.errors import Overloaded, RunCancelled, WorkflowFailed, WorkflowTimeout
from nexus_core.pipeline.invocation import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable


def one_node(function: Callable[..., Any], node: str = "only") -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", node, {"function": function})
    return builder


def code_node(code: str, kind: str = "PythonCodeNode") -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node(kind, "only", {"code": code})
    return builder


def chain(length: int) -> WorkflowBuilder:
    builder = WorkflowBuilder()
    for index in range(length):
        builder.add_node("PythonCodeNode", f"step{index}", {"code": "result = {'y': x + 1}"})
        if index:
            builder.add_connection(f"step{index - 1}", "result.y", f"step{index}", "x")
    return builder


async def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        await asyncio.sleep(0.005)


async def test_a_csv_file_is_read_filtered_and_summed(nexus: Nexus, csv_file: str) -> None:
    builder = WorkflowBuilder()
    builder.add_node("CSVReaderNode", "read", {"file_path": csv_file})
    builder.add_node("FilterNode", "keep", {"field": "name", "operator": "=="})
    builder.add_node("PythonCodeNode", "total", {"function": lambda rows: {"sum": sum(int(r["value"]) for r in rows)}})
    builder.add_connection("read", "data", "keep", "data")
    builder.add_connection("keep", "filtered_data", "total", "rows")
    nexus.register("total", builder)
    assert (await nexus.invoke("total", {"value": "red"})).value == {"total": {"result": {"sum": 301}}}
    assert (await nexus.invoke("total", {"value": "blue"})).value == {"total": {"result": {"sum": 20}}}


async def test_the_value_holds_the_leaves_only(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    for node, code in (("start", "result = {'n': 3}"), ("twice", "result = x * 2"), ("square", "result = x * x")):
        builder.add_node("PythonCodeNode", node, {"code": code})
    builder.add_connection("start", "result.n", "twice", "x")
    builder.add_connection("start", "result.n", "square", "x")
    nexus.register("fork", builder)
    assert (await nexus.invoke("fork")).value == {"twice": {"result": 6}, "square": {"result": 9}}


async def test_fifty_runs_at_once_keep_their_values_and_ids_apart(nexus: Nexus) -> None:
    def pause(x: int) -> dict:
        time.sleep(0.2)
        return {"y": x * 2}

    builder = one_node(pause, "first")
    builder.add_node(
        "AsyncPythonCodeNode", "second", {"code": "import asyncio\nawait asyncio.sleep(0.1)\nresult = {'z': y + 1}"}
    )
    builder.add_connection("first", "result.y", "second", "y")
    nexus.register("both", builder)
    begin = time.monotonic()
    results = await asyncio.gather(*(nexus.invoke("both", {"x": x}) for x in range(50)))
    taken = time.monotonic() - begin
    values = [next(iter(result.value["second"].values())) for result in results]
    assert [value["z"] if isinstance(value, dict) else value for value in values] == [x * 2 + 1 for x in range(50)]
    assert len({result.run_id for result in results}) == 50
    assert taken < 5.0, "the runs waited for each other"


async def test_hundreds_of_sync_nodes_at_once_leave_the_process_its_threads() -> None:
    nap = "import time\ntime.sleep(1)\nresult = {'x': x}"
    async with Nexus(discover=False, plugins=[KailashPlugin], max_concurrent_workflows=300) as nexus:
        nexus.register("nap", code_node(nap))
        nexus.register("plain", lambda: threading.current_thread().name)
        results = await asyncio.gather(*(nexus.invoke("nap", {"x": x}) for x in range(200)), nexus.invoke("plain"))
        assert [result.value["only"]["result"]["x"] for result in results[:-1]] == list(range(200))


async def test_other_tasks_may_have_names_while_an_async_code_node_runs(nexus: Nexus) -> None:
    nexus.register("long", code_node("import asyncio\nawait asyncio.sleep(30)\nresult = 1", "AsyncPythonCodeNode"))
    create_task = asyncio.create_task
    runs = [nexus.submit(Invocation("long", {})) for _ in range(3)]
    await until(lambda: all(run.status == "running" for run in runs))
    for _ in range(20):  # they are in the midst of it
        await asyncio.sleep(0)
    assert asyncio.create_task is create_task
    assert await asyncio.create_task(asyncio.sleep(0, "done"), name="named") == "done"
    for run in runs:
        run.cancel()
    await until(lambda: all(run.done for run in runs))
    assert asyncio.create_task is create_task


async def test_sync_nodes_do_not_hold_up_the_event_loop(nexus: Nexus) -> None:
    nexus.register("nap", one_node(lambda seconds: {"slept": time.sleep(seconds)}))
    longest = 0.0
    task = asyncio.ensure_future(nexus.invoke("nap", {"seconds": 2.0}))
    while not task.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
    await task
    assert longest < 1.5


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_deadline_is_kept_whatever_the_node_does(kind: str) -> None:
    release = threading.Event()

    def wait() -> dict:
        release.wait(30)
        return {"done": True}

    builder = (
        one_node(wait)
        if kind == "sync"
        else code_node("import asyncio\nawait asyncio.sleep(30)\nresult = 1", "AsyncPythonCodeNode")
    )
    async with Nexus(discover=False, plugins=[KailashPlugin], max_concurrent_workflows=1) as nexus:
        nexus.register("long", builder, metadata={"timeout": 0.3})
        nexus.register("short", one_node(lambda: {"ok": True}))
        await nexus.invoke("short")
        begin = time.monotonic()
        with pytest.raises(WorkflowTimeout):
            await nexus.invoke("long")
        assert time.monotonic() - begin < 15
        if kind == "sync":  # its thread can't be stopped: it keeps its place until it ends
            with pytest.raises(Overloaded):
                await nexus.invoke("short")
            release.set()
        end = time.monotonic() + 10
        while True:
            try:
                assert (await nexus.invoke("short")).value == {"only": {"result": {"ok": True}}}
                break
            except Overloaded:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)


async def test_a_run_can_be_cancelled(nexus: Nexus) -> None:
    nexus.register("long", code_node("import asyncio\nawait asyncio.sleep(30)\nresult = 1", "AsyncPythonCodeNode"))
    run = nexus.submit(Invocation("long", {}))
    await until(lambda: run.status == "running")
    run.cancel()
    await until(lambda: run.done)
    assert isinstance(run.error, RunCancelled)


async def test_each_finished_node_is_progress_of_its_own_run(nexus: Nexus) -> None:
    nexus.register("short", chain(2))
    nexus.register("long", chain(3))
    runs = [nexus.submit(Invocation(name, {"x": 1})) for name in ("short", "long") * 5]
    await until(lambda: all(run.done for run in runs))
    for run in runs:
        length = 2 if run.workflow == "short" else 3
        told = [event.data for event in run.events if event.type == "workflow.progress"]
        assert told == [{"done": n, "total": length, "message": f"step{n - 1}"} for n in range(1, length + 1)]
        assert run.result.value == {f"step{length - 1}": {"result": {"y": 1 + length}}}


async def test_a_failing_node_fails_the_run_and_its_reason_stays_in_the_log(
    nexus: Nexus, caplog: pytest.LogCaptureFixture
) -> None:
    nexus.register("boom", code_node("result = 1 / divisor"))
    with pytest.raises(WorkflowFailed) as caught, caplog.at_level(logging.ERROR):
        await nexus.invoke("boom", {"divisor": 0})
    assert "zero" not in str(caught.value.problem())
    assert "division by zero" in caplog.text
    assert caught.value.run_id
    assert (await nexus.invoke("boom", {"divisor": 2})).value == {"only": {"result": 0.5}}


async def test_a_workflow_error_in_a_node_reaches_the_caller(nexus: Nexus) -> None:
    def refuse(colour: str) -> dict:
        raise WorkflowError(f"There is no {colour} paint left.")

    nexus.register("paint", one_node(refuse))
    with pytest.raises(WorkflowError, match=r"^There is no red paint left\.$"):
        await nexus.invoke("paint", {"colour": "red"})


class Reporter(Node):
    """Gives back what it is told to, as nodes do that report a failure instead of raising it."""

    def get_parameters(self) -> dict[str, NodeParameter]:
        return {"report": NodeParameter(name="report", type=dict, required=True)}

    def run(self, **inputs: Any) -> dict[str, Any]:
        return inputs["report"]


@pytest.mark.parametrize(
    ("report", "fails"),
    [
        ({"error": "no route"}, True),
        ({"error": "no route", "failed": True, "error_type": "OSError"}, True),
        ({"error": "no route", "success": False, "status_code": None}, True),
        ({"error": None, "success": True}, False),
        ({"error": 0.02, "mean": 3}, False),
        ({"result": {"error": "in the data"}}, False),
    ],
)
async def test_a_reported_failure_is_never_a_result(nexus: Nexus, report: dict[str, Any], fails: bool) -> None:
    builder = WorkflowBuilder()
    with pytest.warns(UserWarning, match="Instance-based"):
        builder.add_node_instance(Reporter(name="reporter"), "only")
    nexus.register("report", builder)
    if fails:
        with pytest.raises(WorkflowFailed):
            await nexus.invoke("report", {"report": report})
    else:
        assert (await nexus.invoke("report", {"report": report})).value == {"only": report}


async def test_a_value_that_is_not_json_fails_the_run(nexus: Nexus) -> None:
    nexus.register("nan", one_node(lambda: {"mean": float("nan")}))
    with pytest.raises(WorkflowFailed, match="not finite"):
        await nexus.invoke("nan")


async def test_a_nexus_can_be_started_again() -> None:
    nexus = Nexus(discover=False, plugins=[KailashPlugin])
    nexus.register("one", code_node("result = x + 1"))
    for x in (1, 2):
        async with nexus:
            assert (await nexus.invoke("one", {"x": x})).value == {"only": {"result": x + 1}}


async def test_two_workflows_with_one_kailash_id_do_not_mix(nexus: Nexus) -> None:
    def made(*nodes: str) -> WorkflowBuilder:
        builder = WorkflowBuilder()
        for node in nodes:
            builder.add_node("AsyncPythonCodeNode", node, {"code": f"result = {node!r}"})
        return builder

    nexus.register("first", made("a", "b").build(workflow_id="same"))
    nexus.register("second", made("c").build(workflow_id="same"))
    assert (await nexus.invoke("first")).value == {"a": {"result": "a"}, "b": {"result": "b"}}
    assert (await nexus.invoke("second")).value == {"c": {"result": "c"}}


async def test_two_nexus_in_one_process_do_not_share_a_runtime(nexus: Nexus) -> None:
    nexus.register("one", code_node("result = x + 1"))
    async with Nexus(discover=False, plugins=[KailashPlugin]) as other:
        other.register("one", code_node("result = x + 2"))
        assert (await other.invoke("one", {"x": 1})).value == {"only": {"result": 3}}
    assert (await nexus.invoke("one", {"x": 1})).value == {"only": {"result": 2}}
