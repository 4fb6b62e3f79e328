"""What the README shows works."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


async def test_the_store_as_a_library(tmp_path, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(code, str(README), "exec"), names)
    await names["main"](tmp_path / "runs.db")
    assert capsys.readouterr().out == "add completed 1\nworkflow.progress\n"
