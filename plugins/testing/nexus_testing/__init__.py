"""Tests of workflows through every channel, in one process and without ports."""

from __future__ import annotations

from nexus_testing.client import McpError as McpError
from nexus_testing.client import NexusTestClient as NexusTestClient
from nexus_testing.integration import NexusIntegrationTest as NexusIntegrationTest
