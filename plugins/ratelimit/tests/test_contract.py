from __future__ import annotations

from typing import Any, ClassVar

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "ratelimit"


class TestContractWhereItIsOn(PluginContract):
    plugin = "ratelimit"
    options: ClassVar[dict[str, Any]] = {"enable_rate_limiting": True}
