"""`CacheManager`: the base class for choosing cached calls and their keys; `CachePolicy` calls it."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from nexus_core import jsontext
from nexus_core.concurrency.guarded import GuardedCaller
from nexus_core.concurrency.rate_limited_log import RateLimitedLog
from nexus_core.concurrency.threads import overridden

if TYPE_CHECKING:
    from collections.abc import Callable

    from nexus_core.concurrency.threads import DaemonThreads

log = logging.getLogger(__name__)

FAILURE_SECONDS = 60.0
"""Seconds between two log lines about equal failures of a cache manager."""


class CacheManager:
    """Selects which calls are cached, and under which keys. Subclass it and override one method or both.

    Each method may be async; a sync one runs in a thread, because it may block. If it raises, or exceeds
    ``cache_timeout``, the call is not cached.

    Example:
        ```python
        class YearlyReports(CacheManager):
            def get_cache_key(self, workflow_name, parameters):
                return f"{workflow_name}:{parameters['year']}"


        nexus = Nexus(enable_caching=True, cache_manager=YearlyReports())
        ```
    """

    def get_cache_key(self, workflow_name: str, parameters: dict[str, Any]) -> str:
        """Return the key of a call.

        Calls of the same workflow and caller with the same key share a result. Nexus adds workflow and caller to the
        key, so that no key can give one caller another's result.

        Args:
            workflow_name: The workflow's name.
            parameters: A copy of its parameters.
        """
        text = jsontext.canonical([workflow_name, parameters])
        return hashlib.sha256(text).hexdigest()

    def should_cache(self, workflow_name: str, parameters: dict[str, Any]) -> bool:
        """Return whether a call may be cached, and answered from the cache.

        An override decides for workflows that take a `Context` or stream too.
        """
        return True


class CachePolicy:
    """Calls a cache manager's overridden methods, with a time limit.

    Args:
        manager: An object with one of the methods of `CacheManager` or both, or None.
        threads: The threads for sync methods.
        timeout: Time limit for each call, in seconds.
        limit: Maximum number of sync methods that run at a time, so that a hanging manager does not use up threads.

    Attributes:
        decides: Whether the manager overrides ``should_cache``.
    """

    def __init__(self, manager: object | None, threads: DaemonThreads, timeout: float, limit: int) -> None:
        self._caller = GuardedCaller(threads, timeout, limit, waits=False)
        self._get_key = overridden(manager, CacheManager, "get_cache_key")
        self._should_cache = overridden(manager, CacheManager, "should_cache")
        self._failures = RateLimitedLog(log, FAILURE_SECONDS)
        self.decides = self._should_cache is not None

    @property
    def is_needed(self) -> bool:
        """Whether any method is overridden."""
        return self._get_key is not None or self._should_cache is not None

    async def key(self, workflow_name: str, params: bytes) -> str | None:
        """Return the custom key, ``""`` to use the parameters as key, or None if the call must not be cached.

        Args:
            workflow_name: The workflow's name.
            params: The parameters as JSON text.
        """
        should_cache, get_key = self._should_cache, self._get_key
        try:
            if should_cache is not None and not await self._call(should_cache, workflow_name, params):
                return None
            if get_key is None:
                return ""
            key = await self._call(get_key, workflow_name, params)
        except Exception as exc:
            self._log_failure(workflow_name, exc)
            return None
        if not isinstance(key, str) or not key:
            self._log_failure(
                workflow_name, TypeError(f"get_cache_key returned {key!r:.100} instead of a non-empty str")
            )
            return None
        return key

    async def _call(self, method: Callable[..., Any], workflow_name: str, params: bytes) -> Any:
        return await self._caller.call(method, workflow_name, jsontext.parse_trusted(params))

    def _log_failure(self, workflow_name: str, exc: Exception) -> None:
        self._failures.failure(workflow_name, exc, "The cache manager failed, so %s is not cached", workflow_name)
