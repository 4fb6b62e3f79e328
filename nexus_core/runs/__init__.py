"""Runs, their history, and the context that a workflow gets."""
