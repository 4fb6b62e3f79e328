"""The README's example."""

from __future__ import annotations

import re
from pathlib import Path

from nexus_core.plugins.discovery import discover


async def test_the_example(monkeypatch, otlp_receiver, spans):
    others = {record.name for record in discover()} - {"tracing"}
    monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", ",".join(sorted(others)))
    (code,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(code.replace("http://127.0.0.1:4318", otlp_receiver.url), "README.md", "exec"), names)
    async with names["nexus"] as nexus:
        headers = (await nexus.invoke("report", {"country": "CH"})).value
    step = spans.one("load rows")
    assert spans.attributes(step) == {"country": "CH"}
    assert headers["traceparent"].split("-")[1] == step.trace_id.hex()
