# Written by `make generate`.

from nexus_testing import NexusIntegrationTest as NexusIntegrationTest
from nexus_testing import NexusTestClient as NexusTestClient

__all__ = [
    "NexusIntegrationTest",
    "NexusTestClient",
]
