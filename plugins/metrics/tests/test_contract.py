from __future__ import annotations

from typing import ClassVar

import pytest

from nexus_core.testing import HEAVY, PluginContract


class TestContract(PluginContract):
    plugin = "metrics"
    heavy = (*HEAVY, "prometheus_client", "opentelemetry")


class TestContractSwitchedOn(PluginContract):
    plugin = "metrics"
    options: ClassVar = {"enable_monitoring": True, "metrics_port": 0}


class TestContractWithEverything(PluginContract):
    plugin = "metrics"

    @pytest.fixture(autouse=True)
    def _everything(self, tmp_path):
        type(self).options = {
            "enable_metrics": True, "metrics_port": 0, "metrics_multiprocess_dir": tmp_path,
            "metrics_backend": "prometheus,otlp", "monitoring_service_url": "http://127.0.0.1:9",
        }  # fmt: skip
