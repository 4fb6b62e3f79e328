"""The README's table has every option, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nexus_sessions.settings import SessionSettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_option_is_described_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", README, re.MULTILINE))
    fields = SessionSettings.model_fields
    assert rows == {name: str(field.default).replace("None", "none") for name, field in fields.items()}


def test_the_first_example_prints_what_is_kept(tmp_path):
    command = [sys.executable, "-c", EXAMPLES[0]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.stdout == "2\n", done.stderr


async def test_the_manager_works(view):
    names = {}
    exec(EXAMPLES[1], names)
    async with names["nexus"] as nexus:
        ann = await view(nexus, "ann")
        session = await ann.create_session("api")
        assert session.metadata["tenant_id"] == "acme"
        assert (await ann.update_session(session.id, {"a": 1})).state == {"a": 1}
