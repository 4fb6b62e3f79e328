"""Hooks of the plugin ``kailash``. Kailash itself is imported when one of its workflows is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_core import hookimpl
from nexus_kailash.adapter import KailashAdapter, close_runtimes

if TYPE_CHECKING:
    from nexus_core import Nexus


@hookimpl
def nexus_register_workflow_adapters(nexus: Nexus) -> list[KailashAdapter]:
    """Give the adapter for ``WorkflowBuilder`` and ``Workflow``."""
    return [KailashAdapter(nexus.workflow_threads)]


@hookimpl
async def nexus_shutdown(nexus: Nexus) -> None:
    """Close the runtime of the registered workflows. A later start makes a new one."""
    await close_runtimes(nexus.workflows)
