"""What is generated is up to date, and the check says so when it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import generate
import import_rules

BY_HAND = "# by hand\n"


def greeting(text: str) -> str:
    return text.replace("hello", "hello, world")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "page.md").write_text("hello\n")
    return tmp_path


def test_every_generated_file_is_up_to_date():
    changes = generate.stale(generate.ROOT, generate.generators())
    assert not [generate.difference(path.name, *texts) for path, texts in changes.items()]


def test_the_check_prints_what_would_change_and_writes_nothing(root, capsys):
    found = [("page.md", greeting), ("new/list.txt", lambda text: "one\n")]
    assert generate.main(["--check"], root, found) == 1
    printed = capsys.readouterr().out
    assert "-hello\n+hello, world\n" in printed
    assert "+one\n" in printed
    assert "page.md is out of date: run make generate" in printed
    assert (root / "page.md").read_text() == "hello\n"
    assert not (root / "new").exists()


def test_what_has_been_written_passes_the_check(root, capsys):
    found = [("page.md", lambda text: BY_HAND), ("new/list.txt", lambda text: "one\n")]
    assert generate.main([], root, found) == 0
    assert capsys.readouterr().out == "page.md written\nnew/list.txt written\n"
    assert generate.main(["--check"], root, found) == 0
    assert capsys.readouterr().out == ""
    assert (root / "new" / "list.txt").read_text() == "one\n"


def test_several_generators_may_own_parts_of_one_file(root):
    found = [("page.md", lambda text: text + "one\n"), ("page.md", lambda text: text + "two\n")]
    assert generate.main([], root, found) == 0
    assert (root / "page.md").read_text() == "hello\none\ntwo\n"


def test_import_rules_are_written_from_the_folders_of_plugins():
    every = import_rules.packages()
    assert {"nexus_api", "nexus_redis"} <= set(every)
    assert "nexus" not in every
    text = import_rules.import_rules(
        'a = ["gone"]\n'
        "b = []  # generated: every package\n"
        "c = []  # generated: nexus and every package but api and redis\n"
    )
    kept, b, c = text.splitlines()
    assert kept == 'a = ["gone"]'
    assert b.startswith('b = ["nexus_api", ')
    assert c.startswith('c = ["nexus", "nexus_auth", ')
    assert '"nexus_redis"' not in c
    assert c.endswith("  # generated: nexus and every package but api and redis")


def test_import_rules_refuse_a_folder_that_does_not_exist():
    with pytest.raises(ValueError, match="nexus_apo is no package in plugins/"):
        import_rules.import_rules("a = []  # generated: every package but apo\n")
