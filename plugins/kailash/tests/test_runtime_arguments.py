"""Arguments of Kailash's runtime that authors set: connection validation, a secret provider, resources."""

from __future__ import annotations

from typing import Any

import pytest
from kailash.nodes.base import Node, NodeParameter
from kailash.resources.registry import ResourceRegistry
from kailash.runtime.secret_provider import SecretProvider, SecretRequirement
from kailash.workflow.builder import WorkflowBuilder
from kailash.workflow.contracts import ConnectionContract
from nexus_kailash import with_runtime
from nexus_kailash.plugin import KailashPlugin

from nexus_core import ConfigurationError, Nexus, ValidationError
from nexus_core.errors import WorkflowFailed


def contract() -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "a", {"code": "result = {'n': n}"})
    builder.add_node("PythonCodeNode", "b", {"code": "result = [n]"})
    schema = {"type": "integer", "minimum": 0}
    positive = ConnectionContract(name="positive", source_schema=schema, target_schema=schema)
    builder.add_typed_connection("a", "result.n", "b", "n", contract=positive)
    return builder


def signed(n: int) -> dict:
    return {"n": n}


def typed() -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "a", {"code": "result = 'text'"})
    builder.add_node("PythonCodeNode", "b", {"function": signed})
    builder.add_connection("a", "result", "b", "n")
    return builder


class Door(Node):
    """Returns whether the secret it was given is the right one."""

    def get_parameters(self) -> dict[str, NodeParameter]:
        return {
            "name": NodeParameter(name="name", type=str, required=True),
            "key": NodeParameter(name="key", type=str, required=True),
        }

    def get_secret_requirements(self) -> list[SecretRequirement]:
        return [SecretRequirement("door-key", "key")]

    def run(self, **inputs: Any) -> dict[str, Any]:
        return {"result": [inputs["name"], inputs["key"]]}


class Vault(SecretProvider):
    def __init__(self, **secrets: str) -> None:
        self.secrets = secrets

    def get_secret(self, name: str, version: str | None = None) -> str:
        return self.secrets[name.replace("-", "_")]

    def list_secrets(self) -> list[str]:
        return list(self.secrets)


def door() -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node(Door, "door", {})
    return builder


async def test_strict_connections_fail_the_run(nexus: Nexus, caplog: pytest.LogCaptureFixture) -> None:
    for mode in ("strict", "warn", "off"):
        nexus.register(mode, with_runtime(contract(), connection_validation=mode))
    nexus.register("default", contract())
    for name in ("strict", "warn", "off", "default"):
        assert (await nexus.invoke(name, {"n": 1})).value == {"b": {"result": [1]}}
    assert "contract" not in caplog.text
    with pytest.raises(WorkflowFailed):
        await nexus.invoke("strict", {"n": -1})
    assert 'node "b"' in caplog.text
    for name, warns in (("warn", True), ("default", True), ("off", False)):
        caplog.clear()
        assert (await nexus.invoke(name, {"n": -1})).value == {"b": {"result": [-1]}}
        assert ('inputs of the node "b" break the contract' in caplog.text) is warns


async def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="connection_validation must be one of off, warn, strict"):
        with_runtime(contract(), connection_validation="hard")  # type: ignore[arg-type]


async def test_secrets_come_from_the_provider_in_each_run_and_never_from_callers(nexus: Nexus) -> None:
    vault = Vault(door_key="one")
    workflow = nexus.register("door", with_runtime(door(), secret_provider=vault))
    assert workflow.input_schema["properties"].keys() == {"name"}
    assert (await nexus.invoke("door", {"name": "Ada"})).value == {"door": {"result": ["Ada", "one"]}}
    vault.secrets["door_key"] = "two"
    assert (await nexus.invoke("door", {"name": "Ada"})).value == {"door": {"result": ["Ada", "two"]}}
    for params in ({"name": "Ada", "key": "x"}, {"door": {"name": "Ada", "key": "x"}}):
        with pytest.raises(ValidationError, match="key: unknown name"):
            await nexus.invoke("door", params)
    vault.secrets.clear()
    with pytest.raises(WorkflowFailed):
        await nexus.invoke("door", {"name": "Ada"})
    assert set(nexus.register("open", door()).input_schema["required"]) == {"name", "key"}


class Counter:
    closed = 0

    def __init__(self) -> None:
        self.uses = 0


async def test_resources_are_shared_by_runs_and_cleaned_up_at_the_end() -> None:
    registry, made = ResourceRegistry(), []

    class Factory:
        async def create(self) -> Counter:
            made.append(Counter())
            return made[-1]

        def get_config(self) -> dict[str, Any]:
            return {}

    async def close(counter: Counter) -> None:
        counter.closed += 1

    registry.register_factory("counter", Factory(), cleanup_handler=close)
    builder = WorkflowBuilder()
    text = "counter = await get_resource('counter')\ncounter.uses += 1\nresult = {'uses': counter.uses}"
    builder.add_node("AsyncPythonCodeNode", "n", {"code": text})
    nexus = Nexus(discover=False, plugins=[KailashPlugin])
    nexus.register("use", with_runtime(builder, resource_registry=registry))
    async with nexus:
        values = [(await nexus.invoke("use")).value["n"] for _ in range(2)]
    assert [value.get("uses", value.get("result", {}).get("uses")) for value in values] == [1, 2]
    assert [counter.closed for counter in made] == [1]
    async with nexus:
        await nexus.invoke("use")
    assert len(made) == 2
