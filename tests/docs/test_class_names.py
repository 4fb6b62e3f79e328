"""One class name means one thing in the whole tree: a leading underscore does not make it another name."""

from __future__ import annotations

import ast
from collections import defaultdict

from doc_pages import ROOT


def test_no_two_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in [*ROOT.glob("nexus_core/**/*.py"), *ROOT.glob("plugins/*/nexus*/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name.lstrip("_")].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
    assert len(places) > 500
