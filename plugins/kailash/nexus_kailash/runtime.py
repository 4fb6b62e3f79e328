"""`Runtime`: runs Kailash workflows on Kailash's own ``AsyncLocalRuntime``, set up for many short calls."""

from __future__ import annotations

import asyncio
import weakref
from concurrent.futures import Executor
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from kailash.runtime.async_local import AsyncLocalRuntime  # type: ignore[import-untyped]
    from kailash.runtime.durable import NodeCompletionEvent  # type: ignore[import-untyped]
    from kailash.workflow.graph import Workflow  # type: ignore[import-untyped]

    from nexus_core import Context
    from nexus_core.threads import DaemonThreads

NO_LIMIT = 1_000_000
"""Nodes at once: Nexus bounds the runs (``max_concurrent_workflows``), so Kailash's own bound must not queue them."""


@dataclass(slots=True)
class _Run:
    """What Kailash's runtime needs to know about the run it works for."""

    context: Context
    total: int
    done: int = 0
    calls: list[asyncio.Future[Any]] = field(default_factory=list)


_current: ContextVar[_Run] = ContextVar("nexus_kailash_run")


class Runtime:
    """One ``AsyncLocalRuntime`` for all workflows of a `Nexus`, made at the first run.

    Args:
        threads: Where sync nodes run, so that they never block the event loop.
    """

    def __init__(self, threads: DaemonThreads) -> None:
        self._executor = _NodeThreads(threads)
        self._kailash: AsyncLocalRuntime | None = None

    async def run(self, workflow: Workflow, inputs: dict[str, dict[str, Any]], context: Context) -> dict[str, Any]:
        """Run a workflow and return what each node gave. Each finished node is reported as progress.

        Raises:
            Exception: A node failed.
        """
        kailash = self._kailash or self._open()
        run = _Run(context, len(workflow.nodes))
        token = _current.set(run)
        try:
            results: dict[str, Any]
            results, _ = await kailash.execute_workflow_async(workflow, inputs)
        except BaseException:
            for call in run.calls:  # Kailash leaves the neighbours of a failed node running
                if not call.done():
                    context.run.outlives(call)
            raise
        finally:
            _current.reset(token)
        return results

    def close(self) -> None:
        """Release what Kailash's runtime holds. The next run makes a new one."""
        if self._kailash is not None:
            self._kailash = None
            self._close()

    def _open(self) -> AsyncLocalRuntime:
        from kailash.runtime.async_local import AsyncLocalRuntime

        kailash = AsyncLocalRuntime(
            max_concurrent_nodes=NO_LIMIT,
            enable_profiling=False,
            enable_monitoring=False,
            thread_pool_size=1,
            execution_timeout=0,  # the deadline is Nexus's
        )
        kailash.thread_pool.shutdown(wait=False)
        kailash.thread_pool = self._executor
        kailash.on_node_complete(_report)
        self._close = weakref.finalize(self, kailash.close)  # also without `close`, when the process ends
        self._kailash = kailash
        return kailash


def _report(event: NodeCompletionEvent) -> None:
    """Called in the run's own context, so runs side by side do not see each other's nodes."""
    run = _current.get()
    run.done += 1
    run.context.progress(run.done, run.total, event.node_id)


class _NodeThreads(Executor):
    """Runs each sync node at once in a daemon thread; one that goes on after its run's end keeps the run's place."""

    def __init__(self, threads: DaemonThreads) -> None:
        self._threads = threads

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Start a call. Returns a task, which ``loop.run_in_executor`` takes for a future of its loop."""
        run = _current.get()
        call = asyncio.ensure_future(self._threads.run(run.context.run.outlives, function, *args, **kwargs))
        run.calls.append(call)
        return call
