"""The README's table has every option, and its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nexus_cache.settings import CacheSettings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_every_option_is_described_with_its_default():
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", README, re.MULTILINE))
    fields = CacheSettings.model_fields
    assert rows == {name: str(field.default).replace("None", "none") for name, field in fields.items()}


def test_the_first_example_prints_what_it_says():
    done = subprocess.run([sys.executable, "-c", EXAMPLES[0]], capture_output=True, text=True, timeout=60, check=False)
    first, second = done.stdout.splitlines(), done.stderr
    assert "cached" not in first[0], second
    assert first[1] == first[0][:-2] + ',"cached":true}\''


async def test_the_other_examples_run(make):
    for example in EXAMPLES[1:]:
        names = {}
        exec(example, names)
        async with names["nexus"] as nexus:
            nexus.register("report", lambda year: f"report of {year}")
            answers = [await nexus.invoke("report", {"year": 2024}) for _ in range(2)]
            assert [each.cached for each in answers] == [False, True]
