"""The packages that the import rules in pyproject.toml name.

A list there whose line ends with ``# generated: every package`` is written from the folders in ``plugins/``. The
comment may name packages before these, and folders that are left out: ``# generated: nexus_core and every package but
api and cli``. The package ``nexus``, which needs all the others, is in no list that does not name it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = re.compile(
    r"^(?P<key>\w+) = \[.*\](?P<comment>  # generated: (?:(?P<first>.+) and )?every package(?: but (?P<without>.+))?)$",
    re.M,
)
WORDS = re.compile(r", | and ")


def packages(root: Path = ROOT) -> list[str]:
    """Return the packages of the folders in ``plugins/``."""
    found = root.glob("plugins/*/nexus_*/__init__.py")
    return sorted(path.parent.name for path in found if (path.parents[1] / "pyproject.toml").exists())


def import_rules(text: str) -> str:
    """Return pyproject.toml with its generated lists as they must be."""
    every = packages()

    def written(match: re.Match[str]) -> str:
        without = {f"nexus_{name}" for name in WORDS.split(match["without"] or "") if name}
        if unknown := without - set(every):
            raise ValueError(f"pyproject.toml: {', '.join(sorted(unknown))} is no package in plugins/")
        first = [name for name in WORDS.split(match["first"] or "") if name]
        names = first + [name for name in every if name not in without]
        return f"{match['key']} = {json.dumps(names)}{match['comment']}"

    return LIST.sub(written, text)


FILES = {"pyproject.toml": import_rules}
