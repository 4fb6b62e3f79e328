"""What plugins add to a platform while it is started: opened plugin by plugin, and taken out whole where one fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from nexus_core.app.hook_results import AT_START, provided, refused
from nexus_core.concurrency.guarded import within
from nexus_core.concurrency.watchdog import LoopWatch
from nexus_core.errors import ConfigurationError
from nexus_core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nexus_core.concurrency.threads import DaemonThreads
    from nexus_core.plugins.manager import PluginManager
    from nexus_core.server.channel import ASGIApp, Channel
    from nexus_core.state.stores import Store

log = logging.getLogger(__name__)

CANCEL_SECONDS = 1.0
"""How long a plugin that is too slow is waited for once it is cancelled; it may catch the cancellation and go on."""


class Contributions:
    """The contributions of every plugin to one start of a `Nexus`.

    A plugin that fails is inactive from then on, and what it gave is left out, closed where it was open already.

    Args:
        plugins: The plugins.
        threads: Where sync code is called.
        stores: The platform's stores: plugins' own take the places behind the first, before other hooks are called.
    """

    def __init__(self, plugins: PluginManager, threads: DaemonThreads, stores: list[Store]) -> None:
        self._plugins = plugins
        self._threads = threads
        self._stores = stores
        self._shutdowns = list(self._plugins.implementations("nexus_shutdown"))
        self._opened: set[str] = set()
        self._given: dict[str, list[tuple[str, Any]]] = {}
        self._channels: list[tuple[str, Channel]] = []
        self._apps: list[tuple[str, Channel, ASGIApp]] = []

    def of(self, hook: str) -> list[Any]:
        """Return what active plugins give to a hook, in call order."""
        return [item for _, item in self.by_plugin(hook)]

    def third_party(self, hook: str) -> list[tuple[str | None, Any]]:
        """Return the same with the name of its plugin where that is a third party's, else None."""
        given = self.by_plugin(hook)
        return [(None if self._plugins.is_first_party(plugin) else plugin, item) for plugin, item in given]

    def by_plugin(self, hook: str) -> list[tuple[str, Any]]:
        """Return the same, each with the name of its plugin."""
        return [each for each in self._given.get(hook, ()) if self._plugins.is_active(each[0])]

    @property
    def channels(self) -> list[Channel]:
        """The started channels."""
        return [channel for _, channel in self._channels]

    @property
    def apps(self) -> list[tuple[Channel, ASGIApp]]:
        """The application of each started channel that has one."""
        return [(channel, app) for _, channel, app in self._apps]

    async def start(self) -> None:
        """Start plugins, ask them for their contributions and start their channels.

        Raises:
            ConfigurationError: The operator has to act. Nothing is left started.
        """
        self._plugins.check_required()  # one that failed in an earlier start is not there now: fail closed
        try:
            await self._start_plugins()
            for hook in AT_START:
                self._given[hook] = await self._threads.call(self._plugins.collect, hook)
                self._check(hook)
                await self._close_failed()
                self._stores[1:] = self.of("nexus_register_stores")  # what comes after may use them
            await self._start_channels()
            self._stores[1:] = self.of("nexus_register_stores")  # none of a plugin that has failed meanwhile
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop channels, then plugins, in the reverse order of their start. What fails is logged."""
        await self.stop_channels()
        for plugin, shutdown in reversed(self._shutdowns):
            if plugin in self._opened:
                await self._close(plugin, "nexus_shutdown", shutdown)
        self._opened.clear()

    async def stop_channels(self) -> None:
        """Stop channels, in the reverse order of their start. What fails is logged."""
        for plugin, channel in reversed(self._channels):
            await self._close(plugin, f"stopping its channel {channel.name!r}", channel.stop)
        self._channels.clear()

    async def _start_plugins(self) -> None:
        starts = list(self._plugins.implementations("nexus_startup"))
        self._opened = set(self._plugins.active()) - {name for name, _ in starts}
        for name, startup in starts:
            if await self._open(name, "nexus_startup", startup):
                self._opened.add(name)

    def _check(self, hook: str) -> None:
        """Let plugins fail whose contributions can't be used."""
        owners: dict[str, str] = {}
        seen: set[str] = set()
        for plugin, item in self._given[hook]:
            if not self._plugins.is_active(plugin):
                continue  # one flaw is enough
            if not refused(self._plugins, hook, plugin, item) and (what := provided(hook, item)):
                owner = owners.setdefault(what, plugin)
                if owner != plugin:
                    both = f"{self._plugins.origin(owner)} and {self._plugins.origin(plugin)}"
                    self._plugins.fail(plugin, f"{both} both provide {what}")
                elif what in seen:
                    self._plugins.fail(plugin, f"it provides {what} twice")
                seen.add(what)
        if hook == "nexus_register_channels":
            self._refuse_routes_over_channels()

    def _refuse_routes_over_channels(self) -> None:
        """Let plugins fail whose route would take every request of a channel."""
        for _, channel in self.by_plugin("nexus_register_channels"):
            paths = {path.rstrip("/") for path in channel.paths}
            for plugin, route in self.by_plugin("nexus_register_routes"):
                is_there = channel.takes_routes if route.channel == "" else route.channel == channel.name
                if is_there and route.path.rstrip("/") in paths and self._plugins.is_active(plugin):
                    what = f"its route {route.path!r} would take every request of the channel {channel.name!r}"
                    self._plugins.fail(plugin, what)

    async def _start_channels(self) -> None:
        for plugin, channel in self._given["nexus_register_channels"]:
            if not self._plugins.is_active(plugin):
                continue  # another channel of its own has failed
            if await self._open(plugin, f"starting its channel {channel.name!r}", channel.start):
                self._channels.append((plugin, channel))
                await self._open(plugin, f"making the application of {channel.name!r}", self._build, plugin, channel)
            await self._close_failed()

    def _build(self, plugin: str, channel: Channel) -> None:
        app = channel.asgi_app()
        if app is not None:
            self._apps.append((plugin, channel, app))

    async def _close_failed(self) -> None:
        """Close what plugins that have failed since had opened already."""
        for plugin, channel in reversed(self._channels):
            if not self._plugins.is_active(plugin):
                await self._close(plugin, f"stopping its channel {channel.name!r}", channel.stop)
        self._channels = [each for each in self._channels if self._plugins.is_active(each[0])]
        self._apps = [each for each in self._apps if self._plugins.is_active(each[0])]
        for plugin, shutdown in reversed(self._shutdowns):
            if plugin in self._opened and not self._plugins.is_active(plugin):
                self._opened.discard(plugin)
                await self._close(plugin, "nexus_shutdown", shutdown)

    async def _open(self, plugin: str, what: str, call: Callable[..., Any], *args: Any) -> bool:
        """Await a step of a plugin's start. Returns False when it has failed, and the plugin with it."""
        try:
            await self._step(plugin, what, self._threads.call(call, *args))
        except ConfigurationError:
            raise  # the operator's to mend: a wrong option
        except Exception as exc:
            self._plugins.fail(plugin, f"{what} failed: {one_line(exc)}", exc)
            return False
        return True

    async def _step(self, plugin: str, what: str, work: Awaitable[Any]) -> None:
        """Await a step. One that blocks the event loop is named while it does, and fails if that takes too long."""
        seconds = self._plugins.timeout
        with LoopWatch(f'The plugin "{plugin}": {what}', self._threads) as watch:
            await within(seconds, work, cancel_seconds=CANCEL_SECONDS)
        if watch.longest > seconds:
            raise TimeoutError(f"it blocked the event loop for {watch.longest:.1f} s (plugin_timeout is {seconds:g})")

    async def _close(self, plugin: str, what: str, call: Callable[[], Any]) -> None:
        try:
            await self._step(plugin, what, self._threads.call(call))
        except Exception as exc:
            log.error('The plugin "%s": %s failed: %s', plugin, what, one_line(exc))
            log.debug("Why %s failed", what, exc_info=exc)
