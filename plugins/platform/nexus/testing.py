"""Tests of one's own workflows, through every channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus._names import names

if TYPE_CHECKING:
    from nexus_testing import NexusIntegrationTest as NexusIntegrationTest
    from nexus_testing import NexusTestClient as NexusTestClient

__getattr__, __dir__, __all__ = names(
    __name__,
    NexusTestClient="nexus_testing",
    NexusIntegrationTest="nexus_testing",
)
