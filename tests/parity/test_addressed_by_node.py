"""A Kailash workflow with a parameter ``data``, addressed by node: the same parameters on every channel."""

from __future__ import annotations

from typing import Any

import pytest
from doors import DOORS

from nexus_core import Nexus

pytest.importorskip("nexus_kailash")

CODE = "result = {'data': data, 'factor': factor}"


def build() -> Nexus:
    from kailash.workflow.builder import WorkflowBuilder

    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "scale", {"code": CODE})
    nexus = Nexus(api_port=0, cli_port=0, mcp_port=0)
    nexus.register("scale", builder.build())
    return nexus


@pytest.fixture(name="urls", scope="module")
def urls_fixture(serving: Any) -> Any:
    with serving(build()) as (urls, _):
        yield urls


@pytest.mark.parametrize("door", DOORS, ids=lambda each: each.name)
@pytest.mark.parametrize(
    "params",
    [
        '{"data": [1], "factor": 2}',
        '{"scale": {"data": [1], "factor": 2}}',
        '{"factor": 2, "scale": {"data": [1]}}',
    ],
)
async def test_nodes_are_addressed_on_every_channel(urls: dict[str, str], door: Any, params: str) -> None:
    answer = await door(urls).call("scale", params)
    assert (answer.code, answer.value) == (None, {"scale": {"result": {"data": [1], "factor": 2}}})
