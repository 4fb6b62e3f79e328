from __future__ import annotations

from typing import ClassVar

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "logs"
    heavy = (*HEAVY, "structlog")


class TestContractWithAnAuditLog(PluginContract):
    plugin = "logs"
    options: ClassVar = {"log_format": "json", "audit_log": "/dev/null", "log_invocations": True}
