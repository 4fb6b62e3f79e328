"""The stages that every call passes, and its execution."""
