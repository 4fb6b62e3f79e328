"""Kailash SDK workflows in Nexus: register a ``WorkflowBuilder`` or a built ``Workflow`` as it is."""

from nexus_kailash.author import with_runtime

__all__ = ["with_runtime"]
