"""Plugins that are classes: one object for each `Nexus`, with its options, its platform and its own state."""

from __future__ import annotations

import threading
from types import ModuleType

import pytest
from pydantic import Field

from nexus_core import (
    Command,
    ConfigurationError,
    Interceptor,
    Platform,
    Plugin,
    PluginError,
    PluginSettings,
    Stage,
    hookimpl,
)
from nexus_core.app.plugin import without_platform
from nexus_core.testing import isolated_nexus


class GreetingSettings(PluginSettings):
    greeting: str = Field("hello", description="What calls are greeted with.")
    enable_guard: bool = Field(False, description="Guard access.")


class Counting:
    stage = Stage.OBSERVE

    def __init__(self, plugin: GreetingPlugin) -> None:
        self._plugin = plugin

    async def __call__(self, invocation, call_next):
        self._plugin.seen.append((self._plugin.settings.greeting, invocation.name))
        return await call_next(invocation)


class GreetingPlugin(Plugin[GreetingSettings]):
    def __init__(self, platform: Platform, settings: GreetingSettings) -> None:
        super().__init__(platform, settings)
        self.seen: list[tuple[str, str]] = []
        self.steps: list[str] = []

    @property
    def guards_access(self) -> bool:
        return self.settings.enable_guard

    async def startup(self) -> None:
        self.steps.append("up")

    async def shutdown(self) -> None:
        self.steps.append("down")

    def nexus_register_interceptors(self) -> list[Interceptor]:
        return [Counting(self)]

    def nexus_register_services(self) -> dict[str, object]:
        return {"greeting": self}


async def test_a_class_becomes_one_object_for_each_platform() -> None:
    one, other = isolated_nexus(GreetingPlugin, greeting="hi"), isolated_nexus(GreetingPlugin)
    first, second = one.service("greeting"), other.service("greeting")
    assert type(first) is type(second) is GreetingPlugin
    assert first is not second
    assert first.platform is one
    assert (first.settings, second.settings) == (one.settings(GreetingSettings), other.settings(GreetingSettings))
    one.register("add", lambda: 1)
    async with one:
        await one.invoke("add")
    assert first.seen == [("hi", "add")]
    assert second.seen == []
    assert (first.steps, second.steps) == (["up", "down"], [])


def test_methods_need_no_marker_and_a_plugin_has_only_the_hooks_it_implements() -> None:
    (record,) = isolated_nexus(GreetingPlugin).plugins.records
    assert record.hooks == [
        "nexus_register_interceptors", "nexus_register_services", "nexus_register_settings", "nexus_shutdown",
        "nexus_startup",
    ]  # fmt: skip


def test_a_plugin_without_options_has_none() -> None:
    class Bare(Plugin):
        def nexus_register_services(self):
            return {"bare": self}

    assert isolated_nexus(Bare).service("bare").settings is None


def test_an_option_set_wrong_names_where_it_was_set() -> None:
    class Strict(PluginSettings):
        wanted: int = Field(description="A number.")

    class StrictPlugin(Plugin[Strict]):
        pass

    with pytest.raises(ConfigurationError, match="wanted: Field required"):
        isolated_nexus(StrictPlugin)
    with pytest.raises(ConfigurationError, match=r"argument wanted: .* valid integer"):
        isolated_nexus(StrictPlugin, wanted="x")


def test_two_plugins_cannot_have_one_option() -> None:
    class Other(Plugin[GreetingSettings]):
        pass

    class Same(PluginSettings):
        greeting: str = Field("x", description="The same name.")

    class SamePlugin(Plugin[Same]):
        pass

    with pytest.raises(PluginError, match='its option greeting belongs to the plugin "GreetingPlugin" already'):
        isolated_nexus(GreetingPlugin, SamePlugin)


def test_a_constructor_that_raises_fails_its_plugin_alone() -> None:
    class Broken(Plugin):
        def __init__(self, platform, settings):
            raise ValueError("sorry")

    with pytest.raises(PluginError, match="it can't be created: ValueError: sorry"):
        isolated_nexus(Broken)


def test_an_unknown_hook_is_refused() -> None:
    class Misspelt(Plugin):
        def nexus_register_chanels(self):
            return []

    with pytest.raises(PluginError, match="no such hook: nexus_register_chanels"):
        isolated_nexus(Misspelt)


async def test_a_plugin_that_guards_access_and_fails_stops_the_start() -> None:
    class Guard(GreetingPlugin):
        async def startup(self) -> None:
            raise RuntimeError("no directory")

    async with isolated_nexus(Guard):
        pass
    with pytest.raises(PluginError, match="no directory"):
        async with isolated_nexus(Guard, enable_guard=True):
            pass


async def test_a_plugin_that_guards_access_must_have_something_that_does() -> None:
    class Idle(Plugin[GreetingSettings]):
        guards_access = True

    with pytest.raises(PluginError, match='"Idle" guards access, but has neither an interceptor nor an authorizer'):
        async with isolated_nexus(Idle):
            pass


def test_instances_and_modules_keep_working() -> None:
    class Old:
        @hookimpl
        def nexus_register_services(self, nexus):
            return {"old": nexus}

    nexus = isolated_nexus(Old())
    assert nexus.service("old") is nexus


def test_what_needs_no_platform_is_there_without_one() -> None:
    class Commands(Plugin[GreetingSettings]):
        @staticmethod
        def nexus_register_commands():
            return [Command("hello", print, "Greet.")]

        def nexus_register_services(self):
            return {}

    there = without_platform("commands", Commands)
    assert [command.name for command in there.nexus_register_commands()] == ["hello"]
    assert not hasattr(there, "nexus_register_services")


def test_an_entry_point_may_name_a_class(site, platform) -> None:
    site.add(
        "shouts",
        """
        from pydantic import Field
        from nexus_core import Plugin, PluginSettings

        class ShoutSettings(PluginSettings):
            shout: str = Field("hey", description="A word.")

        class ShoutPlugin(Plugin[ShoutSettings]):
            def nexus_register_services(self):
                return {"shout": self.settings.shout}
        """,
        attribute="ShoutPlugin",
    )
    record = site.records("check", "shouts")["shouts"]
    assert (record["status"], record["reason"]) == ("active", "")
    assert record["hooks"] == ["nexus_register_services", "nexus_register_settings"]
    assert platform(shout="ho").service("shout") == "ho"


SLOW = """
    import threading
    from nexus_core import Plugin, PluginSettings

    class SlowSettings(PluginSettings):
        slow_word: str = "hey"

    class SlowPlugin(Plugin[SlowSettings]):
        def __init__(self, platform, settings): {constructor}
        def nexus_register_services(self): return {{}}

    {imported}
"""


@pytest.mark.parametrize(
    ("constructor", "imported", "failure"),
    [("...", "threading.gate.wait()", "its import failed"), ("threading.gate.wait()", "", "it can't be created")],
)
def test_a_plugin_that_is_imported_or_made_too_slowly_stays_out(
    site, platform, monkeypatch: pytest.MonkeyPatch, constructor: str, imported: str, failure: str
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(threading, "gate", gate, raising=False)
    site.add("slow", SLOW.format(constructor=constructor, imported=imported), attribute="SlowPlugin")
    before = {*threading.enumerate()}  # those of other tests may wait for ever
    nexus = platform(plugin_timeout=0.2)
    gate.set()
    for thread in {*threading.enumerate()} - before:
        if thread.name == "nexus-plugin-import":
            thread.join(10)
    (record,) = (record for record in nexus.plugins.records if record.name == "slow")
    assert record.reason == f"{failure}: TimeoutError: it did not end within 0.2 s"
    assert (record.import_ms is None) == bool(imported)
    assert not any("slow_word" in type(each).model_fields for each in nexus.every_settings)


@pytest.mark.parametrize(
    ("method", "failure"),
    [
        ("def __init__(self, platform, settings): raise OSError('gone')", "it can't be created"),
        ("def nexus_register_chanels(self): return []", "its hooks are invalid"),
    ],
)
def test_an_option_of_a_class_that_failed_is_reported_beside_the_failure(
    site, platform, caplog: pytest.LogCaptureFixture, method: str, failure: str
) -> None:
    site.add(
        "shouts",
        f"""
        from pydantic import Field
        from nexus_core import Plugin, PluginSettings

        class ShoutSettings(PluginSettings):
            hosts: str = Field("hey", description="A word.")

        class ShoutPlugin(Plugin[ShoutSettings]):
            {method}
        """,
        attribute="ShoutPlugin",
    )
    nexus = platform(hosts="ho")
    reason = next(record.reason for record in nexus.plugins.records if record.name == "shouts")
    assert reason.startswith(failure)
    assert f'argument hosts: it belongs to the plugin "shouts", which is not loaded: {reason}' in caplog.text
    assert not any("hosts" in type(each).model_fields for each in nexus.every_settings)


def test_a_module_without_hooks_is_refused_and_the_class_in_it_named() -> None:
    module = ModuleType("shouts")

    class ShoutPlugin(Plugin):
        def nexus_register_services(self):
            return {}

    ShoutPlugin.__module__ = "shouts"
    module.ShoutPlugin = ShoutPlugin
    with pytest.raises(PluginError, match=r"shouts implements no hook\. Did you mean the class shouts\.ShoutPlugin\?"):
        isolated_nexus(module)
    with pytest.raises(PluginError, match="implements no hook"):
        isolated_nexus(object())
