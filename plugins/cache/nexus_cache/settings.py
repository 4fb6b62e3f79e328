"""Options of the plugin ``cache``."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field, field_validator

from nexus_cache.counts import Counts
from nexus_cache.manager import METHODS
from nexus_core.options.sources import PluginSettings, Seconds


class CacheSettings(PluginSettings):
    """Whether and where results are kept, and for how long."""

    workflow_metadata: ClassVar[dict[str, str | None]] = dict.fromkeys(
        ("cache", "cache_ttl", "cache_context_safe"), "enable_caching"
    )

    enable_caching: bool = Field(False, description="Keep results and answer equal calls with them.")
    cache_ttl: Seconds = Field(300.0, description="Seconds for which a result is kept.")
    cache_backend: Any = Field(
        None, description="The name of the store to keep them in, or a cache of aiocache; none for what `store` names."
    )
    cache_max_entries: int = Field(10_000, ge=1, description="Results kept in memory.")
    cache_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Bytes of results kept in memory.")
    cache_max_entry_bytes: int = Field(4 * 1024 * 1024, ge=1, description="The largest result that is kept.")
    cache_manager: Any = Field(None, description="A `CacheManager` of your own: what is kept, and under which key.")
    cache_timeout: Seconds = Field(0.4, description="Seconds that such a manager, or a cache of aiocache, may take.")

    @cached_property
    def counts(self) -> Counts:
        """How often results were found, on the one platform that these are the options of."""
        return Counts()

    @field_validator("cache_backend", mode="after")
    @classmethod
    def _is_a_name_or_a_cache(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value.strip() or None
        if value is None:
            return value
        from aiocache.base import BaseCache  # type: ignore[import-untyped]

        if not isinstance(value, BaseCache):
            raise ValueError(f"must be the name of a store or a cache of aiocache, not {_shown(value)}")
        return value

    @field_validator("cache_manager", mode="after")
    @classmethod
    def _is_a_manager(cls, value: Any) -> Any:
        if value is None or value == "":
            return None
        if isinstance(value, (type, str)) or not any(callable(getattr(value, name, None)) for name in METHODS):
            raise ValueError(f"must be an object with {' or '.join(METHODS)}, not {_shown(value)}")
        return value


def _shown(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
