from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "runs"
    heavy = (*HEAVY, "asyncpg", "sqlite3")


class TestContractWithoutAServer(PluginContract):
    plugin = "runs"
    options: ClassVar[dict[str, Any]] = {"runs_postgres_url": "postgresql://nobody:nothing@127.0.0.1:1/nowhere"}
