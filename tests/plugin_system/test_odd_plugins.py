"""Plugins with mistakes that are easily made: each fails alone, or works."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from nexus_core import Channel, ConfigurationError, NexusError, Plugin, PluginError, Route, hookimpl
from nexus_core.state.memory_store import MemoryStore
from nexus_core.testing import isolated_nexus


class Unforeseen(BaseException):
    """Is no `Exception`, as what ``pytest.fail`` and gevent raise."""


async def answer(*_: Any) -> None:
    """Stand for an application."""


async def test_an_exception_that_is_none_fails_the_start_of_its_plugin_alone() -> None:
    class Odd(Plugin):
        async def startup(self) -> None:
            raise Unforeseen("gone")

    async with isolated_nexus(Odd) as nexus:
        assert nexus.plugins.inactive() == {"Odd": "nexus_startup failed: RuntimeError: it raised Unforeseen('gone')"}


async def test_an_exception_that_is_none_keeps_no_other_plugin_from_its_shutdown() -> None:
    stopped: list[str] = []

    class First(Plugin):
        async def shutdown(self) -> None:
            stopped.append(type(self).__name__)

    class Odd(First):
        async def shutdown(self) -> None:
            raise Unforeseen("gone")

    class Last(First):
        pass

    async with isolated_nexus(First, Odd, Last):
        pass
    assert set(stopped) == {"First", "Last"}


async def test_start_and_stop_may_be_sync_and_then_have_a_thread() -> None:
    threads: list[threading.Thread] = []

    class Sync(Plugin):
        def startup(self) -> None:  # type: ignore[override]
            threads.append(threading.current_thread())

        def shutdown(self) -> None:  # type: ignore[override]
            threads.append(threading.current_thread())

    class SyncOfAsync(Sync):
        async def startup(self) -> None:
            threads.append(threading.current_thread())

    async with isolated_nexus(Sync, SyncOfAsync) as nexus:
        assert nexus.plugins.inactive() == {}
        assert len(threads) == 2
    main = threading.main_thread()
    assert sorted(thread is main for thread in threads) == [False, False, False, True]


async def test_hooks_and_start_of_a_mixin_count() -> None:
    called: list[str] = []

    class Pooled:
        async def startup(self) -> None:
            called.append("startup")

        async def shutdown(self) -> None:
            called.append("shutdown")

        def nexus_register_services(self) -> dict[str, object]:
            return {"pool": self}

    class Shop(Pooled, Plugin):
        pass

    async with isolated_nexus(Shop) as nexus:
        assert type(nexus.service("pool")) is Shop
    assert called == ["startup", "shutdown"]


def test_an_object_that_is_equal_by_its_members_is_a_plugin_as_any_other() -> None:
    @dataclass
    class Shop:
        name: str = "shop"

        @hookimpl
        def nexus_register_services(self) -> dict[str, object]:
            return {}

    shop = Shop()
    nexus = isolated_nexus(shop)
    assert nexus.plugins.instances(Shop) == [shop]
    assert nexus.plugins.instances(Plugin) == []


@pytest.mark.parametrize("code", ["", "plugin = None", "plugin = 5", "import os as plugin"])
def test_an_installed_plugin_without_hooks_is_not_active(site: Any, platform: Any, code: str) -> None:
    more = "class ShopPlugin:\n    @hookimpl\n    def nexus_register_services(self): return {}\n"
    site.add("shop", more + code, attribute="plugin" if code else "")
    reason = platform().plugins.inactive()["shop"]
    assert "implements no hook" in reason
    if not code:
        assert "Did you mean the class nexus_shop_" in reason
    with pytest.raises(ConfigurationError, match='The required plugin "shop" is not active'):
        platform(required_plugins=["shop"])


async def test_the_store_of_a_plugin_that_fails_later_is_not_used() -> None:
    class Shelf(MemoryStore):
        name = "shelf"

    class Shop(Plugin):
        def nexus_register_stores(self) -> list[Any]:
            return [Shelf()]

        def nexus_register_health_checks(self) -> list[Any]:
            raise OSError("gone")

    with pytest.raises(ConfigurationError, match="there is no store 'shelf'"):
        await isolated_nexus(Shop, store="shelf").__aenter__()


class Web(Channel):
    name = "web"
    takes_routes = True


class Unnamed(Channel):
    name = ("web",)  # type: ignore[assignment]


class Pathless(Channel):
    name = "pathless"
    paths = (None,)  # type: ignore[assignment]


class Impostor:
    __class__ = Channel  # type: ignore[assignment]


def giving(hook: str, *items: Any) -> Any:
    """Return a plugin that gives these to a hook."""

    class Giving(Plugin):
        pass

    setattr(Giving, hook, hookimpl(lambda self: items))
    return Giving


@pytest.mark.parametrize(
    ("hook", "item", "reason"),
    [
        ("routes", Route("shop", answer), "whose path is 'shop': it must begin with /"),
        ("routes", Route(None, answer), "whose path is None"),  # type: ignore[arg-type]
        ("channels", Unnamed(), "whose name is ('web',)"),
        ("channels", Pathless(), "whose paths are (None,)"),
        ("channels", Impostor(), "without 'name'"),
    ],
)
async def test_a_contribution_that_can_not_be_used_fails_its_plugin_alone(hook: str, item: Any, reason: str) -> None:
    async with isolated_nexus(giving(f"nexus_register_{hook}", item)) as nexus:
        assert reason in nexus.plugins.inactive()["Giving"]


async def test_two_plugins_can_not_have_one_route() -> None:
    class Other(giving("nexus_register_routes", Route("/shop/", answer), Route("/shop", answer, "web"))):
        pass

    async with isolated_nexus(giving("nexus_register_routes", Route("/shop", answer)), Other) as nexus:
        (reason,) = nexus.plugins.inactive().values()
        assert reason.endswith("both provide the route '/shop'")


@pytest.mark.parametrize(("route", "is_refused"), [
    (Route("/", answer), True), (Route("/", answer, "web"), True), (Route("/", answer, "other"), False),
    (Route("/shop", answer), False),
])  # fmt: skip
async def test_a_route_does_not_take_the_place_of_a_channel(route: Route, is_refused: bool) -> None:
    class Serving(giving("nexus_register_channels", Web())):
        pass

    async with isolated_nexus(Serving, giving("nexus_register_routes", route)) as nexus:
        expected = {"Giving": "its route '/' would take every request of the channel 'web'"} if is_refused else {}
        assert nexus.plugins.inactive() == expected


async def test_an_authorizer_that_returns_verdicts_grants_nothing() -> None:
    class Verdicts:
        async def granted(self, principal: object, permissions: object) -> Any:
            return {"shop:close": False}

    nexus = isolated_nexus(giving("nexus_register_authorizers", Verdicts()))
    nexus.register("close", lambda: "closed", {"required_permissions": ["shop:close"]})
    async with nexus:
        with pytest.raises(NexusError, match="Internal error"):
            await nexus.invoke("close")


class Served:
    def __init__(self, name: str, scheme: str) -> None:
        self.name, self.scheme = name, scheme

    async def serve(self, listeners: Any, started: asyncio.Event, stop: asyncio.Event) -> None:
        started.set()
        await stop.wait()


@pytest.mark.parametrize("server", [None, "plain", "secure"])
async def test_https_is_not_dropped_because_another_server_serves(server: str | None) -> None:
    servers = giving("nexus_register_servers", Served("plain", "http"), Served("secure", "https"))
    nexus = isolated_nexus(servers, **({} if server is None else {"server": server}))
    if server == "secure":
        async with nexus.serving():
            return
    with pytest.raises(ConfigurationError, match="HTTPS is on for the server 'secure', but the server 'plain' would"):
        async with nexus.serving():
            pass


async def test_middleware_that_fails_is_not_left_out() -> None:
    def wrap(app: Any) -> Any:
        if type(app).__name__ == "PathRouter":
            raise OSError("no rules")
        return app

    with pytest.raises(PluginError, match='The middleware of the plugin "Giving" failed: OSError: no rules'):
        await isolated_nexus(giving("nexus_register_middleware", wrap)).__aenter__()
