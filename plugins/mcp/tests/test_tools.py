"""The schema of a reply around the schema of a result."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from jsonschema import Draft202012Validator
from nexus_mcp.tools import Catalogue, reply_schema
from pydantic import BaseModel

from nexus_core import Nexus


class Node(BaseModel):
    name: str
    children: list[Node] = []


@dataclass
class Branch:
    name: str
    children: list[Branch] = field(default_factory=list)


TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
            "required": ["children"],
        }
    },
}
SELF = {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"]}
INNER = {"properties": {"a": {"type": "integer"}, "b": {"$ref": "#/properties/a"}}}
NAMED_REF = {"properties": {"$ref": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (TREE, {"children": [{"children": []}]}, {"children": [{}]}),
        (SELF, {"next": {"next": None}}, {"next": {"next": 1}}),
        (INNER, {"a": 1, "b": 2}, {"b": "x"}),
        (NAMED_REF, {"$ref": 1}, {"$ref": "x"}),
        ({"type": "integer"}, 1, "1"),
    ],
)
def test_references_stay_valid(schema, right, wrong):
    wrapped = reply_schema(schema)
    Draft202012Validator.check_schema(wrapped)
    validator = Draft202012Validator(wrapped)
    assert validator.is_valid({"result": right, "run_id": "r"})
    assert not validator.is_valid({"result": wrong, "run_id": "r"})
    assert not validator.is_valid({"result": right})


def test_a_result_without_schema_may_be_anything():
    validator = Draft202012Validator(reply_schema(None))
    assert validator.is_valid({"result": None, "run_id": "r", "cached": True})
    assert not validator.is_valid({"run_id": "r"})


@pytest.mark.parametrize("kind", [Node, Branch])
def test_recursive_types(kind):
    nexus = Nexus(discover=False)

    async def same(value):
        return value

    same.__annotations__ = {"value": kind, "return": kind}
    tool = Catalogue(nexus.workflows).tool(nexus.register("same", same))
    right, wrong = ({"name": "a", "children": [{"name": "b", "children": [leaf]}]} for leaf in ({"name": "c"}, {}))
    for schema, around in (("inputSchema", {"value": ...}), ("outputSchema", {"result": ..., "run_id": "r"})):
        Draft202012Validator.check_schema(tool[schema])
        validator = Draft202012Validator(tool[schema])
        assert validator.is_valid({name: right if value is ... else value for name, value in around.items()})
        assert not validator.is_valid({name: wrong if value is ... else value for name, value in around.items()})
