"""The metadata of workflows, and whether it is enforced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core.workflows.metadata import ENFORCE, unenforced_permissions, without_effect
from nexus_health.doctor.findings import Finding, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core.app.nexus import Nexus


def workflows(nexus: Nexus) -> Iterator[Finding]:
    """Examine the workflows of a platform, started or not."""
    every = nexus.workflows.every()
    for key, reason in without_effect(nexus.every_settings, every):
        yield warning("workflows", key, f"metadata {key}, {reason}", "follow the message, or remove the key")
    complaint = None if nexus.has_authorizers or nexus.guards else unenforced_permissions(every)
    if complaint is not None:
        yield warning("workflows", "required_permissions", complaint, ENFORCE)
