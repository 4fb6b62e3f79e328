"""One JSON Schema (2020-12) for each workflow: made from type hints or given, and checked against."""
