"""A platform with pools, on a real PostgreSQL."""

from __future__ import annotations

import pytest
from nexus_pools.plugin import PoolsPlugin

from nexus_core import Nexus


@pytest.fixture(autouse=True)
def _no_address_in_the_environment(monkeypatch):
    for name in ("POSTGRES_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def make():
    """A function that makes a platform with the plugin and no other."""

    def make(*plugins, **options):
        return Nexus(discover=False, plugins=[PoolsPlugin, *plugins], **options)

    return make
