"""`CacheManager`: the user's say in what is kept and under which key, and `Advice`, which asks for it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.concurrency.threads import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)

METHODS = ("get_cache_key", "should_cache")

TOLD = 20
"""How many different complaints about a manager are logged; each once."""


class CacheManager:
    """Says what is kept and under which key. Subclass it, and override what you want to decide.

    Either method may be async; a sync one runs in a thread, because it may block. What raises, or takes longer than
    ``cache_timeout``, means "do not cache".
    """

    def get_cache_key(self, workflow_name: str, parameters: dict[str, Any]) -> str:
        """Return what tells this call from others of the same workflow and the same caller.

        Calls with the same key get the same result. Nexus puts the caller and the workflow before it, so no key can
        give one caller another's result.

        Args:
            workflow_name: The workflow called.
            parameters: A copy of its parameters.
        """
        text = jsontext.canonical([workflow_name, parameters])
        return hashlib.sha256(text).hexdigest()

    def should_cache(self, workflow_name: str, parameters: dict[str, Any]) -> bool:
        """Return whether the result of such a call may be kept, and a kept one be used.

        Where a subclass overrides it, it decides for workflows that take a `Context` or stream too.
        """
        return True


class Advice:
    """Asks a manager, within limits.

    Args:
        manager: An object with one of the `METHODS` or both. Those of `CacheManager` itself are not called.
        threads: Where sync methods run.
        timeout: Seconds for an answer.
        limit: How many calls may be in the manager at once; one that hangs must not use up threads.

    Attributes:
        decides: Whether the manager has a `should_cache` of its own.
    """

    def __init__(self, manager: object | None, threads: DaemonThreads, timeout: float, limit: int) -> None:
        self._threads = threads
        self._timeout = timeout
        self._free = threading.BoundedSemaphore(limit)
        self._get_key = _own(manager, "get_cache_key")
        self._should_cache = _own(manager, "should_cache")
        self._told: set[tuple[str, str]] = set()
        self.decides = self._should_cache is not None

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to ask."""
        return self._get_key is not None or self._should_cache is not None

    async def key(self, workflow_name: str, params: bytes) -> str | None:
        """Return the key to use, ``""`` for the one that the parameters make, or None not to cache.

        Args:
            workflow_name: The workflow called.
            params: Its parameters as JSON text.
        """
        should_cache, get_key = self._should_cache, self._get_key
        try:
            if should_cache is not None and not await self._ask(should_cache, workflow_name, params):
                return None
            if get_key is None:
                return ""
            key = await self._ask(get_key, workflow_name, params)
        except Exception as exc:
            self._complain(workflow_name, exc)
            return None
        if not isinstance(key, str) or not key:
            self._complain(workflow_name, TypeError(f"get_cache_key gave {key!r:.100}, which is no key"))
            return None
        return key

    async def _ask(self, method: Callable[..., Any], workflow_name: str, params: bytes) -> Any:
        arguments = (workflow_name, jsontext.parse_trusted(params))
        try:
            async with asyncio.timeout(self._timeout):
                if is_async(method):
                    return await self._threads.call(method, *arguments)
                if not self._free.acquire(blocking=False):
                    raise RuntimeError("it has not come back from so many calls that it is asked no more")
                return await self._threads.call(self._in_thread, method, *arguments)
        except TimeoutError:
            raise TimeoutError(f"it did not answer within {self._timeout:g} s") from None

    def _in_thread(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        finally:
            self._free.release()

    def _complain(self, workflow_name: str, exc: Exception) -> None:
        kind = (workflow_name, type(exc).__name__)
        if kind not in self._told and len(self._told) < TOLD:
            self._told.add(kind)
            log.error("The cache manager failed on %s, which is not cached therefore", workflow_name, exc_info=exc)


def _own(manager: object | None, name: str) -> Callable[..., Any] | None:
    """Return a manager's method, unless it is the one of `CacheManager`."""
    method: Callable[..., Any] | None = getattr(manager, name, None)
    return None if getattr(method, "__func__", None) is getattr(CacheManager, name) else method
