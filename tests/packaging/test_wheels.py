"""What the wheels hold and say about themselves."""

from __future__ import annotations

import zipfile
from collections import Counter
from email import message_from_bytes
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
NO_PLUGINS = ("platform", "scaffold", "testing", "toolkit")
"""Distributions that have no hooks: they are imported."""
LIBRARY = "nexus-hub-toolkit<0.2,>=0.1"

FOLDERS = sorted(each.parent.name for each in ROOT.glob("plugins/*/pyproject.toml"))
FIRST_PARTY = sorted(["core", *(name for name in FOLDERS if name not in ("platform", "toolkit"))])

OPTIONAL = {"dbos"}
"""Plugins with dependencies under a copyleft licence: they are installed by those who want them alone."""


def wheel_of(project, wheels: dict[str, Path]) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheels[project.key])


def metadata_file(wheel: zipfile.ZipFile, name: str) -> bytes:
    return wheel.read(next(each for each in wheel.namelist() if each.endswith(f".dist-info/{name}")))


def test_a_wheel_holds_its_package_and_nothing_else(project, wheels):
    with wheel_of(project, wheels) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    there = {
        str(path.relative_to(project.folder))
        for path in project.package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there
    assert f"{project.package.name}/py.typed" in held
    assert not [name for name in held if "tests" in Path(name).parts]


def test_a_wheel_brings_its_licence(project, wheels):
    with wheel_of(project, wheels) as wheel:
        licences = [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        assert len(licences) == 1
        assert wheel.read(licences[0]) == (ROOT / "LICENSE").read_bytes()


def test_metadata(project, wheels):
    with wheel_of(project, wheels) as wheel:
        metadata = message_from_bytes(metadata_file(wheel, "METADATA"))
        entry_points = "" if project.key in NO_PLUGINS else metadata_file(wheel, "entry_points.txt").decode()
    assert metadata["Name"] == project.distribution
    assert metadata["Version"] == "0.1.0"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert len(metadata["Summary"]) > 20
    assert metadata.get_payload().strip(), "the README is empty"
    own = [each for each in metadata.get_all("Requires-Dist") or [] if each.startswith("nexus-hub")]
    if project.key == "core":
        assert not own
        assert "nexus = nexus_core.__main__:main" in entry_points
    elif project.key == "platform":
        extras = {"kailash": "[nodes]"}
        names = [name for name in FIRST_PARTY if name not in OPTIONAL]
        assert own == [f"nexus-hub-{name}{extras.get(name, '')}<0.2,>=0.1" for name in names]
    else:
        assert [each for each in own if each != LIBRARY] == ["nexus-hub-core<0.2,>=0.1"]
    if project.key not in NO_PLUGINS and project.key != "core":
        assert f"{project.folder.name} = {project.package.name}.plugin" in entry_points


def test_no_two_distributions_have_the_same_file(wheels):
    owners: Counter[str] = Counter()
    for path in wheels.values():
        with zipfile.ZipFile(path) as wheel:
            owners.update(wheel.namelist())
    assert not [name for name, count in owners.items() if count > 1]
