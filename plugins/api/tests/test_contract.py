from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "api"
    options: ClassVar[dict[str, Any]] = {"api_port": 0}
