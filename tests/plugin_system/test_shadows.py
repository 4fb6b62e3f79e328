"""Files beside an application that hide a library, and distributions that share an import name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nexus_core import Nexus
from nexus_core.app.applications import load
from nexus_core.errors import ConfigurationError
from nexus_core.plugins.discovery import PluginRecord, PluginStatus
from nexus_core.plugins.shadows import hidden_libraries, name_clash

APP = """
from nexus_core import Nexus
nexus = Nexus(api_port=0, cli_port=0, mcp_port=0)
nexus.register("add", lambda a, b: a + b)
nexus.start()
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("library", ["mcp", "starlette", "hypercorn"])
@pytest.mark.parametrize("words", [["app.py"], ["-P", "-m", "nexus_core", "serve", "app.py"]], ids=["python", "serve"])
def test_the_start_names_a_file_that_hides_a_library(tmp_path: Path, library: str, words: list[str]) -> None:
    (tmp_path / "app.py").write_text(APP)
    if library == "starlette":
        (tmp_path / library).mkdir()
        (tmp_path / library / "__init__.py").write_text("")
    else:
        (tmp_path / f"{library}.py").write_text("value = 1\n")
    done = run(tmp_path, *words)
    assert done.returncode == 1
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert str(tmp_path / library) in line
    assert f'hides the library "{library}"' in line
    assert "the plugin" in line


@pytest.mark.parametrize(
    ("library", "words"),
    [("pydantic", ["app.py"]), ("msgspec", ["app.py"]), ("msgspec", ["-P", "-m", "nexus_core", "serve", "app.py"])],
)
def test_a_library_of_the_core_is_named_as_well(tmp_path: Path, library: str, words: list[str]) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / f"{library}.py").write_text("value = 1\n")
    done = run(tmp_path, *words)
    assert done.returncode == 1
    assert f'{library}.py hides the library "{library}" ({library}), which the core needs' in done.stderr


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def record(distribution: str, status: PluginStatus = PluginStatus.ACTIVE) -> PluginRecord:
    return PluginRecord("plugin", "1", distribution, "module", status)


def test_what_hides_nothing_that_is_needed_is_left_alone(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own.py", "conftest.py", "pytest.py", "sse_starlette.txt"):
        (beside / name).write_text("")
    (beside / "starlette").mkdir()  # without __init__.py, the installed one comes first
    assert hidden_libraries([record("nexus-hub-mcp")]) == []
    (beside / "sse_starlette.py").write_text("")
    monkeypatch.delitem(sys.modules, "sse_starlette", raising=False)
    assert hidden_libraries([record("nexus-hub-cli"), record("nexus-hub-mcp", PluginStatus.DISABLED)]) == []
    [complaint] = hidden_libraries([record("nexus-hub-mcp")])
    assert str(beside / "sse_starlette.py") in complaint
    import sse_starlette as hidden  # noqa: F401

    monkeypatch.setattr(sys.modules["sse_starlette"], "__file__", "/elsewhere/sse_starlette/__init__.py")
    assert hidden_libraries([record("nexus-hub-mcp")]) == []  # it was imported before it was hidden


def test_a_distribution_that_is_installed_there_hides_nothing(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sse_starlette", raising=False)
    (beside / "sse_starlette.py").write_text("")
    metadata = beside / "sse_starlette-99.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sse-starlette\nVersion: 99\n")
    (metadata / "top_level.txt").write_text("sse_starlette\n")
    assert hidden_libraries([record("nexus-hub-mcp")]) == []


async def test_an_embedded_platform_is_checked_too(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (beside / "sse_starlette.py").write_text("")
    monkeypatch.delitem(sys.modules, "sse_starlette", raising=False)
    nexus = Nexus(discover=False)
    nexus.plugins.records.append(record("nexus-hub-mcp"))
    nexus.register("w", lambda: 1)
    with pytest.raises(ConfigurationError, match=r'sse_starlette\.py hides the library "sse_starlette"'):
        await nexus.invoke("w")


# The import name `nexus`


def install(folder: Path, name: str) -> Path:
    metadata = folder / f"{name.replace('-', '_')}-2.16.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.16.0\n")
    (folder / "nexus").mkdir(exist_ok=True)
    return folder / "nexus"


def test_two_distributions_of_one_import_name_are_told(beside: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert name_clash() is None
    folder = install(beside, "kailash-nexus")
    clash = name_clash()
    assert clash is not None
    assert "pip uninstall -y kailash-nexus nexus-hub" in clash
    assert name_clash(folder) == clash
    assert name_clash(tmp_path_factory.mktemp("elsewhere")) is None


def test_the_import_of_nexus_says_so(tmp_path: Path) -> None:
    import nexus

    package = install(tmp_path, "kailash-nexus")
    install(tmp_path, "nexus-hub")
    (package / "__init__.py").write_text(Path(nexus.__file__).read_text())
    done = run(tmp_path, "-c", "import nexus")
    assert done.returncode == 1
    assert "ImportError: kailash-nexus and nexus-hub are both installed" in done.stderr


@pytest.mark.integration  # Python's `platform` asks `uname`
def test_doctor_says_so(beside: Path) -> None:
    environment: Any = pytest.importorskip("nexus_health.doctor.environment")
    assert [each for each in environment.environment() if each.subject == "nexus"] == []
    install(beside, "kailash-nexus")
    [found] = [each for each in environment.environment() if each.subject == "nexus"]
    assert "kailash-nexus" in found.text


def test_the_other_ones_platform_as_an_application(beside: Path) -> None:
    package = install(beside, "kailash-nexus")
    code = "class Nexus: pass\nNexus.__module__ = 'nexus.core'\nnexus = Nexus()\n"
    (package.parent / "shop_of_the_other.py").write_text(code)
    with pytest.raises(ConfigurationError, match=r"not a Nexus\. kailash-nexus and nexus-hub are both installed"):
        load(str(package.parent / "shop_of_the_other.py"))


# A file that starts its platform when it is imported


@pytest.mark.parametrize(
    "start", ["nexus.start()", "asyncio.run(serve())", "try:\n    nexus.start()\nexcept Exception:\n    pass"]
)
def test_an_application_that_starts_when_it_is_imported_is_used_without_serving(tmp_path: Path, start: str) -> None:
    app = tmp_path / "shop.py"
    app.write_text(f"""
import asyncio
from nexus_core import Nexus
platform = Nexus(api_port=0, cli_port=0, mcp_port=0)
nexus = platform
nexus.register("add", lambda a, b: a + b)

async def serve():
    async with nexus.serving():
        await asyncio.Event().wait()

{start}
raise RuntimeError("what follows the start must not run")
""")
    done = run(tmp_path, "-P", "-m", "nexus_core", "--app", "shop.py", "execute", "add", "--a", "1", "--b", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert '"result":3' in done.stdout
    if start == "nexus.start()":
        done = run(tmp_path, "-P", "-m", "nexus_core", "--app", "shop:nexus", "list")
        assert (done.returncode, done.stderr) == (0, "")
        assert '"add"' in done.stdout


def test_it_is_served_when_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    words = [sys.executable, "-P", "-m", "nexus_core", "serve", "shop.py"]
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any("Listening on" in line for line in iter(process.stderr.readline, ""))
        finally:
            process.terminate()
        process.stderr.read()
        assert process.wait(20) == 0
