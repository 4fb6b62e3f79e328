"""The page on messages quotes messages that exist."""

from __future__ import annotations

import re

import pytest
from doc_pages import ROOT, text

QUOTED = re.findall(r"^\| `(.+?)` \|", text("docs/how-to/troubleshoot.md"), re.MULTILINE)
SOURCE = "".join(
    path.read_text(encoding="utf-8") for folder in ("nexus_core", "plugins") for path in ROOT.glob(f"{folder}/**/*.py")
    if "tests" not in path.parts
)  # fmt: skip


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_in_the_source(message: str) -> None:
    assert message in SOURCE


def test_the_page_has_messages() -> None:
    assert len(QUOTED) > 10
