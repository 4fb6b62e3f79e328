from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nexus_kailash.plugin import KailashPlugin

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def nexus() -> AsyncIterator[Nexus]:
    async with Nexus(discover=False, plugins=[KailashPlugin]) as running:
        yield running


@pytest.fixture
def csv_file(tmp_path: Path) -> str:
    path = tmp_path / "numbers.csv"
    path.write_text("name,value\nred,1\nblue,20\nred,300\n")
    return str(path)
