"""``nexus plugins new``: every kind's distribution passes its own tests, and nothing half-written stays behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from nexus_scaffold.new import LONGEST, NewPluginError, kinds, read_kind, write

from nexus_core.app import hookspecs
from nexus_core.plugins.discovery import core_version, discover
from nexus_core.plugins.requirements import unmet_requirement

LEFT_OUT = {"nexus_startup", "nexus_shutdown", "nexus_register_settings", "nexus_register_run_engines"}
"""Hooks that `Plugin` implements, for plugins of any kind; and that of engines, each of which is a project."""

WHOLE = ("auth", "service", "settings")
"""The kinds whose contract is tested here too; that takes several seconds each."""


def write_all(folder: Path) -> list[Path]:
    return [write(f"my_{kind.replace('-', '_')}", kind, folder, set(), core_version()) for kind in kinds()]


def installed(folders: list[Path], site: Path) -> dict[str, str]:
    """Put distributions on a path as pip would; return the environment that sees them."""
    site.mkdir()
    for folder in folders:
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        (package,) = folder.glob("nexus_plugin_*")
        (site / package.name).symlink_to(package)
        metadata = site / f"{package.name}-{project['version']}.dist-info"
        metadata.mkdir()
        requires = "".join(f"Requires-Dist: {each}\n" for each in project["dependencies"])
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n{requires}"
        )
        (metadata / "entry_points.txt").write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
                for group, points in project["entry-points"].items()
            )
        )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "PYTEST_"))}
    return kept | {"PYTHONPATH": str(site)}


@pytest.mark.timeout(240)
def test_the_distribution_of_every_kind_passes_its_tests(tmp_path: Path) -> None:
    folders = write_all(tmp_path)
    assert len(folders) == len(kinds()) >= 20
    tests = [str(folder / "tests" / "test_plugin.py") for folder in folders]
    tests += [
        str(folder / "tests" / "test_contract.py") for folder in folders if folder.name.rsplit("-", 1)[-1] in WHOLE
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-c", "/dev/null",
         "--rootdir", str(tmp_path), "-o", "asyncio_mode=auto", *tests],
        cwd=tmp_path, env=installed(folders, tmp_path / "site"), capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) >= len(tests)


def test_pytest_runs_without_a_warning(tmp_path: Path) -> None:
    folder = write("my_interceptor", "interceptor", tmp_path, set(), core_version())
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_plugin.py"],
        cwd=folder, env=installed([folder], tmp_path / "site"), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "warning" not in done.stdout.lower()


def test_a_new_command_is_listed_in_the_help(tmp_path: Path) -> None:
    folder = write("my_command", "command", tmp_path, set(), core_version())
    done = subprocess.run(
        [sys.executable, "-m", "nexus_core", "--help"], cwd=tmp_path, env=installed([folder], tmp_path / "site"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert re.search(r"my_command +List workflows by the beginning of their names\.", done.stdout), done.stdout


def test_every_hook_has_a_kind() -> None:
    there = {name for name in vars(hookspecs) if name.startswith("nexus_")} - LEFT_OUT
    used = set(re.findall(r"def (nexus_\w+)", "".join(read_kind(kind).files["plugin.py"] for kind in kinds())))
    assert used == there


def test_the_documentation_names_every_kind() -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "plugins.md").read_text()
    named = re.search(r"These kinds exist: (.*?)\.", page, re.DOTALL)
    assert named is not None
    assert re.findall(r"`([\w-]+)`", named[1]) == kinds()


def test_what_is_written(tmp_path: Path) -> None:
    folder = write("shop_prices", "resolver", tmp_path, set(), core_version())
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        ".gitignore", "README.md", "pyproject.toml", "nexus_plugin_shop_prices/__init__.py",
        "nexus_plugin_shop_prices/plugin.py", "nexus_plugin_shop_prices/py.typed", "tests/test_contract.py",
        "tests/test_plugin.py",
    }  # fmt: skip
    text = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "__PACKAGE__" not in text
    assert "__NAME__" not in text
    assert "class ShopPricesResolver(ParameterResolver)" in text
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["nexus.plugins"] == {
        "shop_prices": "nexus_plugin_shop_prices.plugin:ShopPricesPlugin"
    }
    assert unmet_requirement(project["dependencies"], "nexus-hub-core", core_version()) is None
    assert "nexus_register_parameter_resolvers" in (folder / "README.md").read_text()


def nexus(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nexus_core", "plugins", "new", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_the_command_says_what_comes_next(tmp_path: Path) -> None:
    done = nexus("shop_prices", "--kind", "channel", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cd nexus-plugin-shop-prices\n" in done.stdout
    assert "nexus plugins check shop_prices\n" in done.stdout
    again = nexus("shop_prices", "--kind", "channel", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "exists already" in again.stderr
    unknown = nexus("other", "--kind", "chanel", cwd=tmp_path)
    assert (unknown.returncode, "did you mean channel?" in unknown.stderr) == (1, True)
    assert nexus("other", cwd=tmp_path).returncode == 2
    assert [path.name for path in tmp_path.iterdir()] == ["nexus-plugin-shop-prices"]


@pytest.mark.parametrize(
    "name",
    ["", "Prices", "1st", "a-b", "a b", "../up", "a/b", "a\\b", "a__b", "_a", "a_", "ä", "a\nb", "\x1b[2J", "class",
     "a" * (LONGEST + 1), "--kind", "api", "core", "a.b", "nul\0"],
)  # fmt: skip
def test_names_that_can_not_be(tmp_path: Path, name: str) -> None:
    taken = {record.name for record in discover()}
    with pytest.raises(NewPluginError) as refused:
        write(name, "channel", tmp_path, taken, core_version())
    assert str(refused.value).isprintable()
    assert not list(tmp_path.iterdir())


def test_places_that_can_not_be(tmp_path: Path) -> None:
    with pytest.raises(NewPluginError, match="can't be written"):
        write("prices", "channel", tmp_path / "nowhere", set(), core_version())
    (tmp_path / "file").write_text("")
    with pytest.raises(NewPluginError, match="can't be written"):
        write("prices", "channel", tmp_path / "file", set(), core_version())


@pytest.mark.parametrize(
    ("error", "told"),
    [(OSError(28, "No space left on device"), NewPluginError), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["full disk", "interrupt"],
)
def test_what_goes_wrong_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, told: type[BaseException]
) -> None:
    def fail(self: Path, *_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(told, match=r"No space left|^$"):
        write("prices", "channel", tmp_path, set(), core_version())
    assert not list(tmp_path.iterdir())
