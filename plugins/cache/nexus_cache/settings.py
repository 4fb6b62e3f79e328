"""Options of the plugin ``cache``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator

from nexus_core.options.settings import MetadataKey, PluginSettings, Seconds

METHODS = ("get_cache_key", "should_cache")
"""The methods of a cache manager, of which it has at least one."""


class CacheSettings(PluginSettings):
    """The cache for results: its store, lifetime and limits."""

    workflow_metadata: ClassVar[dict[str, MetadataKey]] = {
        "cache": MetadataKey(
            "True caches results per caller, `shared` for all callers; False caches none.", "enable_caching"
        ),
        "cache_ttl": MetadataKey("Lifetime of a cached result in seconds, in place of the option.", "enable_caching"),
        "cache_context_safe": MetadataKey(
            "Allow `shared` for a workflow with a `Context`: its result does not depend on the caller.",
            "enable_caching",
        ),
    }

    enable_caching: bool = Field(False, description="Cache results, and answer equal calls with them.")
    cache_ttl: Seconds = Field(300.0, description="Lifetime of a cached result, in seconds.")
    cache_backend: Any = Field(
        None,
        description="Store of the results, or an aiocache cache. Default: the store that the option store names.",
    )
    cache_max_entries: int = Field(10_000, ge=1, description="Maximum number of results in memory.")
    cache_max_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Maximum bytes of results in memory.")
    cache_max_entry_bytes: int = Field(4 * 1024 * 1024, ge=1, description="Maximum size of a cached result, in bytes.")
    cache_manager: Any = Field(
        None, description="Instance of a CacheManager, which selects the cached calls and their keys."
    )
    cache_timeout: Seconds = Field(
        0.4, description="Time limit for a call of a cache manager or an aiocache cache, in seconds."
    )

    @field_validator("cache_backend", mode="after")
    @classmethod
    def _is_a_name_or_a_cache(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value.strip() or None
        if value is None:
            return value
        from aiocache.base import BaseCache  # type: ignore[import-untyped]

        if not isinstance(value, BaseCache):
            raise ValueError(f"must be the name of a store or an aiocache cache, not {_shown(value)}")
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
