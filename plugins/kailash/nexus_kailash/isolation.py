"""Keeps runs apart that share their nodes, and what callers give apart from what authors write.

A node is one object for all runs of its workflow. In Kailash 2.65 what it keeps by ``set_workflow_context`` would stay
there for the next caller. And a text with ``${name}`` in it is a placeholder for another input of its node, wherever it
comes from: a caller could read what the nodes before hand on, a secret perhaps.
"""

from __future__ import annotations

import functools
from typing import Any

from nexus_kailash.runtime import current_run

_NOTHING = object()


class KeptByRun(dict[str, Any]):
    """What nodes keep by ``set_workflow_context``: values of the current run, for all of its nodes."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value; outside of Nexus's runs, one that was kept outside of them."""
        run = current_run.get()
        return super().get(key, default) if run is None else run.kept.get(key, default)

    def __setitem__(self, key: str, value: Any) -> None:
        run = current_run.get()
        if run is None:  # a run of somebody else's
            super().__setitem__(key, value)
        else:
            run.kept[key] = value


def take_placeholders_from_authors_only() -> None:
    """Let ``${name}`` mean another input in a node's configuration alone. Runs outside of Nexus are as they were.

    The function is one for the whole process; doing this twice changes nothing.
    """
    from kailash.nodes import base_async  # type: ignore[import-untyped]
    from kailash.runtime import template_resolver  # type: ignore[import-untyped]

    everywhere = template_resolver.resolve_templates
    if hasattr(everywhere, "__wrapped__"):
        return

    @functools.wraps(everywhere)
    def resolve_templates(obj: Any, inputs: dict[str, Any]) -> Any:
        if not isinstance(obj, dict) or current_run.get() is None:
            return everywhere(obj, inputs)
        return {
            name: _copied(value) if inputs.get(name, _NOTHING) is value else everywhere(value, inputs)
            for name, value in obj.items()
        }

    template_resolver.resolve_templates = base_async.resolve_templates = resolve_templates


def _copied(value: Any) -> Any:
    """Return a copy of JSON's containers, as Kailash makes one: a node may change what others are given too."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
