"""The workflows by name: what is refused, and what happens when they change while calls run."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import ConfigurationError, Context, Invocation, Workflow
from nexus_core.errors import WorkflowNotFound
from nexus_core.workflows.functions import FunctionWorkflow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Model:
    def __init__(self, a: int) -> None:
        self.a = a


async def test_ten_thousand_workflows(make: Any) -> None:
    nexus = make()

    def work(n: int) -> int:
        return n

    for number in range(10_000):
        nexus.register(f"w{number}", work)
    assert len(nexus.list_workflows()) == 10_000
    assert (await nexus.invoke("w9999", {"n": 3})).value == 3


class Own(Workflow):
    async def run(self, params: dict[str, Any], context: Context) -> Any:
        return params


@pytest.mark.parametrize(
    ("schemas", "complaint"),
    [
        ({"input_schema": {"type": "array"}}, "the root of input_schema must be of type object"),
        ({"input_schema": {}}, "the root of input_schema must be of type object"),
        ({"input_schema": {"type": "object", "minProperties": "1"}}, "input_schema: .* not valid at /minProperties"),
        ({"input_schema": {"type": "object", "default": object()}}, "input_schema: .* not valid"),
        ({"input_schema": {"type": "object"}, "output_schema": {"type": "strin"}}, "output_schema: .* not valid"),
    ],
)
def test_schemas_that_fail_each_call_are_refused(make: Any, schemas: Any, complaint: str) -> None:
    nexus = make()
    with pytest.raises(ConfigurationError, match=rf"^own: {complaint}"):
        nexus.register("own", Own("own", **schemas))
    assert nexus.list_workflows() == []


def test_metadata_holds_for_a_workflow_of_ones_own_too(make: Any) -> None:
    nexus = make()
    own = Own("own", input_schema={"type": "object"}, description="Mine.", metadata={"timeout": 5, "tags": ["a"]})
    assert nexus.register("own", own, {"required_permissions": ["x"], "timeout": 3}) is own
    assert own.metadata == {"timeout": 3, "tags": ["a"], "required_permissions": ["x"]}
    assert (own.description, own.timeout, own.required_permissions) == ("Mine.", 3, {"x"})
    nexus.register("own", own, {"required_permissions": ["y"]}, replace=True)
    assert own.required_permissions == {"y"}
    nexus.register("own", own, {"description": "Yours."}, replace=True)
    assert own.description == "Yours."
    with pytest.raises(ConfigurationError, match=r"own: .*expected_parameters"):
        nexus.register("own", own, {"expected_parameters": {}}, replace=True)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("text", "w: metadata must be a mapping"), ([("tags", [])], "w: metadata must be a mapping"),
        ({1: 2}, "w: metadata must be .* strings as keys"), ({"tags": None}, r"w: metadata\['tags'\] must be"),
        ({"tags": 5}, r"w: metadata\['tags'\] must be"), ({"tags": {"a": 1}}, r"w: metadata\['tags'\] must be"),
        ({"expected_parameters": "x"}, "w: expected_parameters must be"),
    ],
)  # fmt: skip
def test_metadata_that_is_none_is_refused(make: Any, metadata: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        make().register("w", lambda: 1, metadata)


async def test_workflows_are_replaced_under_load(make: Any) -> None:
    nexus = make(max_concurrent_workflows=1000)

    def versions(number: int) -> Callable[[int], list[int]]:
        def work(n: int) -> list[int]:
            return [number, n]

        return work

    nexus.register("w", versions(0))
    replaced = threading.Event()

    def replace() -> None:
        for number in range(250):
            nexus.register("w", versions(number), replace=True)

    def replace_all() -> None:
        threads = [threading.Thread(target=replace) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        replaced.set()

    async with nexus:
        threading.Thread(target=replace_all).start()
        while not replaced.is_set():
            for result in await asyncio.gather(*(nexus.invoke("w", {"n": n}) for n in range(10))):
                assert result.value[1] in range(10)
        assert (await nexus.invoke("w", {"n": 1})).value == [249, 1]


def test_of_two_threads_that_register_one_name_one_wins(make: Any) -> None:
    nexus = make()
    both = threading.Barrier(2, timeout=10)

    class Slow:
        name = "slow"

        def adapts(self, target: object) -> bool:
            return isinstance(target, Model)

        def adapt(self, name: str, target: Any, metadata: Any) -> Any:
            both.wait()
            return FunctionWorkflow(name, lambda: target.a, metadata, nexus.threads)

    nexus.workflows._adapters = lambda: [Slow()]
    outcomes: list[str] = []

    def register(a: int) -> None:
        try:
            nexus.register("w", Model(a=a))
            outcomes.append("there")
        except ConfigurationError as exc:
            outcomes.append(str(exc))

    threads = [threading.Thread(target=register, args=(a,)) for a in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(outcomes) == ['There is a workflow "w" already; pass replace=True to replace it.', "there"]


async def test_a_stream_goes_on_after_its_workflow_is_unregistered(make: Any) -> None:
    nexus = make()
    go = asyncio.Event()

    @nexus.workflow
    async def stream() -> AsyncIterator[int]:
        yield 1
        await go.wait()
        yield 2

    async with nexus:
        run = nexus.submit(Invocation("stream", {}))
        async for event in run.follow():
            if event.type == "workflow.output":
                break
        nexus.unregister("stream")
        with pytest.raises(WorkflowNotFound):
            await nexus.invoke("stream")
        go.set()
        assert (await run.outcome()).value == [1, 2]
