"""The plugin ``cache``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_cache.counts import CacheCounts
from nexus_cache.settings import CacheSettings
from nexus_core import Plugin

if TYPE_CHECKING:
    from nexus_cache.result_store import ResultStore
    from nexus_core import Interceptor, Platform
    from nexus_core.types.measurement import Measurement


class CachePlugin(Plugin[CacheSettings]):
    """Caches the results of workflows, if ``enable_caching`` is set."""

    def __init__(self, platform: Platform, settings: CacheSettings) -> None:
        super().__init__(platform, settings)
        self._counts = CacheCounts()

    def nexus_register_interceptors(self) -> list[Interceptor]:
        """Return the cache stage.

        Raises:
            ConfigurationError: Unknown store, or a workflow's metadata is invalid.
        """
        settings, platform = self.settings, self.platform
        if not settings.enable_caching:
            return []
        from nexus_cache.caching import ResultCache
        from nexus_cache.manager import CachePolicy
        from nexus_cache.plan import CachePlans, check_metadata

        for workflow in platform.workflows.every():
            check_metadata(workflow)
        limit, timeout = platform.options.max_concurrent_workflows, platform.options.workflow_timeout
        policy = CachePolicy(settings.cache_manager, platform.threads, settings.cache_timeout, limit)
        plans = CachePlans(settings.cache_ttl, policy.decides)
        return [ResultCache(self._result_store(), plans, policy, platform.runs, timeout, self._counts)]

    def nexus_register_measurements(self) -> list[Measurement]:
        """Return the hit and miss counts."""
        return self._counts.measurements() if self.settings.enable_caching else []

    def _result_store(self) -> ResultStore:
        from nexus_cache.result_store import LocalResultStore
        from nexus_cache.shared_result_store import SharedResultStore
        from nexus_core.state.memory_store import MEMORY, MemoryStore

        settings = self.settings
        backend, max_entry_bytes = settings.cache_backend, settings.cache_max_entry_bytes
        if not (isinstance(backend, str) or backend is None):
            from nexus_cache.aiocaches import as_store

            return SharedResultStore(as_store(backend, settings.cache_timeout), max_entry_bytes)
        store = self.platform.store(backend, "cache_backend")
        if store.name != MEMORY:
            return SharedResultStore(store, max_entry_bytes)
        # The platform's memory store holds state that must not be evicted, so results have a store of their own.
        return LocalResultStore(MemoryStore(settings.cache_max_entries, settings.cache_max_bytes), max_entry_bytes)
