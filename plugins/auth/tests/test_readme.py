"""The README: its example runs, and its table has every option with its default."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nexus_auth.settings import AuthSettings

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "7",
        'The workflow "stock" needs the permission stock.read.',
        "Unknown token.",
    ]


def test_every_option_is_in_the_table_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", README, re.MULTILINE))
    for name, field in AuthSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = ", ".join(default) if isinstance(default, list) else default
        assert rows.pop(name) == ("none" if shown in (None, "") else str(shown)), name
    assert not rows
