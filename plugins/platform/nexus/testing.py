"""Tests of workflows through every channel."""

from __future__ import annotations

from nexus._names import names

__getattr__, __dir__, __all__ = names(
    __name__,
    NexusTestClient="nexus_testing",
    NexusIntegrationTest="nexus_testing",
)
