from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nexus_ratelimit.limits import limit_of

from nexus_core import Nexus

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run():
    example, metadata = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    refusal = r"Too many calls: rate_limit_per_minute allows 2 in 60 seconds\. Try again in \d+ s\."
    assert re.fullmatch(rf"7 and 1 left\n7 and 0 left\n{refusal}\n", done.stdout)
    nexus = Nexus(discover=False)
    exec(metadata, {"nexus": nexus} | dict.fromkeys(("report", "mail", "burst"), lambda: 1))
    limits = [limit_of(nexus.workflows.get(name)) for name in ("report", "mail", "burst")]
    assert [(each.calls, each.window) for each in limits] == [(10, 60.0), (100, 3600.0), (5, 0.5)]
