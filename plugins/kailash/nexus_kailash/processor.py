"""``DataProcessorNode``: checks JSON data against JSON Schemas and passes it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kailash.nodes.base import Node, NodeParameter, register_node  # type: ignore[import-untyped]

from nexus_core import WorkflowError
from nexus_core.schema.report import summary
from nexus_core.schema.validation import Validator
from nexus_kailash.rules import caller_validator


@register_node()
class DataProcessorNode(Node):  # type: ignore[misc]
    """Takes ``input_data`` and gives it back as ``result``, if it fits the schemas.

    ``validation_schema`` is the path of a JSON Schema, relative to the working directory of the server; only the
    workflow's author sets it. ``validation_rules`` is a JSON Schema that callers may send where
    ``expected_parameters`` names it.
    """

    def get_parameters(self) -> dict[str, NodeParameter]:
        """Return what the node takes."""
        rows: list[tuple[str, type, bool, Any, str]] = [
            ("input_data", dict, True, None, "The data."),
            ("validation_rules", dict, False, None, "A JSON Schema that the data must fit too."),
            ("validation_schema", str, False, None, "The path of a JSON Schema that the data must fit."),
            ("input_format", str, False, "json", "The data's format: json."),
            ("output_format", str, False, "json", "The result's format: json."),
        ]
        return {
            name: NodeParameter(name=name, type=kind, required=required, default=default, description=text)
            for name, kind, required, default, text in rows
        }

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Check the data.

        Raises:
            WorkflowError: The data or ``validation_rules`` is wrong; the message says where.
            ValueError: The author's configuration is wrong.
        """
        for name in ("input_format", "output_format"):
            if inputs.get(name, "json") != "json":
                raise ValueError(f"{name} must be json")
        data = inputs["input_data"]
        if path := inputs.get("validation_schema"):
            _check(data, Validator(json.loads(Path(path).read_text(encoding="utf-8"))))
        if rules := inputs.get("validation_rules"):
            _check(data, caller_validator(rules, data))
        return {"result": data}


def _check(data: Any, validator: Validator) -> None:
    if errors := validator.errors(data):
        raise WorkflowError(f"input_data is not valid: {summary(errors)}")
