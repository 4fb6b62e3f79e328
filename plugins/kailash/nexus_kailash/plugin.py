"""The plugin ``kailash``. Kailash itself is imported when the first of its workflows is registered."""

from __future__ import annotations

from typing import Any

from nexus_core import Platform, Plugin
from nexus_kailash.adapter import KailashAdapter


class KailashPlugin(Plugin[Any]):
    """Registers Kailash's ``WorkflowBuilder`` and ``Workflow`` as workflows."""

    def __init__(self, platform: Platform, settings: None) -> None:
        super().__init__(platform, settings)
        self._adapter = KailashAdapter(platform.workflow_threads)

    def nexus_register_workflow_adapters(self) -> list[KailashAdapter]:
        """Return the adapter."""
        return [self._adapter]

    async def shutdown(self) -> None:
        """Close Kailash's runtimes. A later start makes new ones."""
        await self._adapter.close()
