from __future__ import annotations

from typing import ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "cache"
    heavy = (*HEAVY, "aiocache")


class TestContractSwitchedOn(PluginContract):
    plugin = "cache"
    options: ClassVar = {"enable_caching": True}
