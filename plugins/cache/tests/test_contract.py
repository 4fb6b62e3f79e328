from __future__ import annotations

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "cache"
    heavy = (*HEAVY, "aiocache")


class TestContractSwitchedOn(PluginContract):
    plugin = "cache"
    options = {"enable_caching": True}
