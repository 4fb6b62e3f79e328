"""Lines of JSON, and which parameters are marked as secret."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_logs.lines import json_line
from nexus_toolkit.sensitive import sensitive_names

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


def test_marks_in_schemas():
    schema = {
        "properties": {
            "a": {"type": "string", "writeOnly": True},
            "b": {"anyOf": [{"type": "string", "format": "password"}, {"type": "null"}]},
            "c": {"type": "string"},
            "d": {"$ref": "#/$defs/d"},
        },
        "$defs": {"d": {"properties": {"e": {"format": "password"}, "f": {"type": "object"}}}},
    }
    assert sensitive_names(schema) == {"a", "b", "e"}


SECRET = {"type": "string", "format": "password"}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": SECRET},
        {"type": "array", "items": {"type": "array", "items": SECRET}},
        {"anyOf": [{"type": "array", "items": SECRET}, {"type": "null"}]},
        {"type": "array", "prefixItems": [{"type": "integer"}, SECRET]},
        {"type": "object", "additionalProperties": SECRET},
        {"type": "object", "patternProperties": {"^x-": SECRET}},
        {"$ref": "#/$defs/Key"},
        {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
    ],
)
def test_marks_of_the_values_of_lists_and_mappings(schema):
    definitions = {
        "Key": SECRET,
        "Tree": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Tree"}}, {"$ref": "#/$defs/Key"}]},
        "Lost": {"$ref": "#/$defs/Lost"},
    }
    others = {"plain": {"type": "array", "items": {"$ref": "#/$defs/Lost"}}, "far": {"$ref": "https://example.com/x"}}
    assert sensitive_names({"properties": {"keys": schema, **others}, "$defs": definitions}) == {"keys"}


def test_a_mark_of_every_further_parameter():
    found = sensitive_names({"properties": {"a": {"type": "string"}}, "additionalProperties": SECRET})
    assert "whatever" in found


@given(JSON)
def test_lines_are_one_line_of_json_without_control_characters(value):
    line = json_line({"value": value})
    text = line.decode()
    assert len(text.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202e]", text)
    json.loads(text)


def test_lines_of_what_can_not_be_encoded():
    class Nasty:
        def __repr__(self):
            raise ValueError

    assert json.loads(json_line({"a": Nasty(), "b": 2**80, "c": "\ud800"})) == {
        "a": "<Nasty>",
        "b": str(2**80),
        "c": "\\ud800",
    }
