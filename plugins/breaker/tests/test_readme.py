from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from nexus_core import Nexus

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run():
    example, metadata = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"failed\nfailed\nrefused, try again in 0\.\d s\n7\n", done.stdout)
    exec(metadata, {"nexus": Nexus(discover=False), "report": lambda: 1, "stock": lambda: 2})
