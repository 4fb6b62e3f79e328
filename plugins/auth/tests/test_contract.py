from __future__ import annotations

from typing import ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "auth"
    heavy: ClassVar = (*HEAVY, "authlib", "joserfc", "cryptography")
