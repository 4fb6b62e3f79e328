from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "redis"


class TestContractWithoutAServer(PluginContract):
    plugin = "redis"
    options: ClassVar[dict[str, Any]] = {"redis_url": "redis://127.0.0.1:1"}
