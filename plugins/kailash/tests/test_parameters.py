"""How the parameters of a workflow's nodes become one schema, and how callers address them."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from kailash.workflow.builder import WorkflowBuilder
from nexus_kailash.code import free_names

from nexus_core import Nexus, ValidationError
from nexus_core.schema.validation import Validator


def scale(values: list, factor: float = 2.0) -> dict:
    """Multiply every value."""
    return {"scaled": [value * factor for value in values]}


def two_nodes() -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "scale", {"function": scale})
    builder.add_node("PythonCodeNode", "total", {"code": "result = sum(numbers) + offset"})
    builder.add_connection("scale", "result.scaled", "total", "numbers")
    return builder


def same_name() -> WorkflowBuilder:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "a", {"code": "result = x + y"})
    builder.add_node("PythonCodeNode", "b", {"code": "result = x"})
    return builder


async def test_the_schema_has_open_parameters_under_their_own_names(nexus: Nexus) -> None:
    schema = nexus.register("sums", two_nodes()).input_schema
    assert schema["additionalProperties"] is False
    assert {name: part.get("type") for name, part in schema["properties"].items()} == {
        "values": "array", "factor": "number", "offset": None,
    }  # fmt: skip
    assert schema["properties"]["factor"]["default"] == 2.0
    assert set(schema["required"]) == {"values", "offset"}


async def test_a_built_workflow_has_the_same_schema_as_its_builder(nexus: Nexus) -> None:
    from_builder = nexus.register("one", two_nodes()).input_schema
    assert nexus.register("two", two_nodes().build()).input_schema == from_builder


async def test_a_name_that_two_nodes_have_stands_for_both(nexus: Nexus) -> None:
    schema = nexus.register("both", same_name()).input_schema
    assert set(schema["properties"]) == set(schema["required"]) == {"x", "y"}
    for params, expected in (
        ({"x": 1, "y": 10}, (11, 1)),
        ({"a": {"x": 1}, "b": {"x": 2}, "y": 10}, (11, 2)),
        ({"b": {"x": 2}, "x": 1, "y": 10}, (11, 2)),
    ):
        value = (await nexus.invoke("both", params)).value
        assert value == {"a": {"result": expected[0]}, "b": {"result": expected[1]}}
    for params, missing in (({"y": 1}, "/x"), ({"y": 1, "a": {"x": 1}}, "/x")):
        with pytest.raises(ValidationError) as caught:
            await nexus.invoke("both", params)
        assert [error["pointer"] for error in caught.value.errors] == [missing]


async def test_a_name_of_two_kinds_is_published_by_node(nexus: Nexus) -> None:
    def text(x: str) -> list:
        return [x]

    def number(x: int) -> list:
        return [x]

    builder = WorkflowBuilder()
    for name, function in (("a", text), ("b", number)):
        builder.add_node("PythonCodeNode", name, {"function": function})
    schema = nexus.register("kinds", builder).input_schema
    assert set(schema["properties"]) == set(schema["required"]) == {"a", "b"}
    value = (await nexus.invoke("kinds", {"a": {"x": "1"}, "b": {"x": 2}})).value
    assert value == {"a": {"result": ["1"]}, "b": {"result": [2]}}
    with pytest.raises(ValidationError, match="/x: expected string"):
        await nexus.invoke("kinds", {"x": 2})


async def test_a_value_goes_to_its_own_node_only(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "a", {"code": "result = x"})
    builder.add_node("PythonCodeNode", "b", {"code": "x = 'own'\nresult = x"})
    nexus.register("apart", builder)
    assert (await nexus.invoke("apart", {"x": 5})).value == {"a": {"result": 5}, "b": {"result": "own"}}


@pytest.mark.parametrize(
    "params",
    [
        {"values": [1, 2], "factor": 3, "offset": 1},
        {"scale": {"values": [1, 2], "factor": 3}, "total": {"offset": 1}},
        {"scale": {"values": [1, 2]}, "factor": 3, "offset": 1, "total": {}},
    ],
)
async def test_both_addresses_of_a_parameter_mean_the_same(nexus: Nexus, params: dict[str, Any]) -> None:
    nexus.register("sums", two_nodes())
    assert (await nexus.invoke("sums", params)).value == {"total": {"result": 10}}


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        ({}, {"/values": "missing", "/offset": "missing"}),
        ({"values": [1], "scale": {"values": [2]}, "offset": 1}, {"/scale/values": "given twice"}),
        ({"scale": {"values": [2]}, "values": [1], "offset": 1}, {"/values": "given twice"}),
        ({"values": [1], "offset": 1, "facter": 2}, {"/facter": 'did you mean "factor"'}),
        ({"values": [1], "offset": 1, "scal": {}}, {"/scal": 'did you mean "scale"'}),
        ({"values": [1], "offset": 1, "scale": {"facter": 2}}, {"/scale/facter": 'did you mean "factor"'}),
        ({"values": 5, "offset": 1}, {"/values": "expected array, got integer"}),
        ({"scale": {"values": 5}, "offset": 1}, {"/scale/values": "expected array, got integer"}),
        ({"values": [1], "offset": 1, "scale": 3}, {"/scale": "expected an object"}),
        ({"values": [1], "offset": 1, "numbers": [1]}, {"/numbers": "unknown name"}),
        ({"values": [1], "offset": 1, "total": {"code": "result = 1"}}, {"/total/code": "unknown name"}),
    ],
)
async def test_wrong_parameters_are_named_as_the_caller_wrote_them(
    nexus: Nexus, params: dict[str, Any], errors: dict[str, str]
) -> None:
    nexus.register("sums", two_nodes())
    with pytest.raises(ValidationError) as caught:
        await nexus.invoke("sums", params)
    assert [each["pointer"] for each in caught.value.errors] == list(errors)
    for each in caught.value.errors:
        assert errors[each["pointer"]] in each["message"]


async def test_what_the_schema_takes_the_workflow_takes(nexus: Nexus) -> None:
    workflow = nexus.register("both", same_name())
    validator = Validator(workflow.input_schema)
    for params in ({}, {"y": 1}, {"x": 1, "y": 1}, {"a": {}, "b": {"x": 1}, "y": 1}, {"x": 1}):
        fits = not validator.errors(params)
        try:
            workflow.prepare(dict(params))
        except ValidationError:
            assert not fits, params
        else:
            assert fits, params


async def test_a_parameter_may_have_the_name_of_its_node(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "n", {"code": "result = [n]"})
    builder.add_node("PythonCodeNode", "m", {"code": "result = [m, k]"})
    assert set(nexus.register("named", builder).input_schema["required"]) == {"n", "m", "k"}
    for params in ({"n": 1, "m": 2, "k": 3}, {"n": {"n": 1}, "m": {"m": 2, "k": 3}}, {"n": 1, "m": {"m": 2}, "k": 3}):
        assert (await nexus.invoke("named", params)).value == {"n": {"result": [1]}, "m": {"result": [2, 3]}}
    value = (await nexus.invoke("named", {"n": {"x": 1}, "m": 2, "k": 3})).value
    assert value["n"] == {"result": [{"x": 1}]}


async def test_configured_parameters_are_closed_to_callers(nexus: Nexus, csv_file: str) -> None:
    builder = WorkflowBuilder()
    builder.add_node("CSVReaderNode", "read", {"file_path": csv_file})
    schema = nexus.register("rows", builder).input_schema
    assert "file_path" not in schema["properties"]
    with pytest.raises(ValidationError, match="file_path: unknown"):
        await nexus.invoke("rows", {"read": {"file_path": "/etc/hostname"}})


async def test_expected_parameters_close_what_they_do_not_name_and_fill_in_defaults(nexus: Nexus) -> None:
    expected = {
        "values": {"type": "list", "required": True, "items": {"type": "integer"}},
        "offset": {"type": "int", "default": 100},
    }
    workflow = nexus.register("sums", two_nodes(), metadata={"expected_parameters": expected})
    assert set(workflow.input_schema["properties"]) == {"values", "offset"}
    assert workflow.input_schema["required"] == ["values"]
    assert (await nexus.invoke("sums", {"values": [1]})).value == {"total": {"result": 102}}
    assert (await nexus.invoke("sums", {"scale": {"values": [1]}, "offset": 0})).value == {"total": {"result": 2}}
    with pytest.raises(ValidationError, match="/factor: unknown name"):
        await nexus.invoke("sums", {"values": [1], "factor": 2})
    with pytest.raises(ValidationError, match="/values/0: expected integer"):
        await nexus.invoke("sums", {"values": ["a"]})


async def test_expected_parameters_may_name_the_node(nexus: Nexus) -> None:
    expected = {
        "a": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}, "required": ["x"]},
        "b": {"type": "object", "properties": {"x": {"type": "string"}}},
    }
    nexus.register("both", same_name(), metadata={"expected_parameters": expected})
    value = (await nexus.invoke("both", {"a": {"x": 1}, "y": 2, "b": {"x": "text"}})).value
    assert value == {"a": {"result": 3}, "b": {"result": "text"}}


async def test_a_workflow_input_gives_parameters_a_name(nexus: Nexus, csv_file: str) -> None:
    builder = WorkflowBuilder()
    builder.add_node("CSVReaderNode", "read", {"file_path": csv_file})
    builder.add_node("FilterNode", "keep", {"field": "name", "operator": "==", "value": "blue"})
    builder.add_connection("read", "data", "keep", "data")
    builder.add_workflow_inputs("keep", {"colour": "value"})
    workflow = nexus.register("by_colour", builder.build())
    assert "colour" in workflow.input_schema["properties"]
    assert "value" not in workflow.input_schema["properties"]
    for params, expected in (
        ({}, ["20"]),
        ({"colour": "red"}, ["1", "300"]),
        ({"keep": {"value": "red"}}, ["1", "300"]),
    ):
        rows = (await nexus.invoke("by_colour", params)).value["keep"]["filtered_data"]
        assert [row["value"] for row in rows] == expected


async def test_callers_may_fill_in_what_a_configuration_leaves_open(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("FilterNode", "keep", {"field": "${column}", "operator": "==", "value": "b"})
    workflow = nexus.register("keep", builder)
    assert {"column", "data"} <= workflow.input_schema["properties"].keys()
    assert "column" not in workflow.input_schema["required"]
    value = (await nexus.invoke("keep", {"data": [{"name": "a"}, {"name": "b"}], "column": "name"})).value
    assert value["keep"]["filtered_data"] == [{"name": "b"}]


def greet(
    name: str, id: int, mode: Literal["a", "b"] = "a", rows: list[dict[str, int]] | None = None, config: Any = None
) -> list:
    return [name, id, mode, rows, config]


async def test_a_function_says_by_its_hints_what_it_takes(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "greet", {"function": greet})
    schema = nexus.register("greet", builder).input_schema
    assert schema["required"] == ["name", "id"]
    assert schema["properties"]["mode"]["enum"] == ["a", "b"]
    given = {"name": "Ada", "id": 1, "rows": [{"n": 1}], "config": {"x": [1]}}
    assert (await nexus.invoke("greet", given)).value == {"greet": {"result": ["Ada", 1, "a", [{"n": 1}], {"x": [1]}]}}
    for params, complaint in (
        ({"id": 1}, "/name: missing"),
        ({**given, "mode": "c"}, '/mode: expected one of "a", "b"'),
        ({**given, "rows": [{"n": "1"}]}, "/rows/0/n: expected integer"),
    ):
        with pytest.raises(ValidationError, match=complaint):
            await nexus.invoke("greet", params)


async def test_code_takes_inputs_that_are_named_like_its_node_or_python(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "n", {"code": "result = [name, filter, string]"})
    assert nexus.register("open", builder).input_schema["required"] == ["name"]
    expected = {"name": {"type": "str"}, "filter": {"type": "str"}, "string": {"type": "str", "default": "s"}}
    nexus.register("named", builder, {"expected_parameters": expected})
    assert (await nexus.invoke("named", {"name": "a", "filter": "b"})).value == {"n": {"result": ["a", "b", "s"]}}


async def test_a_nodes_own_settings_are_no_parameters(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("AsyncPythonCodeNode", "n", {"code": "result = x"})
    assert list(nexus.register("n", builder).input_schema["properties"]) == ["x"]


async def test_expected_parameters_may_name_what_a_function_takes_by_any_name(nexus: Nexus) -> None:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "n", {"function": lambda a, **rest: [a, rest]})
    for expected in ({"a": {}, "b": {"type": "int"}}, {"n": {"properties": {"a": {}, "b": {"type": "integer"}}}}):
        nexus.register("n", builder, {"expected_parameters": expected}, replace=True)
        assert (await nexus.invoke("n", {"a": 1, "b": 2})).value == {"n": {"result": [1, {"b": 2}]}}
        with pytest.raises(ValidationError, match="/c: unknown name"):
            await nexus.invoke("n", {"a": 1, "c": 2})


@pytest.mark.parametrize("params", [{1: 2}, {"scale": {None: 1}}])
async def test_names_that_are_no_text_are_refused(nexus: Nexus, params: Any) -> None:
    nexus.register("sums", two_nodes())
    with pytest.raises(ValidationError, match="unknown name"):
        await nexus.invoke("sums", params)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("result = x + 1", ["x"]),
        ("y = 1\nresult = y + x", ["x"]),
        ("x = x or 1", ["x"]),
        ("total += x", ["total", "x"]),
        ("import math\nresult = math.pi * r", ["r"]),
        ("result = json.dumps(data)", ["data"]),
        ("for row in rows:\n    print(row)", ["rows"]),
        ("result = [row * k for row in rows if row]", ["rows", "k"]),
        ("result = {a: b for a, b in pairs}", ["pairs"]),
        ("def f(a, *b, c=d, **e):\n    return a + b + c + e + g\nresult = f(1)", ["d", "g"]),
        ("result = sorted(rows, key=lambda row: row[field])", ["rows", "field"]),
        ("try:\n    result = 1\nexcept ValueError as exc:\n    result = str(exc)", []),
        ("with open(path) as f:\n    result = f.read()", ["path"]),
        ("result = (n := len(rows)) + n", ["rows"]),
        ("result = [y for x in xs for y in x]\nresult2 = x", ["xs", "x"]),
        ("match v:\n    case {'a': q, **rest}:\n        result = [q, rest, w]", ["v", "w"]),
        ("match v:\n    case [first, *more]:\n        result = more", ["v"]),
        ("match v:\n    case int() as n if n > m:\n        result = n", ["v", "m"]),
        ("result = (", []),
    ],
)
def test_the_inputs_of_code_are_the_names_it_reads_before_it_binds_them(code: str, names: list[str]) -> None:
    assert list(free_names(code, {"json", "math"})) == names


@pytest.mark.parametrize(
    ("code", "needed"),
    [
        ("try:\n    name = name\nexcept NameError:\n    name = 'World'\nresult = name", {"name": False}),
        ("try:\n    name\nexcept (NameError, KeyError):\n    name = 'World'\nresult = name", {"name": False}),
        ("try:\n    n = n\nexcept:\n    n = 0\nresult = n", {"n": False}),
        ("try:\n    n = n\nexcept Exception:\n    n = 0\nresult = n", {"n": False}),
        ("try:\n    result = a / b\nexcept Exception as e:\n    result = str(e)", {"a": True, "b": True}),
        ("try:\n    result = a / b\nexcept ZeroDivisionError:\n    result = 0", {"a": True, "b": True}),
        ("try:\n    a = a\nexcept NameError:\n    pass\nresult = a + b", {"a": False, "b": True}),
        ("try:\n    result = a\nexcept NameError:\n    result = a + 1", {"a": True}),
        ("result = x if 'x' in locals() else 0", {"x": False}),
        ("if 'x' not in globals():\n    x = 0\nresult = x", {"x": False}),
        ("result = locals().get('x', 5) + y", {"y": True, "x": False}),
        ("try:\n    r = [k for _ in range(n)]\nexcept NameError:\n    r = []", {"k": False, "n": False}),
    ],
)
def test_code_does_without_names_whose_absence_it_handles(code: str, needed: dict[str, bool]) -> None:
    assert free_names(code) == needed
