from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(redis_server):
    assert run(0, redis_server) == "ordered A-1 False\nordered A-1 True\n"


CALLS = """
import asyncio

async def main():
    async with nexus:
        for name in ("visits", "visits_in_a_thread"):
            print((await nexus.invoke(name, {"page": "a"})).value)

asyncio.run(main())
"""


def test_workflows_use_redis(redis_server):
    assert run(1, redis_server, CALLS) == "1\n2\n"


def run(number, redis_server, more=""):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    assert "redis://127.0.0.1:6379/0" in blocks[number]
    block = blocks[number].replace("redis://127.0.0.1:6379/0", redis_server.url) + more
    variables = {**os.environ, "NEXUS_REDIS_TIMEOUT": "10"}
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, timeout=60, env=variables)
    assert done.returncode == 0, done.stderr
    return done.stdout
