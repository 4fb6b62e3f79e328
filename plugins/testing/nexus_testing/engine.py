"""`Engine`: runs a platform on an event loop in a separate thread, for sync code."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nexus_core import Nexus
    from nexus_core.server.channel import ASGIApp

Value = TypeVar("Value")

SECONDS = 60.0
"""Time limit of every call, so that a hanging test fails with its place."""


class Engine:
    """Runs a platform for a client. No port is opened.

    Args:
        nexus: The platform. It is started at the first use.
    """

    def __init__(self, nexus: Nexus) -> None:
        self.nexus = nexus
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="nexus-test-client", daemon=True)
        self._thread.start()
        self._app: ASGIApp | None = None

    def _run(self) -> None:
        self.loop.run_forever()
        self.loop.close()

    def call(self, work: Coroutine[Any, Any, Value], seconds: float = SECONDS) -> Value:
        """Run a coroutine on the platform's event loop, and wait for its result.

        Raises:
            TimeoutError: It takes longer than ``seconds``.
            RuntimeError: The client is closed.
        """
        if self.loop.is_closed() or not self._thread.is_alive():
            work.close()
            raise RuntimeError("This client is closed: create another one.")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result(seconds)
        except BaseException as exc:
            is_late = isinstance(exc, TimeoutError) and not future.done()
            future.cancel()
            if is_late:
                raise TimeoutError(f"No answer within {seconds:g} s.") from None
            raise

    @property
    def app(self) -> ASGIApp:
        """The started platform as one ASGI application.

        Raises:
            ConfigurationError: The platform can't be started.
        """
        if self._app is None:
            self.call(self.nexus.__aenter__())
            self._app = self.nexus.asgi_app()
        return self._app

    def close(self) -> None:
        """Stop the platform and end the thread."""
        if not self._thread.is_alive() or self.loop.is_closed():
            return
        try:
            if self._app is not None:
                self.call(self.nexus.__aexit__(None, None, None))
        finally:
            self._app = None
            self.call(self._cancel_rest())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(SECONDS)

    async def _cancel_rest(self) -> None:
        """Cancel tasks that tests have left, such as open WebSockets."""
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=5)
        await self.loop.shutdown_asyncgens()

    def abandon(self) -> None:
        """Close without waiting, for clients that were not closed."""
        if self._thread.is_alive() and not self.loop.is_closed():
            threading.Thread(target=self.close, name="nexus-test-client-end", daemon=True).start()
