"""Kailash SDK workflows in Nexus: register a ``WorkflowBuilder`` or a built ``Workflow`` as it is."""
