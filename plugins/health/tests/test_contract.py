from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "health"


class TestContractWhereItIsOff(PluginContract):
    plugin = "health"
    options: ClassVar[dict[str, Any]] = {"enable_health_checks": False}
