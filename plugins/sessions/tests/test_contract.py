from __future__ import annotations

from typing import ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "sessions"
    heavy = (*HEAVY, "sqlite3")


class TestContractWithAFile(PluginContract):
    plugin = "sessions"
    options: ClassVar = {"session_backend": "sqlite", "session_cleanup_interval": 0.01}
