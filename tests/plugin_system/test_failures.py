"""A plugin that fails, however it does, is taken out whole; everything else starts."""

from __future__ import annotations

import importlib
import logging
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import ConfigurationError, PluginError, hookimpl
from nexus_core.app import hookspecs as specs

if TYPE_CHECKING:
    from nexus_core import Nexus

HOOKS = [name for name in vars(specs) if name.startswith("nexus_")]

WHOLE = '''\
"""Gives one of everything, and notes what is used and called."""

import asyncio, threading
from nexus_core import Channel, PluginSettings, Route, Stage, hookimpl

USED = []

class Stamp:
    stage = Stage.OBSERVE
    async def __call__(self, invocation, call_next):
        USED.append("interceptor")
        return await call_next(invocation)

class Resolver:
    def resolve_parameters(self, workflow_name, channel, raw_params):
        USED.append("resolver")
        return raw_params

class Door(Channel):
    name = "{name}-door"
    def asgi_app(self):
        async def app(scope, receive, send): ...
        return app
    async def start(self):
        USED.append("channel started")
    async def stop(self):
        USED.append("channel stopped")

@hookimpl
def nexus_register_interceptors(nexus):
    return [Stamp()]

@hookimpl
def nexus_register_parameter_resolvers(nexus):
    return [Resolver()]

@hookimpl
def nexus_register_event_handlers(nexus):
    return [lambda event: USED.append("handler")]

@hookimpl
def nexus_register_channels(nexus):
    return [Door()]

@hookimpl
def nexus_register_routes(nexus):
    return [Route("/{name}", None)]

@hookimpl
async def nexus_startup(nexus):
    await asyncio.sleep(0)
    USED.append("startup")

@hookimpl
async def nexus_shutdown(nexus):
    await asyncio.sleep(0)
    USED.append("shutdown")
'''

AT_LOAD = {
    "raises": ('raise RuntimeError("broken\\nin lines")', "its import failed: RuntimeError: broken in lines"),
    "import": ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
    "syntax": ("def (", "SyntaxError"),
    "exit": ("import sys; sys.exit(3)", "SystemExit(3)"),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "hangs": ("threading.Event().wait()", "did not end within 0.5 s"),
    "unknown hook": ("@hookimpl\ndef nexus_register_chanels(nexus): ...", "no such hook: nexus_register_chanels"),
    "arguments": ("@hookimpl\ndef nexus_register_commands(nexus, more): ...", "more"),
    "async hook": ("@hookimpl\nasync def nexus_register_commands(nexus): ...", "nexus_register_commands"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef nexus_register_commands(nexus):\n    return (yield)", "wrapper"),
    "settings raise": ("@hookimpl\ndef nexus_register_settings(): raise ValueError('no')", "ValueError: no"),
    "settings exit": ("@hookimpl\ndef nexus_register_settings(): raise SystemExit(4)", "SystemExit(4)"),
    "settings hang": ("@hookimpl\ndef nexus_register_settings(): threading.Event().wait()", "did not end within"),
    "settings odd": ("@hookimpl\ndef nexus_register_settings(): return 7", "a subclass of PluginSettings"),
    "settings broken": (
        "class S(PluginSettings):\n    n: int = 1\n    def __init__(self, **_): raise LookupError('no')\n"
        "@hookimpl\ndef nexus_register_settings(): return S",
        "LookupError: no",
    ),
    "adapters raise": ("@hookimpl\ndef nexus_register_workflow_adapters(nexus): raise ValueError('no')", "ValueError"),
    "adapters odd": ("@hookimpl\ndef nexus_register_workflow_adapters(nexus): return [7]", "int"),
}  # fmt: skip

ELSEWHERE = {
    "nexus_register_settings", "nexus_register_workflow_adapters", "nexus_register_commands", "nexus_shutdown",
    "nexus_renew_login", "nexus_register_metrics_collectors", "nexus_register_log_handlers",
    "nexus_register_services",
}  # fmt: skip
"""The hooks that no start calls."""

AT_START = {
    f"{hook} raises": (f"@hookimpl\ndef {hook}(nexus): raise ValueError('no')", f"{hook} failed: ValueError: no")
    for hook in HOOKS
    if hook not in ELSEWHERE
} | {
    f"{hook} gives numbers": (f"@hookimpl\ndef {hook}(nexus): return [7]", f"{hook} returned a int")
    for hook in HOOKS
    if hook.startswith("nexus_register_") and hook not in ELSEWHERE
} | {
    "text": ("@hookimpl\ndef nexus_register_channels(nexus): return 'api'", "nexus_register_channels returned a str"),
    "hook exits": ("@hookimpl\ndef nexus_register_routes(nexus): raise SystemExit(4)", "SystemExit(4)"),
    "hook hangs": ("@hookimpl\ndef nexus_register_routes(nexus): threading.Event().wait()", "did not end within 0.5 s"),
    "generator": (
        "@hookimpl\ndef nexus_register_routes(nexus):\n    yield Route('/x', None)\n    1 / 0",
        "ZeroDivision",
    ),
    "startup hangs": ("@hookimpl\nasync def nexus_startup(): await asyncio.Event().wait()", "did not end within 0.5 s"),
    "startup blocks": ("@hookimpl\ndef nexus_startup(): threading.Event().wait()", "did not end within 0.5 s"),
    "startup exits": ("@hookimpl\nasync def nexus_startup(): raise SystemExit(4)", "SystemExit(4)"),
    "startup cancels": ("@hookimpl\nasync def nexus_startup(): raise asyncio.CancelledError", "CancelledError"),
    "startup goes on": (
        "@hookimpl\nasync def nexus_startup():\n    while True:\n        try: await asyncio.sleep(0.05)\n"
        "        except asyncio.CancelledError:\n            if STOP: raise\nSTOP = []",
        "did not end within 0.5 s",
    ),
    "channel raises": ("async def no(self): raise OSError('no')\nDoor.start = no", "OSError: no"),
    "channel exits": ("async def no(self): raise SystemExit(4)\nDoor.start = no", "SystemExit(4)"),
    "channel hangs": ("async def no(self): await asyncio.Event().wait()\nDoor.start = no", "did not end within 0.5 s"),
    "application": ("def no(self): raise OSError('no')\nDoor.asgi_app = no", "OSError: no"),
    "second channel": (
        "class Other(Door):\n    name = 'other'\n    async def start(self): raise OSError('no')\n"
        "@hookimpl\ndef nexus_register_channels(nexus): return [Door(), Other()]",
        "OSError: no",
    ),
    "own names": ("@hookimpl\ndef nexus_register_channels(nexus): return [Door(), Door()]", "bad-door"),
}  # fmt: skip


def whole(name: str, more: str = "") -> str:
    return WHOLE.format(name=name) + "\n" + textwrap.dedent(more)


def used(module: str) -> list[str]:
    found: list[str] = sys.modules[module].USED
    return found


def record(nexus: Nexus, name: str) -> Any:
    return next(each for each in nexus.plugins.records if each.name == name)


def left_of(nexus: Nexus, name: str) -> list[str]:
    return [hook for hook in HOOKS for owner, _ in nexus.plugins.implementations(hook) if owner == name]


@pytest.mark.parametrize("case", AT_LOAD)
async def test_a_plugin_that_does_not_load(
    site: Any, platform: Any, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    code, reason = AT_LOAD[case]
    first = site.add("aa", whole("aa"))
    site.add("bad", whole("bad", code))
    last = site.add("zz", whole("zz"))
    with caplog.at_level(logging.ERROR):
        nexus = platform(plugin_timeout=0.5)
    assert record(nexus, "bad").status == "failed"
    assert reason in record(nexus, "bad").reason
    assert "\n" not in record(nexus, "bad").reason
    assert 'The plugin "bad" (nexus-bad) is not active: ' in caplog.text
    assert reason in caplog.text
    assert left_of(nexus, "bad") == []
    assert nexus.plugins.active() == ["aa", "zz"]
    nexus.register("w", lambda: 1)
    async with nexus:
        assert (await nexus.invoke("w")).value == 1
        assert nexus.channel("bad-door") is None
        assert nexus.channel("aa-door") is not None
    for neighbour in (first, last):
        assert set(used(neighbour)) == {
            "startup", "channel started", "interceptor", "resolver", "handler", "channel stopped", "shutdown"
        }  # fmt: skip


async def test_the_log_names_the_object_of_an_application(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Corp:
        @hookimpl
        def nexus_startup(self, nexus: Nexus) -> None:
            raise OSError("out of order")

    async with make(Corp()):
        assert f'The plugin "Corp" ({__name__}:{Corp.__qualname__}) is not active: ' in caplog.text


@pytest.mark.parametrize("case", AT_START)
async def test_a_plugin_that_does_not_start(
    site: Any, platform: Any, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    code, reason = AT_START[case]
    first = site.add("aa", whole("aa"))
    bad = site.add("bad", whole("bad", code))
    last = site.add("zz", whole("zz"))
    nexus = platform(plugin_timeout=0.5)
    nexus.register("w", lambda: 1)
    with caplog.at_level(logging.ERROR):
        async with nexus:
            assert record(nexus, "bad").status == "failed"
            assert reason in record(nexus, "bad").reason
            assert 'The plugin "bad" (nexus-bad) is not active: ' in caplog.text
            assert left_of(nexus, "bad") == []
            assert nexus.plugins.active() == ["aa", "zz"]
            assert (await nexus.invoke("w")).value == 1
            assert nexus.channel("bad-door") is None
            assert nexus.channel("aa-door") is not None
            # What it had opened before is closed again, at once.
            calls = used(bad)
            assert calls.count("startup") == calls.count("shutdown")
            assert calls.count("channel started") == calls.count("channel stopped")
            assert not {"interceptor", "resolver", "handler"} & set(calls)
    assert calls.count("shutdown") <= 1
    for neighbour in (first, last):
        assert used(neighbour)[0] == "startup"
        assert used(neighbour)[-1] == "shutdown"
        assert {"interceptor", "resolver", "handler", "channel started", "channel stopped"} < set(used(neighbour))
    if "STOP" in code:
        sys.modules[bad].STOP.append(1)


@pytest.mark.parametrize("case", AT_LOAD)
def test_a_required_plugin_that_does_not_load_stops_the_start(site: Any, platform: Any, case: str) -> None:
    code, reason = AT_LOAD[case]
    site.add("bad", whole("bad", code))
    with pytest.raises(PluginError) as caught:
        platform(plugin_timeout=0.2, required_plugins=["bad"])
    assert '"bad"' in str(caught.value)
    assert reason.replace("0.5", "0.2") in str(caught.value)


@pytest.mark.parametrize("case", ["nexus_startup raises", "nexus_register_routes raises", "channel raises"])
async def test_a_required_plugin_that_does_not_start_stops_the_start(site: Any, platform: Any, case: str) -> None:
    first = site.add("aa", whole("aa"))
    site.add("bad", whole("bad", AT_START[case][0]))
    nexus = platform(required_plugins=["bad"])
    with pytest.raises(PluginError, match='"bad"'):
        await nexus.__aenter__()
    assert used(first).count("startup") == used(first).count("shutdown") == 1
    assert used(first).count("channel started") == used(first).count("channel stopped")


async def test_shutdowns_that_fail_keep_nobody_from_theirs(site: Any, platform: Any) -> None:
    modules = [
        site.add("aa", whole("aa")),
        site.add("b1", "from nexus_core import hookimpl\n@hookimpl\nasync def nexus_shutdown(): raise OSError"),
        site.add("b2", "from nexus_core import hookimpl\n@hookimpl\nasync def nexus_shutdown(): raise SystemExit"),
        site.add(
            "b3",
            "import threading\n@hookimpl\ndef nexus_shutdown(): threading.Event().wait()",
        ),
        site.add("zz", whole("zz", "async def no(self): raise OSError\nDoor.stop = no")),
    ]
    async with platform(plugin_timeout=0.3) as nexus:
        assert nexus.plugins.active() == ["aa", "b1", "b2", "b3", "zz"]
    assert used(modules[0])[-2:] == ["channel stopped", "shutdown"]
    assert used(modules[-1])[-1] == "shutdown"


async def test_two_plugins_with_one_channel(site: Any, platform: Any) -> None:
    first = site.add("aa", whole("same"))
    second = site.add("bb", whole("same", "@hookimpl\ndef nexus_register_routes(nexus): return []"))
    async with platform() as nexus:
        assert nexus.plugins.active() == ["aa"]
        assert record(nexus, "bb").reason == "nexus-aa and nexus-bb both provide the channel 'same-door'"
        assert "channel started" in used(first)
        assert "channel started" not in used(second)


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        ("nexus-hub-core>=99", False), ("nexus_hub.core <0.1", False), ("NEXUS-HUB-CORE (>=99)", False),
        ("nexus-hub-core~=0.1", True), ("nexus-hub-core>=99; extra == 'x'", True), ("nexus-hub-core-else>=99", True),
        ("nexus-hub-core>=99 ; python_version < '3'", True), ("nexus-hub-core @ file:///nowhere", True),
    ],
)  # fmt: skip
def test_requirements_on_the_core_are_checked_before_the_import(
    site: Any, platform: Any, requires: str, fits: bool
) -> None:
    module = site.add("p", requires=requires)
    nexus = platform()
    assert (module in sys.modules) is fits
    assert record(nexus, "p").status == ("active" if fits else "incompatible")
    if not fits:
        assert "it requires" in record(nexus, "p").reason


def test_metadata_that_can_not_be_read_takes_nothing_else_out(site: Any, platform: Any) -> None:
    (site.folder / "nothing-1.0.dist-info").mkdir()
    odd = site.folder / "odd-1.0.dist-info"
    odd.mkdir()
    (odd / "METADATA").write_bytes(b"\xff\xfe\x00")
    (odd / "entry_points.txt").write_bytes(b"[nexus.plugins]\n\xff = \xfe\n")
    nameless = site.folder / "nameless-1.0.dist-info"
    nameless.mkdir()
    (nameless / "entry_points.txt").write_text("[nexus.plugins\nx=\n")
    site.add("fine")
    assert "fine" in platform().plugins.active()


def test_an_option_of_a_plugin_that_failed_does_not_stop_the_start(site: Any, platform: Any, caplog: Any) -> None:
    site.add("shop", "raise OSError('gone')")
    nexus = platform(shop_shelves=3)
    assert record(nexus, "shop").status == "failed"
    assert "argument shop_shelves: there is no option 'shop_shelves'" in caplog.text
    assert '"shop"' in caplog.text
    with pytest.raises(ConfigurationError, match="did you mean 'host'"):
        platform(hosst="x")
    with pytest.raises(ConfigurationError, match="did you mean 'enable_auth'"):
        platform(enable_auht=True)


def test_an_option_is_not_taken_for_another_where_its_plugin_is_off(site: Any, platform: Any, caplog: Any) -> None:
    site.add("closed")
    platform(disabled=("closed",), closed_workflows=["refund"])  # the core has max_concurrent_workflows
    assert (
        "argument closed_workflows: there is no option 'closed_workflows', unless it belongs to the plugin \"closed\": "
        "not loaded, disabled by configuration"
    ) in caplog.text


CLASS = """
from nexus_core import Plugin, Stage
class Rule:
    stage = Stage.AUTHORIZE
    async def __call__(self, invocation, call_next):
        return await call_next(invocation)
class ShopPlugin(Plugin):
    def nexus_register_interceptors(self):
        return [Rule()]
"""


@pytest.mark.parametrize("attribute", ["ShopPlugin", ""], ids=["class", "module"])
def test_an_installed_plugin_is_not_taken_twice(site: Any, platform: Any, attribute: str) -> None:
    module = site.add("shop", CLASS if attribute else "@hookimpl\ndef nexus_startup(nexus): ...", attribute=attribute)
    given = importlib.import_module(module)
    target = f"{module}:{attribute}" if attribute else module
    given = getattr(given, attribute, given)
    with pytest.raises(PluginError) as refused:
        platform(given)
    assert str(refused.value) == (
        f'{target} is active as the installed plugin "shop" (nexus-shop): leave it out of plugins=.'
    )
    assert platform(given, disabled=("shop",)).plugins.active() == [given.__name__]


AUTH = """
from nexus_core import PluginSettings, Stage, hookimpl
class S(PluginSettings):
    enable_auth: bool = False
class Check:
    stage = Stage.AUTHENTICATE
    async def __call__(self, invocation, call_next):
        return await call_next(invocation)
@hookimpl
def nexus_register_settings(): return S
class Everything:
    async def granted(self, principal, permissions):
        return permissions
@hookimpl
def nexus_register_interceptors(nexus): return [Check()]
@hookimpl
def nexus_register_authorizers(nexus): return [Everything()]
"""


async def test_access_control_that_works_starts(site: Any, platform: Any) -> None:
    site.add("auth", AUTH)
    nexus = platform(enable_auth=True)
    nexus.register("w", lambda: 1)
    async with nexus:
        assert (await nexus.invoke("w")).value == 1


@pytest.mark.parametrize(
    "code",
    [
        "raise OSError", AUTH + "\nimport nowhere_at_all", AUTH + "\n@hookimpl\ndef nexus_register_nothing(): ...",
        AUTH + "\n@hookimpl\ndef nexus_register_interceptors(nexus): raise OSError",
        AUTH + "\n@hookimpl\ndef nexus_register_interceptors(nexus): return []",
        AUTH + "\n@hookimpl\ndef nexus_register_authorizers(nexus): return []",
        AUTH + "\n@hookimpl\nasync def nexus_startup(nexus): raise OSError", None,
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["argument", "environment", "config"])
async def test_access_control_fails_closed(
    site: Any, platform: Any, monkeypatch: pytest.MonkeyPatch, code: str | None, way: str
) -> None:
    if code is not None:
        site.add("auth", code)
    options: dict[str, Any] = {}
    if way == "argument":
        options["enable_auth"] = True
    elif way == "environment":
        monkeypatch.setenv("NEXUS_ENABLE_AUTH", "yes")
    else:
        options["config"] = {"enable_auth": "on"}

    async def serve() -> None:
        await platform(**options).__aenter__()

    with pytest.raises(PluginError, match="auth"):
        await serve()


async def test_disabled_access_control_fails_closed(site: Any, platform: Any) -> None:
    site.add("auth", AUTH)
    with pytest.raises(PluginError, match="auth"):
        platform(enable_auth=True, disabled=("auth",))


ADAPTS_UNTIL_STARTED = """
from nexus_core import hookimpl
class Adapter:
    name = "text"
    def adapts(self, target): return isinstance(target, str)
    def adapt(self, name, target, metadata): raise AssertionError("adapted")
@hookimpl
def nexus_register_workflow_adapters(nexus): return [Adapter()]
@hookimpl
def nexus_startup(nexus): raise OSError("gone")
"""


async def test_the_adapters_of_a_plugin_that_fails_at_the_start_go_with_it(site: Any, platform: Any) -> None:
    site.add("texts", ADAPTS_UNTIL_STARTED)
    nexus = platform()
    with pytest.raises(AssertionError, match="adapted"):
        nexus.register("w", "a text")
    async with nexus:
        assert record(nexus, "texts").status == "failed"
        with pytest.raises(ConfigurationError, match="installed plugins support functions"):
            nexus.register("w", "a text")
