"""Makes the stage out of the options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus_cache.caching import ResultCache
from nexus_cache.manager import Advice
from nexus_cache.plan import Plans, check_metadata
from nexus_cache.shared_shelf import SharedShelf
from nexus_cache.shelf import LocalShelf
from nexus_core.state.memory_store import MEMORY, MemoryStore

if TYPE_CHECKING:
    from nexus_cache.settings import CacheSettings
    from nexus_cache.shelf import Shelf
    from nexus_core import Nexus


def result_cache(nexus: Nexus, settings: CacheSettings) -> ResultCache:
    """Return the stage.

    Raises:
        ConfigurationError: There is no such store, or a workflow's metadata is wrong.
    """
    for name in nexus.workflows.names():
        check_metadata(nexus.workflows.get(name))
    advice = Advice(
        settings.cache_manager, nexus.threads, settings.cache_timeout, nexus.options.max_concurrent_workflows
    )
    plans = Plans(settings.cache_ttl, advice.decides)
    shelf, timeout = _shelf(nexus, settings), nexus.options.workflow_timeout
    return ResultCache(shelf, plans, advice, nexus.runs, timeout, settings.counts)


def _shelf(nexus: Nexus, settings: CacheSettings) -> Shelf:
    backend, largest = settings.cache_backend, settings.cache_max_entry_bytes
    if not (isinstance(backend, str) or backend is None):
        from nexus_cache.aiocaches import as_store

        return SharedShelf(as_store(backend, settings.cache_timeout), largest)
    store = nexus.store(backend, "cache_backend")
    if store.name != MEMORY:
        return SharedShelf(store, largest)
    own = MemoryStore(settings.cache_max_entries, settings.cache_max_bytes)  # the common one keeps what must not go
    return LocalShelf(own, largest)
