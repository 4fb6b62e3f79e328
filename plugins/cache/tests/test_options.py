"""Options: their values, and what is said of wrong ones."""

from __future__ import annotations

import subprocess
import sys

import pytest
from aiocache import SimpleMemoryCache
from nexus_cache.settings import CacheSettings

from nexus_core import ConfigurationError


@pytest.mark.parametrize(
    ("option", "value"),
    [("cache_ttl", 0), ("cache_ttl", -1), ("cache_ttl", "soon"), ("cache_ttl", float("nan")), ("cache_ttl", 1e9),
     ("cache_max_entries", 0), ("cache_max_bytes", 0), ("cache_max_entry_bytes", 0), ("cache_timeout", 0),
     ("enable_caching", "perhaps"), ("cache_backend", 5), ("cache_backend", SimpleMemoryCache), ("cache_backend", {})],
)  # fmt: skip
def test_wrong_values_are_refused(make, option, value):
    with pytest.raises(ConfigurationError, match=f"^argument {option}: "):
        make(**{option: value})


async def test_a_store_that_is_not_there_stops_the_start(make):
    for options, message in (
        ({"cache_backend": "redis"}, "cache_backend: there is no store 'redis'.*pip install nexus-hub-redis"),
        ({"cache_backend": "memroy"}, "cache_backend: there is no store 'memroy'"),
        ({"store": "redis"}, "store: there is no store 'redis'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            async with make(**options):
                pass


async def test_a_store_that_is_not_there_harms_nobody_while_caching_is_off(make):
    async with make(enable_caching=False, cache_backend="redis"):
        pass


def test_the_environment_sets_them(make, monkeypatch):
    for name, value in {"CACHE_TTL": "5", "CACHE_BACKEND": "memory", "CACHE_MAX_ENTRIES": "7"}.items():
        monkeypatch.setenv(f"NEXUS_{name}", value)
    settings = make().settings(CacheSettings)
    assert (settings.cache_ttl, settings.cache_backend, settings.cache_max_entries) == (5.0, "memory", 7)
    monkeypatch.setenv("NEXUS_CACHE_BACKEND", " ")
    assert make().settings(CacheSettings).cache_backend is None


@pytest.mark.parametrize("on", [False, True])
def test_what_is_not_used_is_not_imported(on):
    code = f"""
import asyncio, sys, nexus_cache.plugin
from nexus_core import Nexus
async def main():
    async with Nexus(discover=False, plugins=[nexus_cache.plugin.CachePlugin], enable_caching={on}) as nexus:
        nexus.register("one", lambda: 1)
        print(await nexus.invoke("one"))
asyncio.run(main())
print(sorted(set(sys.modules) & {{"aiocache", "redis", "nexus_cache.caching"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines()[-1] == str(["nexus_cache.caching"] if on else []), done.stderr
