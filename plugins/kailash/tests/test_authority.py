"""Which parameters callers may set without the author's word, and what a caller's schema may do."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from kailash.nodes.base import Node, NodeParameter
from kailash.workflow.builder import WorkflowBuilder

from nexus_core import ConfigurationError, Nexus, ValidationError, WorkflowError

if TYPE_CHECKING:
    from pathlib import Path


def one(kind: str, **config: Any) -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node(kind, "node", config)
    return builder


@pytest.mark.parametrize(
    ("kind", "config", "closed", "open_"),
    [
        ("DataProcessorNode", {}, {"validation_rules", "validation_schema"}, {"input_data"}),
        ("CSVReaderNode", {"file_path": "a.csv"}, {"file_path"}, {"delimiter"}),
        ("DirectoryReaderNode", {"directory_path": "."}, {"file_patterns", "exclude_patterns"}, {"recursive"}),
        ("CacheNode", {"operation": "get"}, {"pattern", "redis_url"}, {"key"}),
        (
            "AsyncSQLDatabaseNode",
            {"database_type": "sqlite", "connection_string": "sqlite:///x.db", "query": "SELECT 1"},
            {"connection_string", "query", "host", "password", "allow_admin", "validate_queries", "config_file"},
            {"params"},
        ),
        ("WebSocketNode", {"url": "ws://localhost", "action": "connect"}, {"headers", "ssl_verify"}, {"message"}),
        ("ConvergenceCheckerNode", {}, {"custom_expression"}, {"threshold"}),
        ("OptimisticLockingNode", {"table_name": "t"}, {"table_name", "version_field", "id_field"}, {"record_id"}),
        (
            "BulkCreateNode",
            {"database_type": "sqlite", "connection_string": "sqlite:///x.db", "table_name": "t"},
            {"columns", "returning_columns"},
            {"records"},
        ),
    ],
)
async def test_settings_of_library_nodes_are_the_authors(
    nexus: Nexus, kind: str, config: dict[str, Any], closed: set[str], open_: set[str]
) -> None:
    workflow = nexus.register("one", one(kind, **config))
    properties = workflow.input_schema["properties"]
    assert not closed & properties.keys()
    assert open_ <= properties.keys()
    for name in closed:
        for params in ({name: "x"}, {"node": {name: "x"}}):
            with pytest.raises(ValidationError) as caught:
                await nexus.invoke("one", params)
            assert any(error["message"].startswith("unknown name") for error in caught.value.errors)


async def test_an_author_opens_a_setting_by_naming_it(nexus: Nexus, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")
    expected = {"file_path": {"type": "string", "enum": [str(tmp_path / "a.csv")]}}
    nexus.register("rows", one("CSVReaderNode", file_path="other.csv"), {"expected_parameters": expected})
    assert (await nexus.invoke("rows", {"file_path": str(tmp_path / "a.csv")})).value["node"]["data"] == [{"n": "1"}]
    with pytest.raises(ValidationError, match="expected one of"):
        await nexus.invoke("rows", {"file_path": "/etc/hostname"})
    builder = one("CacheNode", operation="get")
    builder.add_workflow_inputs("node", {"keys_like": "pattern"})
    assert "keys_like" in nexus.register("cache", builder).input_schema["properties"]


async def test_a_setting_that_is_left_to_callers_is_logged(nexus: Nexus, caplog: pytest.LogCaptureFixture) -> None:
    nexus.register("rows", one("CSVReaderNode"))
    assert "rows: callers choose node.file_path (path)" in caplog.text
    caplog.clear()
    nexus.register("sure", one("CSVReaderNode"), {"expected_parameters": {"file_path": {"type": "string"}}})
    assert "callers choose" not in caplog.text


class Own(Node):
    def get_parameters(self) -> dict[str, NodeParameter]:
        return {"path": NodeParameter(name="path", type=str, required=False, default="a")}

    def run(self, **inputs: Any) -> dict[str, Any]:
        return {"result": inputs["path"]}


async def test_a_node_of_the_authors_own_publishes_what_it_declares(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node(Own, "node", {})
    nexus.register("own", builder)
    assert (await nexus.invoke("own", {"path": "b"})).value == {"node": {"result": "b"}}


async def test_no_author_lets_callers_name_the_schema_file(nexus: Nexus) -> None:
    expected = {"input_data": {"type": "object"}, "validation_schema": {"type": "string"}}
    with pytest.raises(ConfigurationError, match='"validation_schema", which no node takes'):
        nexus.register("check", one("DataProcessorNode"), {"expected_parameters": expected})


def doubling(levels: int) -> dict[str, Any]:
    definitions = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": definitions | {f"a{levels}": {}}}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ({"properties": {"text": {"pattern": "^(a+)+$"}}}, "/text: expected text that matches"),
        ({"properties": {"text": {"pattern": "(?=a)(a+)+b"}}}, "patterns have no lookaround"),
        ({"properties": {"text": {"pattern": r"^(?:(a+)\1)+$"}}}, "patterns have no lookaround"),
        ({"patternProperties": {"(?=t)(t|e)*x": {}}}, "patterns have no lookaround"),
        ({"properties": {"text": {"pattern": "(a{1000}){1000}"}}}, "no large repetitions"),
        ({"properties": {"pattern": {"pattern": "(?=a)b"}}}, "patterns have no lookaround"),
        (doubling(40), r"\$ref is not supported"),
        ({"$ref": "http://localhost/schema.json"}, r"\$ref is not supported"),
        (nested(100), "levels of nested schemas"),
        ({"allOf": [{"pattern": "[ab]*a[ab]{100}c"}] * 100}, "bytes of rules are too many"),
        ({"type": "nonsense"}, "validation_rules: "),
    ],
)
async def test_a_callers_schema_has_bounded_work(nexus: Nexus, rules: dict[str, Any], complaint: str) -> None:
    expected = {"input_data": {"type": "object", "required": True}, "validation_rules": {"type": "object"}}
    nexus.register("check", one("DataProcessorNode"), {"expected_parameters": expected})
    begin = time.monotonic()
    with pytest.raises(WorkflowError, match=complaint):
        await nexus.invoke("check", {"input_data": {"text": "a" * 30_000 + "!"}, "validation_rules": rules})
    assert time.monotonic() - begin < 5


async def test_a_callers_schema_is_applied(nexus: Nexus) -> None:
    expected = {"input_data": {"type": "object", "required": True}, "validation_rules": {"type": "object"}}
    nexus.register("check", one("DataProcessorNode"), {"expected_parameters": expected})
    rules = {"properties": {"code": {"pattern": r"^\w{2}-\d+$"}}, "required": ["code"], "default": {"$ref": "#"}}
    value = (await nexus.invoke("check", {"input_data": {"code": "ab-12"}, "validation_rules": rules})).value
    assert json.dumps(value) == '{"node": {"result": {"code": "ab-12"}}}'
    with pytest.raises(WorkflowError, match="/code: missing"):
        await nexus.invoke("check", {"input_data": {}, "validation_rules": rules})
