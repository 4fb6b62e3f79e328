"""The README and the page on operations: their tables are complete, and what they show runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from health_helpers import comes, monitor_of
from nexus_health.routes import PATH, PERMISSION
from nexus_health.settings import HealthSettings

FOLDER = Path(__file__).parents[1]
README = (FOLDER / "README.md").read_text(encoding="utf-8")
PAGE = (FOLDER.parents[1] / "docs" / "how-to" / "health.md").read_text(encoding="utf-8")


def test_every_option_is_described_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", README, re.MULTILINE))
    fields = HealthSettings.model_fields
    assert rows == {
        name: "none" if field.default in ([], None) else str(field.default) for name, field in fields.items()
    }


def test_the_example_prints_what_has_changed(tmp_path):
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert "'check': 'suppliers', 'status': 'unhealthy', 'critical': False, 'error': 'affected: ink'" in done.stdout


async def test_the_checker_of_the_page_works(tmp_path, monkeypatch):
    blocks = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
    for name, block in blocks.items():
        (tmp_path / f"{name}.py").write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "checks", raising=False)
    names: dict = {}
    exec(blocks["app"], names)
    async with names["nexus"] as nexus:
        monitor = monitor_of(nexus)
        await comes(lambda: monitor.has_settled)
        found = {each.name: each for each in monitor.results}
    assert found["database_health"].verdict.details["latency"].endswith("ms")
    assert not found["external_services"].is_critical
    assert "refused" in found["external_services"].verdict.parts["mail"].error
    monkeypatch.delitem(sys.modules, "checks")


def test_the_probes_of_the_page_are_addresses_that_there_are():
    yaml = pytest.importorskip("yaml")
    (manifest,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (container,) = yaml.safe_load(manifest)["spec"]["template"]["spec"]["containers"]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert probes == {"startup": f"{PATH}/live", "liveness": f"{PATH}/live", "readiness": f"{PATH}/ready"}
    options = {each["name"].removeprefix("NEXUS_").lower() for each in container["env"]}
    assert options <= HealthSettings.model_fields.keys() | {"host", "enable_auth", "jwt_secret"}
    assert f"`{PERMISSION}`" in PAGE
