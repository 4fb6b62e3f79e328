"""Wheels of every distribution, built once, and fresh environments that hold some of them and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APP = '''\
import sys
from nexus_core import Nexus

def ports(*plugins):
    return {f"{name}_port": 0 for name in plugins}

nexus = Nexus()

@nexus.workflow
async def add(a: int, b: int = 1) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": a + b}
'''


@dataclass(frozen=True)
class Project:
    """The source folder of one distribution."""

    folder: Path

    @property
    def key(self) -> str:
        """The name that the fixture ``wheels`` has for it."""
        return "core" if self.folder == ROOT else self.folder.name

    @property
    def package(self) -> Path:
        """The folder of the package that the wheel holds."""
        return next(path.parent for path in sorted(self.folder.glob("nexus*/__init__.py")))

    @property
    def distribution(self) -> str:
        """The name the wheel must have."""
        if self.folder == ROOT:
            return "nexus-hub-core"
        return "nexus-hub" if self.folder.name == "platform" else f"nexus-hub-{self.folder.name}"


def projects() -> list[Project]:
    """Return every distribution of this repository, the core first."""
    return [Project(ROOT), *(Project(found.parent) for found in sorted(ROOT.glob("plugins/*/pyproject.toml")))]


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder outside of it with ``shop.py`` in it."""

    folder: Path
    work: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def variables(self) -> dict[str, str]:
        """What a fresh shell with the environment activated would have."""
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin"}

    def run(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command and check its exit code."""
        done = subprocess.run(
            command, cwd=self.work, env=self.variables, capture_output=True, text=True, timeout=60, check=False,
            executable=str(self.folder / "bin" / command[0]), stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def script(self, text: str, *, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run Python code that can import ``shop``."""
        return self.run("python", "-c", text, code=code)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every distribution's wheel, by its folder's name; the core's is ``core``."""
    folder = tmp_path_factory.mktemp("wheels")
    folders = [str(project.folder) for project in projects()]
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), *folders)
    found = {path.name.split("-")[0].replace("_", "-"): path for path in folder.glob("*.whl")}
    return {project.key: found[project.distribution] for project in projects()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes ``project`` each of them in turn."""
    if "project" in metafunc.fixturenames:
        metafunc.parametrize("project", projects(), ids=lambda project: project.distribution)


@pytest.fixture(scope="session", name="projects")
def every_project() -> list[Project]:
    """Every distribution of this repository, the core first."""
    return projects()


@pytest.fixture(scope="session")
def required(wheels: dict[str, Path]) -> Path:
    """A folder with the wheels that ours require, at the pinned versions; fetched when requirements change."""
    declared = [ROOT / "constraints.txt", *(project.folder / "pyproject.toml" for project in projects())]
    key = hashlib.sha256(sys.version.encode() + b"".join(path.read_bytes() for path in declared)).hexdigest()
    folder = ROOT / ".cache" / "wheels" / key[:16]
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}")
        pip("download", "--dest", str(partial), "--constraint", str(declared[0]), *map(str, wheels.values()))
        for own in partial.glob("nexus_hub*"):
            own.unlink()
        with suppress(OSError):  # another run has been faster
            partial.rename(folder)
    assert folder.exists()
    return folder


def pip(*arguments: str, python: str = sys.executable) -> None:
    """Run pip for an environment."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*command, arguments[0], "--quiet", *arguments[1:]], check=True)


@pytest.fixture(scope="session")
def make_environment(wheels: dict[str, Path], required: Path, tmp_path_factory: pytest.TempPathFactory):
    """Make an environment with the named distributions and what they require. The same ones are made once."""
    made: dict[tuple[str, ...], Environment] = {}

    def make(*names: str) -> Environment:
        if names not in made:
            folder = tmp_path_factory.mktemp("-".join(names))
            environment = Environment(folder / "venv", folder / "work")
            subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment.folder)], check=True)
            found = (
                "--no-index",
                "--find-links",
                str(required),
                "--find-links",
                str(next(iter(wheels.values())).parent),
            )
            pip("install", "--no-compile", *found, *(str(wheels[name]) for name in names), python=environment.python)
            environment.work.mkdir()
            (environment.work / "shop.py").write_text(APP)
            made[names] = environment
        return made[names]

    return make
