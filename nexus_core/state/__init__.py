"""Shared state: stores, their limits per caller, sessions."""
