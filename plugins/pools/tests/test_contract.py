from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "pools"
    heavy = (*HEAVY, "asyncpg")


class TestContractWithoutAServer(PluginContract):
    plugin = "pools"
    options: ClassVar[dict[str, Any]] = {"postgres_url": "postgresql://nobody:nothing@127.0.0.1:1/nowhere"}
