"""`SensitiveParameters`: the parameters of workflows that are secret."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nexus_core import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nexus_core import Workflow

log = logging.getLogger(__name__)

METADATA = "sensitive_parameters"
DEPTH = 32
"""Levels of a schema that are searched."""

_PART = ("items", "additionalProperties", "unevaluatedProperties", "contains", "unevaluatedItems")
_PARTS = ("anyOf", "oneOf", "allOf", "prefixItems", "patternProperties")
"""Keywords with a schema, or several, for a value itself or for its members under unknown names."""


class SensitiveParameters:
    """Finds the parameters of each workflow that are marked as secret."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Workflow, frozenset[str]] = WeakKeyDictionary()

    def names_of(self, workflow: Workflow | None) -> frozenset[str]:
        """Return the names of a workflow's secret parameters, on every level."""
        if workflow is None:
            return frozenset()
        known = self._known.get(workflow)
        if known is None:
            known = self._known[workflow] = self._read(workflow)
        return known

    def _read(self, workflow: Workflow) -> frozenset[str]:
        try:
            return sensitive_names(workflow.input_schema) | sensitive_parameters(workflow)
        except ConfigurationError as exc:  # it was registered after the start
            log.error("%s All of its parameters are redacted.", exc)
            return _EveryName()


class _EveryName(frozenset[str]):
    def __contains__(self, name: object) -> bool:
        return True

    def __or__(self, other: object) -> _EveryName:
        return self


def sensitive_parameters(workflow: Workflow) -> frozenset[str]:
    """Return the parameters that a workflow's metadata marks as sensitive.

    Raises:
        ConfigurationError: The metadata is not a list of names.
    """
    given: Any = workflow.metadata.get(METADATA, ())
    if not isinstance(given, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in given):
        raise ConfigurationError(f'The metadata {METADATA} of the workflow "{workflow.name}" must be a list of names.')
    return frozenset(given)


def sensitive_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the names that a JSON Schema marks as secret: ``writeOnly``, or format ``password``.

    A list or mapping of values that are marked is secret as a whole. Where the values of any further name are, every
    name is.
    """
    if _MarkedSchema(schema).cover(schema):
        return _EveryName()
    found: set[str] = set()
    _collect(schema, _MarkedSchema(schema), found, DEPTH)
    return frozenset(found)


def _collect(schema: Any, marks: _MarkedSchema, found: set[str], depth: int) -> None:
    if depth == 0 or not isinstance(schema, (dict, list)):
        return
    if isinstance(schema, list):
        for each in schema:
            _collect(each, marks, found, depth - 1)
        return
    properties = schema.get("properties")
    if isinstance(properties, dict):
        found.update(name for name, each in properties.items() if marks.cover(each))
    for each in schema.values():
        _collect(each, marks, found, depth - 1)


class _MarkedSchema:
    """Finds marks in schemas of one document."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def cover(self, schema: Any) -> bool:
        """Whether a value that fits a schema is secret, or may hold such a value under a name that is not known."""
        return self._cover(schema, set(), DEPTH)

    def _cover(self, schema: Any, seen: set[str], depth: int) -> bool:
        if depth == 0 or not isinstance(schema, dict):
            return False
        if schema.get("writeOnly") is True or schema.get("format") == "password":
            return True
        parts = [schema.get(word) for word in _PART]
        for word in _PARTS:
            several = schema.get(word)
            parts += several.values() if isinstance(several, dict) else several if isinstance(several, list) else ()
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            seen.add(reference)
            parts.append(self._target(reference))
        return any(self._cover(each, seen, depth - 1) for each in parts)

    def _target(self, reference: str) -> Any:
        """Return the part of the document that a reference names; None where it names none."""
        target: Any = self._root if reference.startswith("#") else None
        for step in reference[1:].split("/")[1:]:
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        return target
