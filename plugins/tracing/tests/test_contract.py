from __future__ import annotations

from typing import ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "tracing"
    heavy = (*HEAVY, "opentelemetry")


class TestContractSwitchedOn(PluginContract):
    plugin = "tracing"
    options: ClassVar = {"enable_tracing": True, "tracing_endpoint": "http://127.0.0.1:9"}
