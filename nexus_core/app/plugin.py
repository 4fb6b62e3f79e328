"""`Plugin`: the normal form of a plugin, an object made for one `Nexus` from its options."""

from __future__ import annotations

import inspect
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeGuard, TypeVar, get_args

from nexus_core.app import hookspecs
from nexus_core.concurrency.threads import DaemonThreads, is_async
from nexus_core.plugins.manager import PluginManager
from nexus_core.plugins.markers import MARK, hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from nexus_core.app.platform import Platform
    from nexus_core.options.settings import PluginSettings
    from nexus_core.plugins.option_reader import OptionReader

Options = TypeVar("Options", bound="PluginSettings")

_LIFECYCLE = {"nexus_startup": "startup", "nexus_shutdown": "shutdown"}
"""Hooks that are implemented by methods of shorter names."""


class Plugin(Generic[Options]):
    """Base class of plugins: subclass it and implement hooks as methods.

    Methods whose names are hooks need no marker, and take the hook's arguments without ``nexus``: what that is for is
    ``self.platform``. State lives on the instance; ``startup`` opens it and ``shutdown`` closes it. An entry point of
    the group ``nexus.plugins`` names the class, which is instantiated once for each `Nexus`.

    A hook that is a static or class method needs no platform: the command line calls those of
    ``nexus_register_commands`` and ``nexus_renew_login`` also where the application can't be loaded.

    Args:
        platform: The `Nexus`, as far as plugins may use it.
        settings: The plugin's options, an instance of ``Settings``; None where it has none.

    Attributes:
        Settings: The model of the plugin's options, as the type parameter names it; None for a plugin without options.
        guards_access: Whether the plugin guards access, with its options as they are. If it fails, or has neither an
            interceptor nor an authorizer, the start fails. A property, usually: ``return self.settings.enable_x``.
            Name the option under the entry point group ``nexus.guards`` too, or ``always`` where it is on by default:
            then it holds where the import fails.

    Example::

        class GreetingSettings(PluginSettings):
            greeting: str = Field("hello", description="What calls are greeted with.")

        class GreetingPlugin(Plugin[GreetingSettings]):
            def nexus_register_event_handlers(self):
                return [lambda event: print(self.settings.greeting, event.type)]

    .. versionadded:: 0.1
    """

    Settings: ClassVar[type[PluginSettings] | None] = None
    guards_access: bool = False

    settings: Options
    platform: Platform

    def __init__(self, platform: Platform, settings: Options) -> None:
        self.platform = platform
        self.settings = settings

    async def startup(self) -> None:
        """Open what the plugin needs. Awaited at start-up, for at most ``plugin_timeout`` seconds.

        A sync method is called in a thread.
        """

    async def shutdown(self) -> None:
        """Close what `startup` opened, under the same time limit."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Mark the methods that are hooks."""
        super().__init_subclass__(**arguments)
        if cls.Settings is None:
            cls.Settings = _type_parameter(cls)
        if cls.Settings is not None and "nexus_register_settings" not in vars(cls):
            cls.nexus_register_settings = classmethod(_register_settings)  # type: ignore[attr-defined]
        for hook, method in _LIFECYCLE.items():
            function = getattr(cls, method)
            is_new = method in vars(cls) or not hasattr(cls, hook)  # it may be from a mixin
            if function is not getattr(Plugin, method) and is_new and hook not in vars(cls):
                setattr(cls, hook, _calls(method, is_async=is_async(function)))
        for base in cls.__mro__:
            if base is cls or not issubclass(base, Plugin):
                _mark_hooks(base)


def _register_settings(cls: type[Plugin[Any]]) -> type[PluginSettings] | None:
    return cls.Settings


def _mark_hooks(cls: type) -> None:
    for name, member in [*vars(cls).items()]:
        function = getattr(member, "__func__", member)
        if name.startswith("nexus_") and inspect.isfunction(function) and not hasattr(function, MARK):
            hookimpl(function)


def _calls(method: str, *, is_async: bool) -> Callable[[Any], Any]:
    async def call(self: Any) -> None:
        await getattr(self, method)()

    def call_in_thread(self: Any) -> Any:
        return getattr(self, method)()

    return call if is_async else call_in_thread


def _type_parameter(cls: type) -> type[PluginSettings] | None:
    for base in getattr(cls, "__orig_bases__", ()):
        for argument in get_args(base):
            if isinstance(argument, type) and argument is not Any:  # a class since Python 3.11
                return argument
    return None


def without_platform(_name: str, loaded: object) -> object:
    """Return what is registered of a plugin where there is no platform: of a class, its static and class methods."""
    if not is_plugin_class(loaded):
        return loaded
    return SimpleNamespace(
        **{
            name: getattr(loaded, name)
            for name in dir(loaded)
            if name.startswith("nexus_")
            and isinstance(inspect.getattr_static(loaded, name), staticmethod | classmethod)
        }
    )


def manager_without_platform(threads: str, disabled: Collection[str] = ()) -> PluginManager:
    """Return a plugin manager for where there is no platform, such as a command line.

    Args:
        threads: The name of its threads.
        disabled: Names of plugins that are not to be loaded.
    """
    return PluginManager(hookspecs, DaemonThreads(threads), disabled=disabled, make=without_platform)


def is_plugin_class(loaded: object) -> TypeGuard[type[Plugin[Any]]]:
    """Whether an object is a class of plugins, to be instantiated for each platform."""
    return isinstance(loaded, type) and issubclass(loaded, Plugin)


class PluginFactory:
    """Makes the plugins of one platform: instances of classes, with their options.

    Args:
        platform: The platform.
        options: Reads the options.

    Attributes:
        guards: The plugins that guard access, as their instances say. One that fails before that can be known, and
            whose class says anything about it, counts as one.
    """

    def __init__(self, platform: Platform, options: OptionReader) -> None:
        self._platform = platform
        self._options = options
        self.guards: set[str] = set()

    def __call__(self, name: str, loaded: object) -> object:
        """Return what is registered of a plugin.

        Args:
            name: The plugin's name.
            loaded: What its entry point names, or the application has given.

        Raises:
            ConfigurationError: Its options belong to another plugin already, or can't be read.
        """
        if not (is_plugin_class(loaded) or isinstance(loaded, Plugin)):
            return loaded
        if inspect.getattr_static(loaded, "guards_access") is not False:
            self.guards.add(name)  # until it is known: what fails or hangs from here on fails closed
        plugin = loaded if isinstance(loaded, Plugin) else self._instance(name, loaded)
        self._note(name, plugin)
        return plugin

    def _instance(self, name: str, cls: type[Plugin[Any]]) -> Plugin[Any]:
        settings = None if cls.Settings is None else self._options.read_plugin(name, cls.Settings)
        if name in self.guards:
            with suppress(Exception):  # it takes what only the constructor makes
                bare = cls.__new__(cls)
                Plugin.__init__(bare, self._platform, settings)
                self._note(name, bare)
        return cls(self._platform, settings)

    def _note(self, name: str, plugin: Plugin[Any]) -> None:
        (self.guards.add if plugin.guards_access else self.guards.discard)(name)
