"""Each page's install line: it works in a checkout, has the published form as well, and fits what the page uses."""

from __future__ import annotations

import re
import tomllib

import pytest
from doc_pages import ROOT

PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md", *sorted(ROOT.glob("plugins/*/README.md"))]
LINE = re.compile(r"(?m)^    pip install \. (.+)$")
PUBLISHED = re.compile(r"[Oo]nce the distributions are published[,:] `pip install ([^`]+)`")
SERVES = re.compile(r"\.start\(\)|(?m:^ *nexus serve (?!.*--stdio))")
COMMAND = re.compile(r"(?m)^ *nexus (?!serve\b|plugins\b)[a-z-]")


def requirements(name):
    project = (ROOT / "plugins" / name / "pyproject.toml").read_text()
    return " ".join(tomllib.loads(project)["project"]["dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_an_install_line_fits_its_page(page):
    text = page.read_text()
    (here,), (published,) = LINE.findall(text), PUBLISHED.findall(text)
    if here == "./plugins/*/":
        assert published == "nexus-hub"
        return
    names = [folder.removeprefix("./plugins/") for folder in here.split()]
    if page.parent.name != "toolkit":
        needed = any("nexus-hub-toolkit" in requirements(name) for name in names)
        assert names[: names.count("toolkit")] == ["toolkit"] * needed
        names = names[needed:]  # pip installs what a published distribution requires
    assert published.split() == [f"nexus-hub-{name}" for name in names]
    assert [name for name in names if not (ROOT / "plugins" / name / "pyproject.toml").is_file()] == []
    assert page.parent.name in (*names, ROOT.name, "docs")
    if SERVES.search(text):
        assert "hypercorn" in names, "the page serves"
    if COMMAND.search(text):
        assert "cli" in names, "the page uses the command line"


def test_no_page_says_that_something_is_published_already():
    wrong = []
    for page in [*PAGES, *ROOT.glob("docs/**/*.md")]:
        text = PUBLISHED.sub("", page.read_text())
        wrong += [f"{page.relative_to(ROOT)}: {line}" for line in text.splitlines() if "pip install nexus-hub" in line]
    assert wrong == []
