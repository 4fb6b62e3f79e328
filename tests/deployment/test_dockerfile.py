"""What can be said of an image without building it."""

from __future__ import annotations

import fnmatch
import re
import tomllib

from deployment_manifests import ROOT, dockerfile, health_command, image_command, image_environment, of_image

TEXT = (ROOT / "Dockerfile").read_text()


def ignored(path: str) -> bool:
    """Whether a file of the checkout is kept out of the build, as the last pattern that fits says."""
    out = False
    for line in (ROOT / ".dockerignore").read_text().split():
        pattern = line.removeprefix("!")
        parts = path.split("/")
        folders = ["/".join(parts[:number]) for number in range(1, len(parts) + 1)]
        deep = re.sub(r"^\*\*/", "", pattern)
        if pattern == "**" or any(
            (fnmatch.fnmatch(each, pattern) and each.count("/") == pattern.count("/"))
            or (deep != pattern and fnmatch.fnmatch(each.rpartition("/")[2], deep))
            for each in folders
        ):
            out = not line.startswith("!")
    return out


def test_every_stage_begins_with_a_pinned_image() -> None:
    bases = [stage[0].value.split(" AS ")[0] for stage in dockerfile()]
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?-[a-z-]+", base), base


def test_nothing_comes_from_an_address() -> None:
    assert not [each for stage in dockerfile() for each in stage if each.name == "ADD"]
    assert not re.search(r"index-url|find-links|trusted-host|curl|wget|https?://(?!127\.0\.0\.1)", TEXT)


def test_it_runs_as_somebody_without_rights() -> None:
    stage = dockerfile()[-1]
    user, group = of_image("USER").value.split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"useradd --uid {user} --gid {group}" in next(each.value for each in stage if each.name == "RUN")
    later = stage[[each.name for each in stage].index("USER") :]
    assert not [each for each in later if each.name in ("RUN", "COPY")]


def test_nothing_that_builds_is_in_the_image() -> None:
    copied = [each.value.split() for each in dockerfile()[-1] if each.name == "COPY"]
    assert copied == [["--from=build", "/opt/nexus", "/opt/nexus"]]
    assert image_environment()["PATH"] == "/opt/nexus/bin:$PATH"
    assert "--without-pip /opt/nexus" in TEXT


def test_it_serves_the_application_that_is_named() -> None:
    assert image_command() == ["nexus", "serve"]
    assert image_environment()["NEXUS_APP"] == "app:nexus"
    assert of_image("WORKDIR").value == "/app"
    assert of_image("EXPOSE").value.split() == ["8000", "8001", "3001", "9090"]
    assert of_image("STOPSIGNAL").value == "SIGTERM"


def test_its_health_is_asked_with_the_standard_library_alone() -> None:
    program, flag, code = health_command()
    assert (program, flag) == ("python", "-c")
    imported = re.match(r"import ([\w., ]+?)( as \w+)?;", code)
    assert imported
    assert {each.strip() for each in imported[1].split(",")} == {"os", "ssl", "urllib.request"}
    assert image_environment()["HEALTH_URL"].endswith(":8000/health/live")


def test_the_build_gets_all_that_is_installed_and_nothing_else() -> None:
    copied = [each.value.split()[:-1] for each in dockerfile()[0] if each.name == "COPY"]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists(), path
        assert not ignored(path), path
    for folder in [ROOT, *(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]:
        project = tomllib.loads((folder / "pyproject.toml").read_text())
        needed = [project["project"]["readme"], *project["project"].get("license-files", []), "pyproject.toml"]
        packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
        for path in [folder / each for each in [*needed, *packages]]:
            assert path.exists(), path
            assert not ignored(path.relative_to(ROOT).as_posix()), path
    kept_out = ("tests", "docs", ".git", ".venv", "plugins/api/tests", "plugins/api/.mypy_cache", "plugins/conftest.py",
                "nexus_core/__pycache__", "nexus_core/__pycache__/app.cpython-313.pyc", "site")  # fmt: skip
    assert [path for path in kept_out if not ignored(path)] == []


def test_what_is_installed_together_are_folders_of_distributions() -> None:
    """A file between them, such as conftest.py, would end the build."""
    (run,) = (each.value for each in dockerfile()[0] if each.value.startswith("pip "))
    words = run.split()
    assert words[-2:] == [".", "./plugins/*/"]
    assert words[words.index("--constraint") + 1] == "constraints.txt"
    for folder in ROOT.glob("plugins/*/"):
        if folder.is_dir() and not ignored(folder.relative_to(ROOT).as_posix()) and any(folder.glob("*/__init__.py")):
            assert (folder / "pyproject.toml").exists(), folder
