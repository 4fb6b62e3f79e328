"""A plugin that guards access and fails stops the start, whatever of it fails, and however it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import ConfigurationError, PluginError

if TYPE_CHECKING:
    from nexus_core import Nexus

GUARD = """
import threading
from pydantic import Field
from nexus_core import Plugin, PluginSettings, Stage

class CorpSettings(PluginSettings):
    corp_access: bool = Field(False, description="Guard access.")

class Asks:
    stage = Stage.AUTHENTICATE
    async def __call__(self, invocation, call_next):
        return await call_next(invocation)

class CorpPlugin(Plugin[CorpSettings]):
    @property
    def guards_access(self):
        return self.settings.corp_access
    def nexus_register_interceptors(self):
        return [Asks()]
"""

OPTION = """
from nexus_core import Plugin, PluginSettings
class FirstSettings(PluginSettings):
    {option}: bool = False
class FirstPlugin(Plugin[FirstSettings]):
    def nexus_register_services(self):
        return {{}}
"""

FAILURES = {
    "constructor": "    def __init__(self, platform, settings): raise ValueError('sorry')",
    "constructor hangs": "    def __init__(self, platform, settings): threading.Event().wait()",
    "constructor exits": "    def __init__(self, platform, settings): raise SystemExit(3)",
    "constant": "    guards_access = True\n    def __init__(self, platform, settings): raise ValueError('sorry')",
    "unknown hook": "    def nexus_register_nothing(self): ...",
    "members": "    def __dir__(self): raise SystemExit(3)",
}


async def start(nexus: Nexus) -> None:
    async with nexus:
        pass


@pytest.mark.parametrize("failure", FAILURES)
async def test_it_stops_the_start_while_it_is_on(site: Any, platform: Any, failure: str) -> None:
    site.add("corp", GUARD + FAILURES[failure], attribute="CorpPlugin")
    with pytest.raises(PluginError, match='The required plugin "corp" is not active'):
        platform(corp_access=True, plugin_timeout=0.5)
    if failure != "constant":
        await start(platform(plugin_timeout=0.5))


@pytest.mark.parametrize("body", ["return 1 / 0", "return self.made_by_the_constructor"])
def test_one_that_can_not_say_whether_it_guards_stops_the_start(site: Any, platform: Any, body: str) -> None:
    constructor = "    def __init__(self, platform, settings): raise ValueError\n"
    says = f"    @property\n    def guards_access(self): {body}"
    site.add("corp", GUARD + constructor + says, attribute="CorpPlugin")
    with pytest.raises(PluginError, match='The required plugin "corp" is not active'):
        platform()


def test_one_whose_option_another_plugin_has_stops_the_start(site: Any, platform: Any) -> None:
    site.add("aa", OPTION.format(option="corp_access"), attribute="FirstPlugin")
    site.add("corp", GUARD, attribute="CorpPlugin")
    with pytest.raises(PluginError, match='"corp" is not active: its option corp_access belongs to the plugin "aa"'):
        platform(corp_access=True)


async def test_an_instance_is_asked_too(site: Any, platform: Any) -> None:
    made = "plugin = CorpPlugin(None, CorpSettings(corp_access=True))\n"
    module = site.add("corp", GUARD + made, attribute="plugin")
    nexus = platform()
    assert nexus.guards == {"corp"}
    await start(nexus)
    __import__("sys").modules[module].CorpPlugin.nexus_register_interceptors = None
    site.add("corq", GUARD + "    def nexus_register_routes(self): raise OSError('gone')\n" + made, attribute="plugin")
    with pytest.raises(PluginError, match='"corq" is not active: nexus_register_routes failed: OSError: gone'):
        await start(platform(disabled=("corp",)))


async def test_what_another_plugin_does_is_no_proof_that_authentication_works(site: Any, platform: Any) -> None:
    """Two plugins have a stage at AUTHENTICATE, and an authorizer; the one that is on has neither."""
    site.add("auth", OPTION.format(option="enable_auth"), attribute="FirstPlugin")
    grants = """
class Everything:
    async def granted(self, principal, permissions):
        return permissions
"""
    more = "    def nexus_register_authorizers(self): return [Everything()]\n"
    site.add("corp", GUARD + more + grants, attribute="CorpPlugin")
    with pytest.raises(PluginError, match='"auth" is on, but has no stage that authenticates, or no authorizer'):
        await start(platform(enable_auth=True))


async def test_a_plugin_takes_no_option_of_an_installed_first_party_one(site: Any, platform: Any) -> None:
    site.add("aa", OPTION.format(option="enable_rate_limiting"), attribute="FirstPlugin")
    site.add(
        "ratelimit", OPTION.format(option="enable_rate_limiting"), attribute="FirstPlugin",
        distribution="nexus-hub-ratelimit",
    )  # fmt: skip
    nexus = platform(enable_rate_limiting=True)
    assert nexus.plugins.inactive() == {
        "aa": 'its option enable_rate_limiting belongs to the plugin "ratelimit" already'
    }
    assert [record.name for record in nexus.plugins.records] == ["aa", "ratelimit"]


async def test_a_guard_that_is_on_by_default_is_named_without_an_option(site: Any, platform: Any) -> None:
    site.add("corp", "raise OSError('gone')", guard="always")
    with pytest.raises(PluginError, match='The required plugin "corp" is not active: its import failed'):
        platform()
    await start(platform(disabled=("corp",)))


def test_a_guard_that_names_no_plugin_by_a_slip_counts_for_all_of_its_distribution(site: Any, platform: Any) -> None:
    site.add("corp", "raise OSError('gone')", guard="corp_access")
    metadata = next(site.folder.glob("*.dist-info")) / "entry_points.txt"
    metadata.write_text(metadata.read_text().replace("corp_access = corp", "corp_access = crop"))
    with pytest.raises(PluginError, match='The required plugin "corp" is not active: its import failed'):
        platform(corp_access=True)


@pytest.mark.parametrize("value", ["enabled", "ture", "01", "yes please", "https://corp.example", [0]])
def test_an_option_that_is_not_clearly_off_is_on_for_a_guard_that_is_absent(
    site: Any, platform: Any, value: object
) -> None:
    with pytest.raises(PluginError, match='The required plugin "auth" is not installed'):
        platform(enable_auth=value)
    site.add("corp", "raise OSError('gone')", guard="corp_access")
    with pytest.raises(PluginError, match='The required plugin "corp" is not active'):
        platform(corp_access=value)


@pytest.mark.parametrize("value", ["", "0", "False", " off ", "no", "none", False, 0, None])
def test_an_option_that_is_off_needs_no_plugin(platform: Any, value: object) -> None:
    assert platform(enable_auth=value).guards == set()


@pytest.mark.parametrize("values", [("true", "false"), ("false", "true")])
def test_two_spellings_of_a_variable_do_not_contradict_each_other(
    platform: Any, monkeypatch: pytest.MonkeyPatch, values: tuple[str, str]
) -> None:
    for name, value in zip(("NEXUS_ENABLE_AUTH", "nexus_enable_auth"), values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigurationError,
        match="variable NEXUS_ENABLE_AUTH and environment variable nexus_enable_auth are set to different values",
    ):
        platform()
