"""The README's example."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nexus_core.plugins.discovery import discover


async def test_the_example(tmp_path, monkeypatch, entries):
    monkeypatch.chdir(tmp_path)
    others = {record.name for record in discover()} - {"logs"}
    monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", ",".join(sorted(others)))
    (code,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    async with names["nexus"] as nexus:
        await nexus.invoke("pay", {"amount": 12.5, "account": "CH9300762011623852957"})
    (entry,) = entries(tmp_path / "audit.jsonl")
    assert entry["parameters"] == {"amount": 12.5, "account": "***"}


@pytest.mark.parametrize(("option", "value"), [("log_format", "xml"), ("audit_parameters", "perhaps")])
def test_wrong_options(make, option, value):
    with pytest.raises(Exception, match=option):
        make(**{option: value})
