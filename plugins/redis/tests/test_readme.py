from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(redis_server):
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert "redis://127.0.0.1:6379/0" in block
    block = block.replace("redis://127.0.0.1:6379/0", redis_server.url)
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=60)
    assert done.stdout == "ordered A-1 False\nordered A-1 True\n", done.stderr
