from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from process_code import PREAMBLE

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("NEXUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(name="make")
def make_fixture() -> Any:
    """Make a Nexus without installed plugins."""

    def make(*plugins: object, **options: Any) -> Nexus:
        return Nexus(discover=False, plugins=plugins, **options)

    return make


@pytest.fixture(name="run")
def run_fixture() -> Iterator[Any]:
    """Run a program that begins with `process_code.PREAMBLE`."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, **how: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", PREAMBLE + textwrap.dedent(code)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how,
        )  # fmt: skip
        started.append(process)
        return process

    yield run
    for each in started:
        each.kill()
        each.communicate()
