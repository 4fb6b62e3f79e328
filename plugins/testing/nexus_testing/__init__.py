"""Tests of workflows through every channel of a platform, in this process and without ports."""

from __future__ import annotations

from nexus_testing.client import McpError as McpError
from nexus_testing.client import NexusTestClient as NexusTestClient
from nexus_testing.integration import NexusIntegrationTest as NexusIntegrationTest
