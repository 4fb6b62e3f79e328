"""The files that set the project up name everything there is, and no address."""

from __future__ import annotations

import re
import stat
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!]*")


def test_constraints_are_plain_pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines
    assert not [line for line in lines if not PIN.fullmatch(line)]
    assert len({line.split("==")[0].lower() for line in lines}) == len(lines)


def test_every_requirement_is_pinned(projects):
    pinned = {_normal(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for project in projects:
        about = tomllib.loads((project.folder / "pyproject.toml").read_text())["project"]
        extras = about.get("optional-dependencies", {}).values()
        declared = [*about.get("dependencies", []), *(each for extra in extras for each in extra)]
        names = {_normal(re.match(r"[A-Za-z0-9._-]+", each)[0]) for each in declared}
        assert not {name for name in names if not name.startswith("nexus-hub")} - pinned, project.distribution


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_import_rules_cover_every_package(projects):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    packages = {project.package.name for project in projects}
    plugins = packages - {"nexus_core", "nexus"}
    assert set(settings["root_packages"]) == packages
    independent = next(each for each in settings["contracts"] if each["type"] == "independence")
    assert set(independent["modules"]) == plugins - {"nexus_toolkit"}  # the library that plugins share
    core = next(each for each in settings["contracts"] if each.get("source_modules") == ["nexus_core"])
    assert plugins <= set(core["forbidden_modules"])


def test_the_script_for_continuous_integration_can_be_run():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
