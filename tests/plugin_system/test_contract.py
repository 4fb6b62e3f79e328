"""The contract suite passes for a good plugin, and each of its tests fails for one that breaks it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nexus_core import Nexus, hookimpl
from nexus_core.testing import isolated_nexus

GOOD = """
import functools

@functools.cache
def settings():
    from pydantic import Field
    from nexus_core import PluginSettings

    class Settings(PluginSettings):
        sample_size: int = Field(1, description="A number.")

    return Settings

@hookimpl
def nexus_register_settings():
    return settings()
"""

TESTS = """
from nexus_core.testing import PluginContract

class TestContract(PluginContract):
    plugin = "sample"
"""

BROKEN = {
    "test_the_entry_point_leads_to_hook_implementations": {"code": "def nexus_startup(nexus): ..."},
    "test_the_distribution_names_the_versions": {"code": GOOD, "requires": "nexus-hub-core>=0.1"},
    "test_importing_it_imports_nothing_heavy": {"code": GOOD + "\nimport starlette\n"},
    "test_its_hooks_are_known": {"code": GOOD + "\n@hookimpl\nasync def nexus_register_routes(nexus): return []\n"},
    "test_its_options_are_described": {"code": GOOD.replace("A number.", " ")},
    "test_what_it_says_of_guarding_access": {"code": GOOD, "guard": "another_option"},
    "test_starting_and_stopping_twice": {
        "code": GOOD
        + "\nimport asyncio\n@hookimpl\nasync def nexus_startup(nexus):\n"
        + "    nexus.left = asyncio.create_task(asyncio.Event().wait())\n"
    },
    "test_a_plugin_that_fails_beside_it": {
        "code": GOOD + "\n@hookimpl\ndef nexus_register_channels(nexus):\n    raise ValueError('sorry')\n"
    },
    "test_nexus_plugins_check_shows_it_active": {"code": GOOD + "\n@hookimpl\ndef nexus_no_such_hook(): ...\n"},
}


def run_contract(site: Any, tmp_path: Path, test: str = "") -> Any:
    (tmp_path / "test_sample.py").write_text(TESTS)
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "-k", test]
    # No plugin of pytest is needed, and none costs its import.
    return site.python("-m", "pytest", *options, str(tmp_path / "test_sample.py"), PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def test_a_good_plugin_passes(site: Any, tmp_path: Path) -> None:
    site.add("sample", GOOD)
    done = run_contract(site, tmp_path)
    assert done.returncode == 0, done.stdout
    assert "9 passed" in done.stdout


@pytest.mark.parametrize("test", BROKEN)
def test_a_plugin_that_breaks_the_contract_does_not_pass(site: Any, tmp_path: Path, test: str) -> None:
    site.add("sample", **BROKEN[test])
    done = run_contract(site, tmp_path, test)
    assert done.returncode == 1, done.stdout
    assert f"::TestContract::{test}" in done.stdout.partition("short test summary")[2]


def test_a_plugin_with_anothers_option_does_not_pass(site: Any, tmp_path: Path) -> None:
    site.add("another", GOOD)
    site.add("sample", GOOD)
    done = run_contract(site, tmp_path, "described")
    assert "sample_size belongs to another plugin too" in done.stdout


def test_a_file_that_an_option_names_by_default_is_not_left(site: Any, tmp_path: Path) -> None:
    writes = "\n@hookimpl\ndef nexus_startup(nexus):\n    open('left-by-sample.db', 'w').close()\n"
    site.add("sample", GOOD + writes)
    done = run_contract(site, tmp_path, "starting_and_stopping_twice")
    assert done.returncode == 0, done.stdout
    assert not (site.folder / "left-by-sample.db").exists()  # the folder that pytest runs in


def test_an_isolated_platform_has_the_given_plugins_only() -> None:
    class Started:
        @hookimpl
        def nexus_startup(self, nexus: Nexus) -> None:
            started.append(nexus)

    async def call() -> Any:
        async with nexus:
            return (await nexus.invoke("w")).value

    started: list[Nexus] = []
    nexus = isolated_nexus(Started(), workflow_timeout=3)
    nexus.register("w", lambda: 1)
    assert asyncio.run(call()) == 1
    assert started == [nexus]
    assert nexus.plugins.active() == ["Started"]
    assert nexus.options.workflow_timeout == 3
