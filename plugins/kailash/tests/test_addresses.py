"""What the published schema takes is taken, whatever nodes, names and envelopes a workflow has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from nexus_kailash.addresses import Addresses
from nexus_kailash.envelope import PARAMETERS, Envelope
from nexus_kailash.parameters import Nodes, Parameter

from nexus_core import ValidationError
from nexus_core.schema.validation import Validator

if TYPE_CHECKING:
    from collections.abc import Mapping

NAMES = st.sampled_from(["a", "b", "c", "x", "y", "parameters", "workflow_context"])
SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {}, {"type": "integer"}, {"type": "integer", "default": 3}, {"type": "string"}, {"type": "object"}]
)
PARAMETERS_OF_A_NODE = st.dictionaries(NAMES, st.builds(Parameter, SCHEMAS, st.booleans()), max_size=3)
NODES = st.dictionaries(NAMES, PARAMETERS_OF_A_NODE, min_size=1, max_size=3)
VALUES = st.sampled_from([1, "text", {}, {"x": 1}, {"a": {"x": 2}}, [], None])


@st.composite
def workflows(draw: st.DrawFn) -> tuple[Nodes, Addresses]:
    nodes: Nodes = draw(NODES)
    targets = [(node, name) for node, own in nodes.items() for name in own]
    aliases: dict[str, list[tuple[str, str]]] = {}
    if targets:
        aliases = draw(
            st.dictionaries(NAMES, st.lists(st.sampled_from(targets), min_size=1, max_size=2, unique=True), max_size=2)
        )
    envelope = Envelope()
    if PARAMETERS not in nodes and PARAMETERS not in aliases and draw(st.booleans()):
        taker = draw(st.sampled_from(sorted(nodes)))
        nodes[taker].pop(PARAMETERS, None)
        aliases = {
            name: kept
            for name, each in aliases.items()
            if (kept := [target for target in each if target != (taker, PARAMETERS)])
        }
        envelope = Envelope([taker], draw(st.booleans()))
        read = draw(PARAMETERS_OF_A_NODE)
        if envelope.is_open:  # then no author has named a parameter and its schema
            read = {name: Parameter(required=each.required) for name, each in read.items()}
        nodes[PARAMETERS] = read
    context = draw(st.sampled_from([None, {"type": "object"}])) if "workflow_context" not in nodes else None
    return nodes, Addresses(nodes, aliases, envelope, context)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Nodes, Addresses, dict[str, Any]]:
    nodes, addresses = draw(workflows())
    given_ = draw(st.dictionaries(NAMES, VALUES, max_size=5))
    choices = {"integer": 1, "string": "text", "object": {}}
    for name in addresses.schema["required"]:
        wanted = addresses.schema["properties"][name]
        if "properties" in wanted:
            given_[name] = {each: choices.get(wanted["properties"][each].get("type"), 1) for each in wanted["required"]}
        else:
            given_.setdefault(name, choices.get(wanted.get("type"), 1))
    return nodes, addresses, given_


def call_of_open_envelope(nodes: Nodes, given_: dict[str, Any]) -> tuple[Nodes, Addresses, dict[str, Any]]:
    nodes |= {"taker": {}, PARAMETERS: {}}
    return nodes, Addresses(nodes, {}, Envelope(["taker"], is_open=True)), given_


def call_that_gives_twice() -> tuple[Nodes, Addresses, dict[str, Any]]:
    nodes: Nodes = {"a": {}, PARAMETERS: {"a": Parameter(), "x": Parameter()}}
    return nodes, Addresses(nodes, {}, Envelope(["a"], is_open=True)), {"x": 1, "a": 1, PARAMETERS: {"x": 1}}


def is_given_twice(error: Mapping[str, Any], given_: Mapping[str, Any]) -> bool:
    """Whether an error says that a parameter is given twice, and it is."""
    found = re.fullmatch(r"given twice: (/\S+) means the same parameter", error["message"])
    if found is None:
        return False
    for place in (error["pointer"], found[1]):
        value: Any = given_
        for name in place.split("/")[1:]:
            if not isinstance(value, dict) or name not in value:
                return False
            value = value[name]
    return True


@settings(max_examples=100)
@given(calls())
@example(call_that_gives_twice())
@example(call_of_open_envelope({"a": {PARAMETERS: Parameter()}}, {"a": {PARAMETERS: 1}, PARAMETERS: {"x": 1}}))
@example(
    call_of_open_envelope(
        {"a": {"x": Parameter({"type": "integer"})}, "b": {"x": Parameter({"type": "string"})}}, {"x": 1}
    )
)
def test_what_the_schema_takes_is_taken(call: tuple[Nodes, Addresses, dict[str, Any]]) -> None:
    nodes, addresses, given_ = call
    try:
        inputs = addresses.inputs(given_)
    except ValidationError as exc:
        told = {error["pointer"] for error in exc.errors}
        published = addresses.schema["properties"].items()
        several = [name for name, each in published if "names" in each.get("description", "")]
        twice = all(is_given_twice(error, given_) for error in exc.errors)  # no schema can say that
        assert Validator(addresses.schema).errors(given_) or several or twice, (given_, addresses.schema, told)
    else:
        for node, own in nodes.items():
            if node in inputs:
                missing = {name for name, each in own.items() if each.required} - inputs[node].keys()
                assert not missing, (given_, addresses.schema, inputs)
