from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "mcp"
    options: ClassVar[dict[str, Any]] = {"mcp_port": 0}
