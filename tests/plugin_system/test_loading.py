"""What becomes of plugins while they are found and loaded."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from nexus_core import ConfigurationError, Nexus, PluginError, hookimpl
from nexus_core.app.plugin import manager_without_platform

GOOD = """
@hookimpl
def nexus_register_parameter_resolvers(nexus):
    return []
"""

SETTINGS = """
from pydantic import Field
from nexus_core import PluginSettings

class Settings(PluginSettings):
    {option}: int = Field(1, description="A number.")

@hookimpl
def nexus_register_settings():
    return Settings
"""

BROKEN = {
    "raises": ("raise ValueError('out of order')", "its import failed: ValueError: out of order"),
    "imports": ("import no_such_library", "No module named 'no_such_library'"),
    "syntax": ("def", "SyntaxError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit(3)"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt()"),
    "times_out": ("raise TimeoutError('the database')", "its import failed: TimeoutError: the database"),
    "hangs": ("import threading; threading.Event().wait(30)", "its import failed: TimeoutError: it did not end within"),
    "unknown_hook": ("@hookimpl\ndef nexus_no_such_hook(): ...", "no such hook: nexus_no_such_hook"),
    "wrong_arguments": (
        "@hookimpl\ndef nexus_startup(nexus, more): ...",
        "its hooks are invalid: PluginValidationError",
    ),
    "settings_raise": (
        "@hookimpl\ndef nexus_register_settings():\n    raise ValueError('sorry')",
        "nexus_register_settings failed: ValueError: sorry",
    ),
    "settings_are_none": (
        "@hookimpl\ndef nexus_register_settings():\n    return dict",
        "must return a subclass of PluginSettings",
    ),
    "settings_hang": (
        "@hookimpl\ndef nexus_register_settings():\n    import threading; threading.Event().wait(30)",
        "nexus_register_settings failed: TimeoutError: it did not end within",
    ),
    "adapters_exit": (
        "@hookimpl\ndef nexus_register_workflow_adapters(nexus):\n    raise SystemExit",
        "nexus_register_workflow_adapters failed: RuntimeError: it raised SystemExit()",
    ),
    "core_option": (SETTINGS.format(option="host"), "its option host belongs to the core already"),
}


def timeout(kind: str) -> float:
    return 0.5 if "hang" in kind else 20


def statuses(nexus: Nexus) -> dict[str, str]:
    return {each.name: str(each.status) for each in nexus.plugins.records if each.distribution.startswith("nexus-x")}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_plugin_is_named_with_its_reason_and_harms_nobody(
    site: Any, platform: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    code, reason = BROKEN[kind]
    site.add("a", GOOD, distribution="nexus-xa")
    site.add("broken", code, distribution="nexus-xbroken")
    site.add("z", GOOD, distribution="nexus-xz")
    with caplog.at_level(logging.ERROR):
        nexus = platform(plugin_timeout=timeout(kind))
    assert statuses(nexus) == {"a": "active", "broken": "failed", "z": "active"}
    record = next(each for each in nexus.plugins.records if each.name == "broken")
    assert reason in record.reason
    assert any(record.reason in line.message and "nexus-xbroken" in line.message for line in caplog.records)
    for hook in ("nexus_startup", "nexus_register_settings", "nexus_register_workflow_adapters"):
        assert "broken" not in [name for name, _ in nexus.plugins.implementations(hook)]
    nexus.register("w", lambda: 1)
    async with nexus:
        assert (await nexus.invoke("w")).value == 1


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_that_is_required_stops_the_start(site: Any, platform: Any, kind: str) -> None:
    code, reason = BROKEN[kind]
    site.add("broken", code)
    with pytest.raises(PluginError, match=rf'required plugin "broken" is not active: .*{re.escape(reason)}'):
        platform(plugin_timeout=timeout(kind), required_plugins=["broken"])


def test_a_required_plugin_that_is_not_installed(platform: Any) -> None:
    with pytest.raises(PluginError, match='"nowhere" is not installed'):
        platform(required_plugins=["nowhere"])


def test_authentication_fails_closed(site: Any, platform: Any) -> None:
    with pytest.raises(PluginError, match='"auth" is not installed'):
        platform(enable_auth=True)
    site.add("auth", "raise ValueError('no keys')")
    with pytest.raises(PluginError, match=r'"auth" is not active: .*no keys'):
        platform(enable_auth=True)
    with pytest.raises(PluginError, match='"auth" is not active: disabled'):
        platform(enable_auth=True, disabled=("auth",))


def test_one_name_from_two_distributions(site: Any, platform: Any) -> None:
    one = site.add("twin", GOOD, distribution="nexus-x-one")
    two = site.add("twin", GOOD, distribution="nexus-x-two")
    site.add("other", GOOD, distribution="nexus-x-other")
    nexus = platform()
    assert [str(r.status) for r in nexus.plugins.records if r.name == "twin"] == ["duplicate", "duplicate"]
    assert nexus.plugins.inactive()["twin"] == "nexus-x-one and nexus-x-two both provide 'twin'"
    assert not {one, two} & sys.modules.keys()
    assert "other" in nexus.plugins.active()
    with pytest.raises(PluginError, match="nexus-x-one and nexus-x-two"):
        platform(required_plugins=["twin"])


def test_another_version_of_the_core_is_required(site: Any, platform: Any) -> None:
    module = site.add("future", GOOD, requires="nexus-hub-core>=7")
    nexus = platform()
    assert "requires nexus-hub-core>=7" in nexus.plugins.inactive()["future"]
    assert module not in sys.modules
    with pytest.raises(PluginError, match="nexus-hub-core>=7"):
        platform(required_plugins=["future"])


def test_two_plugins_with_one_option(site: Any, platform: Any) -> None:
    site.add("first", SETTINGS.format(option="size"))
    site.add("second", SETTINGS.format(option="size"))
    nexus = platform(size=5)
    assert "first" in nexus.plugins.active()
    assert nexus.plugins.inactive()["second"] == 'its option size belongs to the plugin "first" already'


def test_a_wrong_option_is_the_operators(site: Any, platform: Any) -> None:
    site.add("sized", SETTINGS.format(option="size"))
    with pytest.raises(ConfigurationError, match="argument size"):
        platform(size="many")


@pytest.mark.parametrize("way", ["argument", "environment", "file"])
def test_disabled_plugins_are_never_imported(
    site: Any, platform: Any, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    off = site.add("off", "raise ValueError('imported')")
    on = site.add("on", GOOD)
    if way == "environment":
        monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", "off")
    if way == "file":
        monkeypatch.setattr(sys, "prefix", str(tmp_path))
        (tmp_path / "etc" / "nexus").mkdir(parents=True)
        (tmp_path / "etc" / "nexus" / "disabled-plugins").write_text("off\n")
    nexus = platform(disabled=("off",) if way == "argument" else ())
    assert off not in sys.modules
    assert on in sys.modules
    assert nexus.plugins.inactive()["off"] == "disabled by configuration"
    with pytest.raises(PluginError, match='"off" is not active: disabled'):
        platform(disabled=("off",) if way == "argument" else (), required_plugins=["off"])


async def test_plugins_are_called_in_the_order_of_their_names(site: Any, platform: Any) -> None:
    code = """
    @hookimpl{how}
    def nexus_startup(nexus):
        nexus.order.append("{name}")

    @hookimpl
    def nexus_shutdown(nexus):
        nexus.order.append("-{name}")
    """
    for name in ("delta", "alpha", "charlie", "bravo"):
        site.add(name, code.format(name=name, how="(tryfirst=True)" if name == "charlie" else ""))
    for _ in range(2):
        nexus = platform()
        nexus.order = []
        async with nexus:
            assert nexus.order == ["charlie", "alpha", "bravo", "delta"]
            assert nexus.plugins.active() == ["alpha", "bravo", "charlie", "delta"]
        assert nexus.order[4:] == ["-delta", "-charlie", "-bravo", "-alpha"]


async def test_several_platforms_with_different_plugins(site: Any, platform: Any) -> None:
    class Given:
        def __init__(self) -> None:
            self.starts = 0

        @hookimpl
        def nexus_startup(self, nexus: Nexus) -> None:
            self.starts += 1

    site.add("one", GOOD)
    site.add("two", GOOD)
    given = Given()
    first, second, third = platform(disabled=("two",)), platform(given, disabled=("one",)), platform()
    assert first.plugins.active() == ["one"]
    assert second.plugins.active() == ["two", "Given"]
    assert third.plugins.active() == ["one", "two"]
    second.plugins.fail("two", "for this test")
    async with first, second, third:
        assert given.starts == 1
    assert third.plugins.active() == ["one", "two"]


def test_a_given_plugin_that_is_wrong_is_an_error(platform: Any) -> None:
    class Wrong:
        @hookimpl
        def nexus_shut(self) -> None: ...

    with pytest.raises(PluginError, match="no such hook: nexus_shut"):
        platform(Wrong())
    members = {"nexus_register_routes": hookimpl(lambda self: [])}
    with pytest.raises(PluginError, match="already"):
        platform(type("Same", (), members)(), type("Same", (), members)())
    with pytest.raises(PluginError, match=r"not names: import 'acme\.plugin' and pass it"):
        platform("acme.plugin")


def test_nothing_of_a_failed_plugin_stays_in_the_manager(site: Any) -> None:
    site.add("wrong", "@hookimpl\ndef nexus_startup(nexus, more): ...\n" + GOOD)
    manager = manager_without_platform("nexus-test")
    manager.load_installed()
    assert "wrong" not in [plugin for plugin, _ in manager.implementations("nexus_register_parameter_resolvers")]
    assert "wrong" in manager.inactive()


def test_commands_that_need_no_platform_are_found_without_one(site: Any, platform: Any) -> None:
    site.add("helping", "@hookimpl\ndef nexus_register_commands():\n    return ['help']")
    site.add("working", "@hookimpl\ndef nexus_register_commands(nexus):\n    return ['work']")
    nexus = platform()
    both = nexus.plugins.collect("nexus_register_commands")
    assert both == [("helping", "help"), ("working", "work")]
    without_platform = manager_without_platform("nexus-test")
    without_platform.load_installed()
    assert without_platform.collect("nexus_register_commands") == [("helping", "help")]
    assert without_platform.active() == nexus.plugins.active() == ["helping", "working"]


def test_metadata_that_is_not_utf_8_stops_nothing(site: Any) -> None:
    site.add("fine", "@hookimpl\ndef nexus_register_commands(nexus): return []\n")
    info = site.folder / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_bytes(b"Metadata-Version: 2.1\nName: odd\nVersion: 1.0\nAuthor: J\xf6rg\n")
    (info / "entry_points.txt").write_bytes(b"[nexus.plugins]\nb\xe4d = odd.plugin\n")
    code = """
import asyncio
from nexus_core import Nexus
nexus = Nexus()
async def main():
    async with nexus:
        nexus.register("w", lambda: 1)
        print((await nexus.invoke("w")).value, "fine" in nexus.plugins.active())
asyncio.run(main())
"""
    done = site.python("-c", code)
    assert done.stdout == "1 True\n", done.stderr
    assert "odd-1.0.dist-info" in done.stderr
    assert site.records("list")["fine"]["status"] == "available"
    for words in (["doctor"], ["--help"]):
        done = site.python("-m", "nexus_core", *words)
        assert "Traceback" not in done.stderr, words
        assert "odd-1.0.dist-info" in done.stderr + done.stdout


def test_a_misspelt_plugin_to_disable_is_reported(site: Any, platform: Any, caplog: pytest.LogCaptureFixture) -> None:
    site.add("stock", GOOD)
    nexus = platform(disabled=("stokc", "redis", "other"))
    assert nexus.plugins.active() == ["stock"]
    told = [record.getMessage() for record in caplog.records if "disabled_plugins" in record.getMessage()]
    assert told == ["disabled_plugins: no plugin 'stokc' is installed; did you mean \"stock\"?"]
