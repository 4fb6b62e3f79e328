"""What there is is documented."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from doc_pages import ROOT, text

from nexus_core import CoreSettings
from nexus_core.errors import error_classes

PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def test_every_core_option_is_documented_with_its_default() -> None:
    page = text("docs/reference/options.md")
    for name, field in CoreSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "none" if default in (None, []) else str(default)
        assert f"| `{name}` | {shown} | {field.description} |" in page


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda path: path.name)
def test_every_plugin_option_is_documented(folder: Path) -> None:
    found = [each for each in entry_points(group="nexus.plugins") if each.name == folder.name]
    assert len(found) == ("nexus.plugins" in (folder / "pyproject.toml").read_text(encoding="utf-8"))
    plugin = found[0].load() if found else None
    if not hasattr(plugin, "nexus_register_settings"):
        return
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for name, field in plugin.nexus_register_settings().model_fields.items():
        row = re.search(rf"^\| `{name}` \| ([^|]*?) *\|", readme, re.MULTILINE)
        assert row, f"{name} is not in {folder.name}/README.md"
        assert row[1].strip("`").lower() in shown(field.get_default(call_default_factory=True)), (
            f"the default of {name}"
        )
        assert field.description, f"{name} has no description"


def shown(default: object) -> set[str]:
    """Return how a page may show a default."""
    if default in (None, [], ()):
        return {"none", ""}
    if isinstance(default, list):
        return {", ".join(default)}
    return {str(default).lower(), str(default).removesuffix(".0")}


def test_every_error_is_documented() -> None:
    page = text("docs/reference/errors.md")
    for cls in error_classes():
        row = f"| `{cls.code}` | `{cls.__name__}` | {cls.status} | {cls.exit_code} | {cls.jsonrpc_code} |"
        assert row in page, row


def test_error_codes_are_unique() -> None:
    codes = [cls.code for cls in error_classes()]
    assert sorted(codes) == sorted(set(codes))


def test_every_api_route_is_documented() -> None:
    readme = text("plugins", "api", "README.md")
    nexus_core = importlib.import_module("nexus_core")
    openapi = importlib.import_module("nexus_api.openapi")
    api = importlib.import_module("nexus_api.channel")
    settings = importlib.import_module("nexus_api.settings").ApiSettings()
    nexus = nexus_core.Nexus(discover=False)
    routes = api.described_routes(nexus, settings)
    document = json.loads(asyncio.run(openapi.OpenAPI(nexus, routes=routes).text([])))
    assert len(document["paths"]) > 5
    for path in document["paths"]:
        assert path.replace("{run_id}", "{id}").replace("{session_id}", "{id}") in readme, path


def test_every_module_of_the_core_is_on_the_map() -> None:
    page = text("docs/architecture.md")
    for path in ROOT.glob("nexus_core/**/*.py"):
        if not path.stem.startswith("_"):
            assert re.search(rf"`{path.stem}`", page), f"{path.stem} is not in docs/architecture.md"
    for path in ROOT.glob("nexus_core/*/__init__.py"):
        assert f"`{path.parent.name}/`" in page, f"{path.parent.name} is not in docs/architecture.md"


def test_every_plugin_is_in_the_readme_and_the_changelog() -> None:
    for folder in PLUGINS:
        name = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
        assert f"`{name}`" in text("README.md")
        assert f"`{name}`" in text("CHANGELOG.md")


def test_modules_stay_small() -> None:
    for path in [*ROOT.glob("nexus_core/**/*.py"), *ROOT.glob("plugins/*/nexus_*/**/*.py")]:
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines"
