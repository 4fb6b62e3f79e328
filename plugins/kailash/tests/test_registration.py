"""What registration takes, imports, finds out and refuses."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from kailash.workflow.builder import WorkflowBuilder

from nexus_core import ConfigurationError, Nexus, WorkflowError

if TYPE_CHECKING:
    from pathlib import Path


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def builder(*nodes: tuple[str, str, dict[str, Any]], connect: str = "") -> WorkflowBuilder:
    """Make a builder; connections are written as ``a.out>b.in``."""
    made = WorkflowBuilder()
    for node in nodes:
        made.add_node(*node)
    for each in connect.split():
        source, target = each.split(">")
        made.add_connection(*source.split(".", 1), *target.split(".", 1))
    return made


def test_kailash_is_not_imported_before_one_of_its_workflows_is_registered() -> None:
    code = """
import sys
from nexus_core import Nexus
nexus = Nexus()
nexus.register("plain", lambda: 1)
print([name for name in sys.modules if name.split(".")[0] == "kailash"])
"""
    assert python(code) == "[]"


def test_a_builder_finds_the_librarys_nodes_by_name(csv_file: str) -> None:
    code = f"""
from kailash.workflow.builder import WorkflowBuilder
from nexus_core import Nexus
import asyncio
builder = WorkflowBuilder()
builder.add_node("CSVReaderNode", "read", {{"file_path": {csv_file!r}}})
nexus = Nexus()
nexus.register("rows", builder)
print(len(asyncio.run(nexus.invoke("rows")).value["read"]["data"]))
"""
    assert python(code) == "3"


def test_build_finds_them_too_once_there_is_a_nexus(csv_file: str) -> None:
    code = f"""
from nexus_core import Nexus
from kailash.workflow.builder import WorkflowBuilder
import asyncio, sys
nexus = Nexus()
assert "kailash.nodes.data" not in sys.modules
builder = WorkflowBuilder()
builder.add_node("CSVReaderNode", "read", {{"file_path": {csv_file!r}}})
nexus.register("rows", builder.build())
print(len(asyncio.run(nexus.invoke("rows")).value["read"]["data"]))
print([name for name in ("cache", "security", "transform") if f"kailash.nodes.{{name}}" in sys.modules])
"""
    assert python(code) == "3\n[]"


async def test_the_plugins_own_node_checks_data_against_schemas(nexus: Nexus, tmp_path: Path) -> None:
    schema = tmp_path / "data_schema.json"
    schema.write_text('{"properties": {"count": {"type": "integer"}}, "required": ["count"]}')
    workflow = WorkflowBuilder()
    workflow.add_node(
        "DataProcessorNode",
        "processor",
        {"input_format": "json", "output_format": "json", "validation_schema": str(schema)},
    )
    expected = {
        "input_data": {"type": "object", "required": True},
        "validation_rules": {"type": "object", "required": False},
    }
    nexus.register("data_processor", workflow.build(), metadata={"expected_parameters": expected})
    value = (await nexus.invoke("data_processor", {"input_data": {"count": 3}})).value
    assert value == {"processor": {"result": {"count": 3}}}
    for params, complaint in (
        ({"input_data": {"count": "3"}}, "/count: expected integer"),
        ({"input_data": {"count": 3}, "validation_rules": {"required": ["unit"]}}, "/unit: missing"),
        ({"input_data": {"count": 3}, "validation_rules": {"type": "nonsense"}}, "validation_rules: "),
    ):
        with pytest.raises(WorkflowError, match=complaint):
            await nexus.invoke("data_processor", params)


def test_every_node_of_the_library_is_found_in_its_sources_or_its_import_fails_with_a_reason() -> None:
    code = """
import logging
logging.disable()
from kailash.nodes.base import NodeRegistry
from nexus_core import ConfigurationError
from nexus_kailash.library import import_node, node_modules
at_first = set(NodeRegistry.list_nodes())
failed = {}
for name in node_modules():
    try:
        assert import_node(name)
        assert name in NodeRegistry.list_nodes(), name
    except ConfigurationError as exc:
        failed[name] = str(exc)
registered = set(NodeRegistry.list_nodes())
assert at_first < registered <= set(node_modules()), registered - set(node_modules())
assert all(name in reason and node_modules()[name] in reason for name, reason in failed.items()), failed
print(len(node_modules()) > 100)
"""
    assert python(code) == "True"


async def test_an_unknown_node_is_named_with_the_nearest_one(nexus: Nexus) -> None:
    with pytest.raises(
        ConfigurationError, match=r'numbers: node "read": .*"CSVReadrNode".*Did you mean "CSVReaderNode"'
    ):
        nexus.register("numbers", builder(("CSVReadrNode", "read", {})))
    assert nexus.list_workflows() == []


async def test_a_node_whose_module_cannot_be_imported_says_why(nexus: Nexus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kailash.nodes.data.streaming", None)
    from kailash.nodes.base import NodeRegistry

    known = dict(NodeRegistry.list_nodes())
    known.pop("KafkaConsumerNode", None)
    monkeypatch.setattr(NodeRegistry, "_nodes", known)
    with pytest.raises(
        ConfigurationError,
        match=r"KafkaConsumerNode.*kailash\.nodes\.data\.streaming.*import.*nexus-hub-kailash\[nodes\]",
    ):
        nexus.register("stream", builder(("KafkaConsumerNode", "read", {})))


NODE = """
from kailash.nodes.base import Node, register_node

@register_node()
class LLMEchoNode(Node):
    def get_parameters(self):
        return {}

    def run(self, **inputs):
        return {"result": "echo"}
"""


def test_nodes_of_an_installed_companion_are_found_by_name(tmp_path: Path) -> None:
    nodes = tmp_path / "companion" / "nodes" / "ai.py"
    nodes.parent.mkdir(parents=True)
    nodes.write_text(NODE)
    (tmp_path / "companion" / "__init__.py").write_text("")
    metadata = tmp_path / "companion-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: companion\nVersion: 1.0\nRequires-Dist: kailash>=2\n"
    )
    (metadata / "top_level.txt").write_text("companion\n")
    code = """
import asyncio, sys
from kailash.workflow.builder import WorkflowBuilder
from nexus_core import Nexus
builder = WorkflowBuilder()
builder.add_node("LLMEchoNode", "echo", {})
nexus = Nexus()
nexus.register("echo", builder)
print(asyncio.run(nexus.invoke("echo")).value)
"""
    assert python(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}") == "{'echo': {'result': 'echo'}}"


async def test_a_node_for_ai_that_is_not_installed_names_its_distribution(
    nexus: Nexus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaizen", None)
    with pytest.raises(ConfigurationError, match=r'no node "LLMAgentNode".*pip install kailash-kaizen'):
        nexus.register("agent", builder(("LLMAgentNode", "agent", {})))


async def test_a_wrong_configuration_names_the_node(nexus: Nexus) -> None:
    with pytest.raises(ConfigurationError, match=r"sums: .*total"):
        nexus.register("sums", builder(("PythonCodeNode", "total", {})))


@pytest.mark.parametrize(("code", "reason"), [("result = (", "syntax"), ("import subprocess", "subprocess")])
async def test_code_that_kailash_would_never_run_is_refused(nexus: Nexus, code: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f'(?i)never: node "bad": .*{reason}'):
        nexus.register("never", builder(("PythonCodeNode", "bad", {"code": code})))


async def waits(x: int) -> int:
    return x


def streams(x: int) -> Any:
    yield x


def by_position(x: int, /) -> int:
    return x


def any_number(*xs: int) -> int:
    return sum(xs)


def on(day: datetime.date) -> str:
    return str(day)


def optionally_on(x: int, day: datetime.date | None = None) -> list:
    return [x, str(day)]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (waits, "'waits' is async"), (streams, "'streams' is a generator"), (by_position, '"x" by position'),
        (any_number, '"xs" by position'), (on, "callers can't give \"day\""),
    ],
)  # fmt: skip
async def test_a_function_that_kailash_would_never_run_rightly_is_refused(
    nexus: Nexus, function: Any, reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=f'never: node "bad": .*{reason}'):
        nexus.register("never", builder(("PythonCodeNode", "bad", {"function": function})))


async def test_what_callers_cannot_give_and_need_not_is_no_parameter(nexus: Nexus) -> None:
    workflow = nexus.register("maybe", builder(("PythonCodeNode", "n", {"function": optionally_on})))
    assert list(workflow.input_schema["properties"]) == ["x"]
    assert (await nexus.invoke("maybe", {"x": 1})).value == {"n": {"result": [1, "None"]}}


async def test_a_connection_to_an_input_that_is_not_there_is_refused(nexus: Nexus, csv_file: str) -> None:
    wrong = builder(
        ("CSVReaderNode", "read", {"file_path": csv_file}),
        ("FilterNode", "keep", {"field": "name", "value": "red"}),
        connect="read.data>keep.dta",
    )
    with pytest.raises(ConfigurationError, match=r'"read\.data" is connected to "keep\.dta".*Did you mean "data"'):
        nexus.register("red", wrong)


async def test_an_empty_workflow_and_one_that_goes_round_are_refused(nexus: Nexus) -> None:
    with pytest.raises(ConfigurationError, match="has no node"):
        nexus.register("empty", WorkflowBuilder())
    round_ = builder(
        ("PythonCodeNode", "a", {"code": "result = x"}),
        ("PythonCodeNode", "b", {"code": "result = x"}),
        connect="a.result>b.x b.result>a.x",
    )
    with pytest.raises(ConfigurationError, match=r"round: .*cycle"):
        nexus.register("round", round_)


@pytest.mark.parametrize(
    ("expected", "complaint"),
    [
        ({"factr": {"type": "number"}, "value": {}}, 'names "factr".*Did you mean "factor"'),
        ({"factor": {"type": "number"}}, 'node "scale" needs "value"'),
        ({"scale": {"type": "object", "properties": {"valu": {}}}}, r'names "scale\.valu".*Did you mean "value"'),
        ({"value": {"type": "wrong"}, "factor": {}}, r"expected_parameters\['value'\]"),
    ],
)
async def test_expected_parameters_that_do_not_fit_are_refused(nexus: Nexus, expected: Any, complaint: str) -> None:
    scale = builder(("PythonCodeNode", "scale", {"code": "result = value * factor"}))
    with pytest.raises(ConfigurationError, match=f"scale: .*{complaint}"):
        nexus.register("scale", scale, metadata={"expected_parameters": expected})


async def test_expected_parameters_may_name_what_several_nodes_take(nexus: Nexus) -> None:
    twice = builder(("PythonCodeNode", "a", {"code": "result = x"}), ("PythonCodeNode", "b", {"code": "result = x"}))
    workflow = nexus.register("twice", twice, metadata={"expected_parameters": {"x": {"type": "integer"}}})
    assert workflow.input_schema["properties"] == {"x": {"type": "integer"}}
    assert (await nexus.invoke("twice", {"x": 1})).value == {"a": {"result": 1}, "b": {"result": 1}}


async def test_what_is_not_kailash_is_left_to_others(nexus: Nexus, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"installed plugins support .*Kailash workflows"):
        nexus.register("path", tmp_path)


def test_kailash_keeps_quiet_and_the_root_logger_is_left_alone() -> None:
    code = """
import logging, asyncio
logging.basicConfig(level=logging.DEBUG, format="%(name)s %(levelname)s")
before = logging.getLogger().level, list(logging.getLogger().handlers)
from kailash.workflow.builder import WorkflowBuilder
from nexus_core import Nexus
builder = WorkflowBuilder()
builder.add_node("PythonCodeNode", "n", {"function": lambda x: {"y": x}})
nexus = Nexus()
nexus.register("n", builder)
import sys
async def twice():
    print("first", file=sys.stderr)
    await nexus.invoke("n", {"x": 1})
    print("second", file=sys.stderr)
    await nexus.invoke("n", {"x": 1})
asyncio.run(twice())
assert before == (logging.getLogger().level, list(logging.getLogger().handlers))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    first, _, second = done.stderr.partition("first")[2].partition("second")
    said = [line for line in first.splitlines() if "kailash" in line.lower()]
    assert [line for line in said if "WARNING" not in line] == []  # that optional parts are missing, it says once
    assert "kailash" not in second.lower()
