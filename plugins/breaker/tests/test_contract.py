from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "breaker"


class TestContractWhereItIsOn(PluginContract):
    plugin = "breaker"
    options: ClassVar[dict[str, Any]] = {"enable_circuit_breaker": True}
