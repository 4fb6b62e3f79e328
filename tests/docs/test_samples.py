"""Each hook has a page, and what the pages show runs."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_pages import DOCS, ROOT, Pages, environment, python_blocks, text

from nexus_core.app import hookspecs

HOOKS = {name: hook for name, hook in inspect.getmembers(hookspecs, callable) if name.startswith("nexus_")}
HOOK_PAGES = [page for page in DOCS if page.startswith("docs/reference/hooks/") and not page.endswith("/index.md")]

ELSEWHERE = {
    "docs/how-to/connection-pools.md": "plugins/pools/tests/test_readme.py",
    "docs/how-to/health.md": "plugins/health/tests/test_readme.py",
}
"""Pages whose code needs more than a folder, and the tests that run it."""

READMES = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("plugins/*/README.md"))]


def has_a_test_of_its_own(readme: str) -> bool:
    """Whether the plugin's own tests run what its README shows."""
    tests = ROOT.joinpath(readme).parent.glob("tests/*.py")
    return any('"README.md"' in path.read_text(encoding="utf-8") for path in tests)


PAGES = [page for page in ("README.md", *DOCS) if page not in ELSEWHERE and python_blocks(page)]
PAGES += [readme for readme in READMES if python_blocks(readme) and not has_a_test_of_its_own(readme)]

HEADINGS = ["When it is called", "Arguments", "What to return", "When it raises", "Sample"]


@pytest.fixture(scope="module", name="pages")
def pages_fixture() -> Iterator[Pages]:
    pages = Pages()
    yield pages
    pages.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES)
def test_the_code_on_a_page_runs(pages: Pages, page: str, tmp_path: Path) -> None:
    pages.run(page, tmp_path)


@pytest.mark.parametrize("page", ELSEWHERE)
def test_the_code_on_other_pages_has_a_test(page: str) -> None:
    assert python_blocks(page)
    assert f'"{Path(page).name}"' in text(ELSEWHERE[page])


def test_the_commands_in_the_readme_of_the_command_line(pages: Pages, tmp_path: Path) -> None:
    page = "plugins/cli/README.md"
    pages.run(page, tmp_path)
    commands = re.findall(r"^nexus (execute add (?:--a|--data) .*?) *(?:#.*)?$", text(page), re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        words = [sys.executable, "-m", "nexus_core", *shlex.split(command), "--app", "app.py"]
        done = subprocess.run(words, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert '"result":4' in done.stdout


def test_no_code_hides_from_the_tests() -> None:
    for page in ("README.md", *DOCS, *READMES):
        assert len(python_blocks(page)) == len(
            re.findall(r"^ *(?:```|~~~) *\{?(?:python|py)", text(page), re.MULTILINE)
        ), f"{page} has Python code in a block that does not begin with ```python"


def test_every_hook_has_a_page_and_every_page_a_hook() -> None:
    assert len(HOOKS) > 20
    assert {f"docs/reference/hooks/{name.removeprefix('nexus_')}.md" for name in HOOKS} == set(HOOK_PAGES)


@pytest.mark.parametrize("name", HOOKS)
def test_the_page_of_a_hook_says_everything(name: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    short = name.removeprefix("nexus_")
    page = text("docs", "reference", "hooks", f"{short}.md")
    assert page.startswith(f"# {name}\n\n`{name}({arguments})` ")
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == HEADINGS
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert f"\n`{argument}`: " in page.partition("## Arguments")[2]
    blocks = python_blocks(f"docs/reference/hooks/{short}.md")
    assert re.match(r"# \w+\.py\n", blocks[0]), "the sample begins with the name of its file"
    assert re.search(rf"@hookimpl\n *(async )?def {name}\(", blocks[0])
    assert 10 <= len(blocks[0].splitlines()) <= 60
    assert "\nassert " in blocks[-1] or "    assert " in blocks[-1], "the last block shows what it does"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_in_the_table_and_has_a_docstring(name: str) -> None:
    arguments = ", ".join(inspect.signature(HOOKS[name]).parameters)
    row = f"| [`{name}({arguments})`](../reference/hooks/{name.removeprefix('nexus_')}.md) |"
    assert row in text("docs", "how-to", "plugins.md")
    assert "versionadded" in (HOOKS[name].__doc__ or "")
