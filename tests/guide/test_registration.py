"""Pattern 1: a platform with everything on, and a Kailash workflow with metadata."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from guide_callers import CHANNELS, Client
from guide_text import run, served
from kailash.nodes.base import Node, NodeParameter, NodeRegistry

from nexus_core import Nexus
from nexus_core.testing import eventually

HEADING = "Pattern 1: Advanced Workflow Registration"
PARAMS = {"input_data": {"x": 1}, "validation_rules": {"x": "number"}}
RESULT = {"processed": {"x": 1}, "format": "json"}


class DataProcessorNode(Node):
    """The node that the guide's workflow is made of."""

    runs = 0

    def get_parameters(self) -> dict[str, NodeParameter]:
        names = ("input_format", "output_format", "validation_schema")
        settings = {name: NodeParameter(name=name, type=str, required=True) for name in names}
        given = {name: NodeParameter(name=name, type=dict, required=False) for name in PARAMS}
        return settings | given

    def run(self, **inputs: Any) -> dict[str, Any]:
        DataProcessorNode.runs += 1
        return {"processed": inputs["input_data"], "format": inputs["output_format"]}


@pytest.fixture
def nexus(with_redis: Any, with_issuer: Any, environment: Any, otlp_receiver: Any) -> Any:
    environment(tracing_endpoint=otlp_receiver.url, tracing_sample_ratio=1, tracing_push_interval=0.1)
    DataProcessorNode.runs = 0
    shipped = NodeRegistry.list_nodes().get("DataProcessorNode")  # the plugin's own, where it has been used before
    NodeRegistry.unregister("DataProcessorNode")
    NodeRegistry.register(DataProcessorNode)
    yield run(HEADING)["nexus"]
    NodeRegistry.unregister("DataProcessorNode")
    if shipped is not None:
        NodeRegistry.register(shipped)


@pytest.fixture
def token(with_issuer: Any) -> str:
    return with_issuer.token(permissions=["data.read", "data.write"])


async def test_every_channel_runs_it_for_whoever_may(nexus: Nexus, with_issuer: Any, token: str) -> None:
    assert {name: nexus_port(nexus, name) for name in CHANNELS} == {"api": 8000, "cli": 8001, "mcp": 3001}
    reader = with_issuer.token(permissions=["data.read"])
    async with served(nexus) as urls:
        for channel in CHANNELS:
            answer = await Client(urls, token).call(channel, "data_processor", PARAMS)
            assert answer.result == {"processor": RESULT}, channel
            assert (await Client(urls, reader).call(channel, "data_processor", PARAMS)).code == "permission_denied"
            assert (await Client(urls).call(channel, "data_processor", PARAMS)).code == "authentication_failed"
            wrong = await Client(urls, token).call(channel, "data_processor", {"input_data": 3})
            assert (wrong.code, wrong.reply["errors"][0]["pointer"]) == ("validation_error", "/input_data")
            missing = await Client(urls, token).call(channel, "data_processor", {})
            assert "input_data" in str(missing.reply["errors"])


def nexus_port(nexus: Nexus, channel: str) -> int:
    return next(
        getattr(model, f"{channel}_port") for model in nexus.every_settings if hasattr(model, f"{channel}_port")
    )


async def test_its_metadata_is_shown(nexus: Nexus, token: str) -> None:
    async with served(nexus) as urls:
        shown = (await Client(urls, token).http("GET", "/api/workflows/data_processor")).json()
        tools = (await Client(urls, token).mcp_request("tools/list"))["result"]["tools"]
    metadata = shown["metadata"]
    assert (metadata["version"], metadata["category"]) == ("1.0.0", "data-processing")
    assert shown["description"] == "Process data with validation"
    assert metadata["tags"] == ["data", "validation", "json"]
    assert metadata["required_permissions"] == ["data.read", "data.write"]
    assert shown["input_schema"]["required"] == ["input_data"]
    assert next(each for each in tools if each["name"] == "data_processor")["inputSchema"]["required"] == ["input_data"]


async def test_results_are_kept_in_redis_for_all_channels(nexus: Nexus, token: str, with_redis: Any) -> None:
    async with served(nexus) as urls:
        caller = Client(urls, token)
        first = await caller.api("data_processor", PARAMS)
        again = [await caller.call(channel, "data_processor", PARAMS) for channel in CHANNELS]
        assert DataProcessorNode.runs == 1
        assert all(each.reply["cached"] and each.result == first.result for each in again)
        left = [with_redis.ask("PTTL", key) for key in with_redis.ask("KEYS", "*") if b"cache" in bytes(key)]
        assert any(0 < int(each) <= 300_000 for each in left)  # cache_ttl=300


async def test_calls_are_limited_to_a_thousand_a_minute(nexus: Nexus, token: str) -> None:
    async with served(nexus) as urls:
        answer = await Client(urls, token).api("data_processor", PARAMS)
    assert "1000" in answer.headers["ratelimit-policy"]


async def test_metrics_and_traces_are_there(nexus: Nexus, with_issuer: Any, token: str, otlp_receiver: Any) -> None:
    reader = with_issuer.token(permissions=["metrics.read"])
    async with served(nexus) as urls:
        await Client(urls, token).api("data_processor", PARAMS)
        text = (await Client(urls, reader).http("GET", "/metrics", "metrics")).text
        assert 'workflow="data_processor"' in text
        await asyncio.to_thread(
            otlp_receiver.wait_for, lambda: any("data_processor" in span.name for span in otlp_receiver.spans())
        )


async def test_five_failures_open_its_circuit(nexus: Nexus, token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Node, **_: Any) -> Any:
        raise OSError("gone")

    monkeypatch.setattr(DataProcessorNode, "run", fail)
    async with served(nexus) as urls:
        caller = Client(urls, token)
        codes = [(await caller.api("data_processor", {"input_data": {"n": n}})).code for n in range(5)]
        assert codes == ["workflow_failed"] * 5
        for channel in CHANNELS:
            assert (await caller.call(channel, "data_processor", PARAMS)).code == "circuit_open"


async def test_a_hundred_run_at_once_and_no_more(nexus: Nexus, token: str) -> None:
    gate = asyncio.Event()

    async def wait_here(n: int) -> int:
        await gate.wait()
        return n

    nexus.register("wait_here", wait_here)
    async with served(nexus) as urls:
        caller = Client(urls, token)
        calls = [asyncio.create_task(caller.api("wait_here", {"n": n})) for n in range(100)]
        await eventually(lambda: nexus.places_in_use == 100, 30)
        assert (await caller.api("wait_here", {"n": 100})).code == "overloaded"
        gate.set()
        assert [answer.result for answer in await asyncio.gather(*calls)] == list(range(100))


async def test_sessions_are_kept_in_redis_for_an_hour(nexus: Nexus, token: str, with_redis: Any) -> None:
    async with served(nexus) as urls:
        made = (await Client(urls, token).http("POST", "/api/sessions")).json()
        assert 3500 < made["expires_at"] - made["created_at"] < 3601
        assert any(made["session_id"].encode() in bytes(key) for key in with_redis.ask("KEYS", "*"))
