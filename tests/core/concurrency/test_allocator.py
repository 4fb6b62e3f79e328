"""A process gives memory back that a burst of large messages has taken."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

BURST = """
from nexus_core.concurrency.allocator import limit_kept_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

print(limit_kept_memory())
before = resident()
bytes(30_000_000)  # from its end on, glibc by itself would keep what is smaller
messages, small = [], []
for number in range(100):
    messages.append(b"%d" % number * 250_000)
    small.append(bytes(1000))  # stays among the messages that go
messages.clear()
print(resident() - before)
"""


def run(**variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))}
    done = subprocess.run(
        [sys.executable, "-c", BURST],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


def test_memory_is_given_back() -> None:
    is_set, kept = run()
    assert is_set == "True"
    assert int(kept) < 10_000_000


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_what_the_environment_says_stays(name: str) -> None:
    is_set, kept = run(**{name: "2"})
    assert is_set == "False"
    assert int(kept) > 30_000_000
