"""The page that lists what the guide says: complete, and each test on it is there."""

from __future__ import annotations

import re
from pathlib import Path

from guide_text import blocks, sentences

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "tests" / "guide" / "coverage.md").read_text(encoding="utf-8")
CELLS = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith("| ")]


def plain(text: str) -> str:
    """Return a text without marks of lists, emphasis and links."""
    text = re.sub(r"^(\d+\.|- \[ \]|-|•)\s*", "", text.strip().strip("*").strip())
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    return re.sub(r"[*`]", "", text).strip()


def test_each_sentence_of_the_guide_is_on_the_page() -> None:
    there = {plain(cell) for cell in CELLS}
    said = [plain(sentence) for sentence in sentences()]
    assert len(said) > 35
    assert [sentence for sentence in said if sentence not in there] == []


def test_each_bullet_of_the_architecture_is_on_the_page() -> None:
    (drawing,) = blocks("").values()
    bullets = [each.strip() for each in re.findall(r"• (.*?)\s*│", drawing)]
    assert len(bullets) == 10
    assert [bullet for bullet in bullets if bullet not in CELLS] == []


def test_each_block_is_on_the_page() -> None:
    assert [heading for heading in [*blocks(), *blocks("yaml")] if heading not in CELLS] == []


def test_each_test_on_the_page_is_there() -> None:
    named = re.findall(r"`((?:tests|plugins)/[\w/]+\.py)(?:::(\w+))?`", PAGE)
    assert len(named) > 50
    for path, function in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert not function or re.search(rf"^ *(async )?def {function}\(", text, re.MULTILINE), f"{path}::{function}"
