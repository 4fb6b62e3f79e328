"""The shape of a workflow, and the registry."""
