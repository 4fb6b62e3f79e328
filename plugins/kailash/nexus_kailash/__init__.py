"""Kailash SDK workflows in Nexus: register a ``WorkflowBuilder`` or a built ``Workflow`` as it is."""

from nexus_kailash.runtime_arguments import with_runtime

__all__ = ["with_runtime"]
