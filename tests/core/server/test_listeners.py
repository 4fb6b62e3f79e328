"""Which port a plugin's route appears on."""

from __future__ import annotations

from typing import Any

from nexus_core import CoreSettings, Nexus, PluginSettings, hookimpl
from nexus_core.server.asgi import PathRouter
from nexus_core.server.channel import Channel, Route
from nexus_core.server.listeners import bind, close


class Listening(Channel):
    port = 0

    def __init__(self, name: str) -> None:
        self.name = name
        self.paths = (f"/{name}",)
        self.takes_routes = name == "api"

    def asgi_app(self) -> Any:
        return answer


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send(scope["path"])


async def answered(app: Any, path: str) -> bool:
    """Whether the route answers, not the router."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "headers": []}, None, send)
    return sent == [path]


async def places(names: list[str], channel: str | None) -> list[str]:
    """The channels on whose ports a route appears."""
    bound = bind([Listening(name) for name in names], [Route("/health", answer, channel)], "127.0.0.1", PathRouter)
    try:
        return [each.channels[0] for each in bound if await answered(each.app, "/health")]
    finally:
        close(bound)


async def test_a_route_without_a_channel_appears_on_the_api_or_the_first_there_is() -> None:
    assert await places(["cli", "api", "mcp"], None) == ["api"]
    assert await places(["cli", "mcp"], None) == ["cli"]
    assert await places(["cli", "mcp"], "api") == []
    assert await places(["cli", "api", "mcp"], "") == ["api"]
    assert await places(["cli", "mcp"], "") == []
    assert await places(["cli", "mcp"], "mcp") == ["mcp"]
    assert await places([], None) == []


class Settings(PluginSettings):
    greeting: str = "hello"


class Plugin:
    @hookimpl
    def nexus_register_settings(self) -> type:
        return Settings

    @hookimpl
    def nexus_register_channels(self, nexus: Nexus) -> list[Channel]:
        return [Listening("first"), Listening("second")]


async def test_a_platform_tells_its_channels_while_it_is_started_and_all_options() -> None:
    nexus = Nexus(discover=False, plugins=[Plugin()], greeting="ahoy")
    assert [type(each) for each in nexus.every_settings] == [CoreSettings, Settings]
    assert nexus.channels == ()
    async with nexus:
        assert [each.name for each in nexus.channels] == ["first", "second"]
    assert nexus.channels == ()
