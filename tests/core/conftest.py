from __future__ import annotations

import os
from typing import Any

import pytest

from nexus_core import Nexus


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
