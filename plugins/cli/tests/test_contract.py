from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "cli"
    options: ClassVar[dict[str, Any]] = {"cli_port": 0}
