"""`Runtime`: runs Kailash workflows; those without cycles on an ``AsyncLocalRuntime`` set up for many short calls."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from nexus_kailash.kailash_run import current_run

if TYPE_CHECKING:
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_kailash.cycles import CycleRunner
    from nexus_kailash.kailash_run import KailashRun
    from nexus_kailash.node_secrets import NodeSecrets
    from nexus_kailash.nodes import NodeRuntime
    from nexus_kailash.runtime_arguments import RuntimeArguments


class Runtime:
    """One ``AsyncLocalRuntime`` for all workflows of a `Nexus` with the same arguments, made at the first run.

    Args:
        threads: Where sync nodes run, so that they never block the event loop.
        arguments: Those of Kailash's runtime that the author has set.
    """

    def __init__(self, threads: DaemonThreads, arguments: RuntimeArguments) -> None:
        self._threads = threads
        self.arguments = arguments
        self._kailash: NodeRuntime | None = None
        self._cycles: CycleRunner | None = None

    async def run(
        self, workflow: Workflow, inputs: dict[str, dict[str, Any]], run: KailashRun, secrets: NodeSecrets
    ) -> dict[str, Any]:
        """Run a workflow and return what each node gave. Each finished node is reported as progress.

        Raises:
            Exception: A node failed.
        """
        if secrets:
            await self._threads.run(run.context.run.track_background_work, secrets.add_to, inputs)
        token = current_run.set(run)
        try:
            if run.levels is None:
                return await self._of_cycles().run(workflow, inputs, run)
            results: dict[str, Any]
            results, _ = await (self._kailash or self._open()).execute_workflow_async(workflow, inputs)
        finally:
            current_run.reset(token)
        return results

    async def close(self) -> None:
        """Release what Kailash's runtime and the author's resources hold. The next run makes a new one."""
        if self._kailash is not None:
            self._kailash = None
            self._close()
        if self.arguments.resource_registry is not None:
            await self.arguments.resource_registry.cleanup()

    def _of_cycles(self) -> CycleRunner:
        from nexus_kailash.cycles import CycleRunner

        self._cycles = self._cycles or CycleRunner(self._threads, self.arguments.resource_registry)
        return self._cycles

    def _open(self) -> NodeRuntime:
        from nexus_kailash.nodes import NodeRuntime

        kailash = NodeRuntime(self._threads, self.arguments)
        self._close = weakref.finalize(self, kailash.close)  # also without `close`, when the process ends
        self._kailash = kailash
        return kailash
