from __future__ import annotations

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "schedules"
