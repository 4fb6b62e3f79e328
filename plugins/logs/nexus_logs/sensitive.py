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
    """Return the names that a JSON Schema marks as secret: ``writeOnly``, or format ``password``."""
    found: set[str] = set()
    _marked(schema, found, DEPTH)
    return frozenset(found)


def _marked(schema: Any, found: set[str], depth: int) -> None:
    if depth == 0 or not isinstance(schema, (dict, list)):
        return
    if isinstance(schema, list):
        for each in schema:
            _marked(each, found, depth - 1)
        return
    properties = schema.get("properties")
    if isinstance(properties, dict):
        found.update(name for name, each in properties.items() if _is_marked(each))
    for each in schema.values():
        _marked(each, found, depth - 1)


def _is_marked(schema: Any) -> bool:
    if not isinstance(schema, dict):
        return False
    if schema.get("writeOnly") is True or schema.get("format") == "password":
        return True
    return any(_is_marked(each) for word in ("anyOf", "oneOf", "allOf") for each in schema.get(word) or ())
