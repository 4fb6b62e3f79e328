"""Loads plugins one by one. One that fails is taken out whole, with its reason; everything else goes on."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from nexus_core.concurrency.guarded import call_within
from nexus_core.concurrency.threads import ENDS_PROCESS, DaemonThreads, is_async
from nexus_core.errors import ConfigurationError, PluginError
from nexus_core.options.first_party import DISTRIBUTION_PREFIX, OPTIONS
from nexus_core.options.first_party import install as install_command
from nexus_core.plugins._vendor_internals import forget_name
from nexus_core.plugins.discovery import ALWAYS, PluginRecord, PluginStatus, disabled_here, discover
from nexus_core.plugins.markers import MARK, PROJECT
from nexus_core.text import one_line

if TYPE_CHECKING:
    from types import ModuleType

log = logging.getLogger(__name__)

Kind = TypeVar("Kind")

MAY_BE_ASYNC = ("nexus_startup", "nexus_shutdown")
"""The hooks that are awaited."""

MAX_ITEMS = 10_000
"""How much one plugin may give to one hook: a generator that never ends would take all memory."""


class PluginManager:
    """The plugins of one `Nexus`: records of all, hook implementations of the active ones.

    Args:
        hookspecs: The module of hook specs.
        required: Names of plugins whose failure is fatal.
        disabled: Names of plugins that are not to be loaded.
        threads: Where sync hooks that may block are called.
        timeout: Seconds one plugin gets for its import, and for each of its start and stop.
        is_enabled: Whether an option is set and on: plugins may declare that one lets them guard access.
        make: Makes what is registered of a plugin's name and of what its entry point names.
        platform: The argument ``nexus`` of hooks; None without a platform: implementations that take it are not called.

    Attributes:
        guards: The plugins that guard access, as they declare.
    """

    def __init__(
        self, hookspecs: ModuleType, threads: DaemonThreads, *, required: Collection[str] = (),
        disabled: Collection[str] = (), timeout: float = 10.0, is_enabled: Callable[[str], bool] = lambda option: False,
        make: Callable[[str, object], object] = lambda name, loaded: loaded, platform: object = None,
    ) -> None:  # fmt: skip
        self._threads = threads
        self._manager = _HookManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._hooks = [name for name in dir(hookspecs) if name.startswith("nexus_")]
        self._arguments = {} if platform is None else {"nexus": platform}
        self._required = set(required)
        self._is_enabled = is_enabled
        self._make = make
        self.guards: set[str] = set()
        self._disabled = set(disabled)
        self.timeout = timeout
        self.records: list[PluginRecord] = []
        self._by_name: dict[str, PluginRecord] = {}

    def load_installed(self) -> None:
        """Find and load every installed plugin that is not disabled.

        Raises:
            PluginError: A required plugin does not load.
        """
        found = discover(self._disabled)
        self.guards = {record.name for record in found if any(map(self._is_enabled, record.guards))}
        always = {record.name for record in found if ALWAYS in record.guards}
        self._required |= self.guards | (always - self._disabled - disabled_here())
        self._report_misspelt({record.name for record in found})
        self.records[:0] = found
        self._by_name = {record.name: record for record in found} | self._by_name
        loaded: list[tuple[PluginRecord, object]] = []
        # By name, the project's own first: of two plugins with one option, the first has it.
        for record in sorted(found, key=lambda each: not _is_first_party(each)):
            if record.status is PluginStatus.AVAILABLE:
                loaded.append((record, self._load(record)))
            elif record.status is not PluginStatus.DISABLED:
                self._report(record)
        for record, plugin in sorted(loaded, key=lambda each: each[0].name, reverse=True):
            # pluggy calls the last registered first
            self._register(record, plugin)

    def _report_misspelt(self, installed: Collection[str]) -> None:
        """Log what ``disabled_plugins`` most likely means; that it names plugins that are absent is no mistake."""
        for name in sorted(self._disabled - {*installed, *OPTIONS}):
            for near in get_close_matches(name[:100], installed, 1):
                log.warning('disabled_plugins: no plugin %.100r is installed; did you mean "%s"?', name, near)

    def add(self, plugin: object, name: str = "") -> None:
        """Register an object or module with hook implementations that is not installed as a distribution.

        Raises:
            PluginError: It is a name, is active as an installed plugin, implements no hook, one that does not exist,
                or one with wrong arguments.
        """
        if isinstance(plugin, str):
            raise PluginError(
                f"plugins takes classes, objects and modules, not names: import {plugin!r:.100} and pass it."
            )
        name = name or getattr(plugin, "__name__", type(plugin).__name__)
        kind = plugin if isinstance(plugin, type) else type(plugin)
        record = PluginRecord(name, "", "", f"{kind.__module__}:{kind.__qualname__}")
        if name in self._by_name:
            raise PluginError(f'There is a plugin "{name}" already.')
        self._refuse_installed(plugin)
        self.records.append(record)
        self._by_name[name] = record
        self._register(record, self._made(record, partial(self._make, name, plugin)))
        if record.status is PluginStatus.FAILED:
            raise PluginError(f'The plugin "{name}" failed: {record.reason}')

    def _refuse_installed(self, plugin: object) -> None:
        """Refuse a class or module that an entry point has given already: its rules would hold twice."""
        if isinstance(plugin, type):
            target = f"{plugin.__module__}:{plugin.__qualname__}"
        elif inspect.ismodule(plugin):
            target = plugin.__name__
        else:
            return
        for record in self.records:
            if record.distribution and record.target == target and record.status is PluginStatus.ACTIVE:
                raise PluginError(
                    f'{target} is active as the installed plugin "{record.name}" ({record.distribution}): leave it out '
                    "of plugins=."
                )

    def require(self, names: Iterable[str]) -> None:
        """Let the failure of plugins be fatal, from now on."""
        self._required |= {*names}

    def check_required(self) -> None:
        """Make sure that every required plugin is active. Call it once all have been loaded.

        Raises:
            PluginError: One is not.
        """
        for name in sorted(self._required - self._by_name.keys()):
            install = f": {install_command(name)}" if name in OPTIONS else "."
            raise PluginError(f'The required plugin "{name}" is not installed{install}')
        for record in self.records:
            self._require(record)

    def _load(self, record: PluginRecord) -> object:
        """Import a plugin and make it. Where that fails, the record says so."""
        begin = time.perf_counter()

        def load() -> object:
            loaded = record.entry_point().load()
            if record.status is PluginStatus.FAILED:  # it took too long
                return None
            record.import_ms = round((time.perf_counter() - begin) * 1000, 1)
            return self._make(record.name, loaded)

        return self._made(record, load)

    def _made(self, record: PluginRecord, make: Callable[[], object]) -> object:
        try:
            return call_within(self.timeout, make)
        except Exception as exc:
            if record.distribution and record.import_ms is None:  # what an application gives is imported
                self.fail(record.name, f"its import failed: {one_line(exc)}", exc)
            elif isinstance(exc, PluginError):
                self.fail(record.name, str(exc), exc)
            elif isinstance(exc, ConfigurationError):
                raise  # the operator's to mend: a wrong option
            else:
                self.fail(record.name, f"it can't be created: {one_line(exc)}", exc)
        return None

    def _register(self, record: PluginRecord, plugin: object) -> None:
        if record.status is PluginStatus.FAILED:
            return
        try:
            self._manager.register(plugin, record.name)
            callers = self._manager.get_hookcallers(plugin) or []
            unknown = sorted(caller.name for caller in callers if not caller.has_spec())
            if unknown:
                raise pluggy.PluginValidationError(plugin, f"no such hook: {', '.join(unknown)}")
            for caller in callers:
                _refuse_what_is_never_called(plugin, caller)
            warnings = [*_unmarked_hooks(plugin, self._hooks)]
        except (Exception, *ENDS_PROCESS) as exc:
            self.fail(record.name, f"its hooks are invalid: {one_line(exc)}", exc)
            return
        if not (callers or warnings) and self._arguments:  # without a platform, only few are registered
            self.fail(record.name, f"{_described(plugin)} implements no hook.{_meant(plugin)}")
            return
        record.hooks = sorted(caller.name for caller in callers)
        record.status = PluginStatus.ACTIVE
        record.warnings = warnings
        for warning in record.warnings:
            log.warning('The plugin "%s": %s', record.name, warning)

    def fail(self, name: str, reason: str, exc: BaseException | None = None) -> None:
        """Take a plugin out whole and note why.

        Raises:
            PluginError: The plugin is required.
        """
        record = self._by_name[name]
        record.status, record.reason = PluginStatus.FAILED, reason
        if self._manager.has_plugin(name):
            self._manager.unregister(name=name)
        forget_name(self._manager, name)
        self._report(record, exc)
        self._require(record)

    def _report(self, record: PluginRecord, exc: BaseException | None = None) -> None:
        log.error('The plugin "%s" (%s) is not active: %s', record.name, record.origin, record.reason)
        if exc is not None:
            log.debug("Why %s failed", record.name, exc_info=exc)

    def _require(self, record: PluginRecord) -> None:
        if record.name in self._required and record.status is not PluginStatus.ACTIVE:
            raise PluginError(f'The required plugin "{record.name}" is not active: {record.reason or record.status}.')

    def active(self) -> list[str]:
        """Return the names of the plugins that are active."""
        return [record.name for record in self.records if record.status is PluginStatus.ACTIVE]

    def inactive(self) -> dict[str, str]:
        """Return why each installed plugin that is not active is not."""
        return {r.name: r.reason for r in self.records if r.status is not PluginStatus.ACTIVE}

    def implementations(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield each active plugin's implementation of a hook, in call order, as a call with the arguments.

        Implementations that take another argument are left out. ``nexus`` is given where there is a platform.
        """
        given = self._arguments | arguments
        for impl in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            if given.keys() >= {*impl.argnames}:
                yield impl.plugin_name, partial(impl.function, *(given[name] for name in impl.argnames))

    def collect(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Call a registering hook and return each contribution with its plugin's name.

        A plugin that raises, or takes longer than ``timeout``, fails.

        Raises:
            ConfigurationError: A plugin says that the operator has set something wrong, or a required one fails.
        """
        found: list[tuple[str, Any]] = []
        for name, call in self.implementations(hook, **arguments):
            try:
                items = call_within(self.timeout, partial(_items, call))
            except ConfigurationError:
                raise  # the operator's to mend: a wrong option
            except Exception as exc:
                self.fail(name, f"{hook} failed: {one_line(exc)}", exc)
            else:
                found += [(name, item) for item in items]
        return [(name, item) for name, item in found if self.is_active(name)]

    def instances(self, kind: type[Kind]) -> list[Kind]:
        """Return the active plugins that are instances of a class."""
        return [each for _, each in self._manager.list_name_plugin() if isinstance(each, kind)]

    def origin(self, name: str) -> str:
        """Return the distribution that a plugin is from, or the object that was given."""
        return self._by_name[name].origin

    def is_first_party(self, name: str) -> bool:
        """Whether a plugin belongs to the project."""
        return _is_first_party(self._by_name[name])

    def is_active(self, name: str) -> bool:
        """Whether a plugin is loaded and has not failed since."""
        return self._by_name[name].status is PluginStatus.ACTIVE


def _is_first_party(record: PluginRecord) -> bool:
    return record.name in OPTIONS and record.distribution == f"{DISTRIBUTION_PREFIX}{record.name}"


def _described(plugin: object) -> str:
    return f"The module {plugin.__name__}" if inspect.ismodule(plugin) else f"{plugin!r:.100}"


def _meant(plugin: object) -> str:
    """Return a hint at the classes with hooks in a module that has none itself."""
    if not inspect.ismodule(plugin):
        return ""
    classes = [
        f"{plugin.__name__}.{name}"
        for name, member in vars(plugin).items()
        if isinstance(member, type)
        and member.__module__ == plugin.__name__
        and any(attribute.startswith("nexus_") for attribute in dir(member))
    ]
    return f" Did you mean the class {' or '.join(classes)}?" if classes else ""


def _refuse_what_is_never_called(plugin: object, caller: pluggy.HookCaller) -> None:
    for impl in caller.get_hookimpls():
        if impl.plugin is plugin and (impl.wrapper or impl.hookwrapper):
            raise pluggy.PluginValidationError(plugin, f"{caller.name} can't be a wrapper")
        if impl.plugin is plugin and caller.name not in MAY_BE_ASYNC and is_async(impl.function):
            raise pluggy.PluginValidationError(
                plugin, f"{caller.name} must be sync; the objects that it returns may have async methods"
            )


def _unmarked_hooks(plugin: object, hooks: list[str]) -> Iterator[str]:
    """Yield what is wrong with functions that are called like a hook, and that pluggy does not know as one."""
    for name in dir(plugin):
        if not name.startswith("nexus_"):
            continue
        member = inspect.getattr_static(plugin, name)
        function = getattr(member, "__func__", member)
        if not inspect.isroutine(member) or hasattr(function, MARK) or hasattr(function, f"{PROJECT}_spec"):
            continue
        is_its_own = not inspect.ismodule(plugin) or getattr(member, "__module__", "") == plugin.__name__
        near = get_close_matches(name, hooks, 1, 0.9)
        if near and is_its_own:
            meant = "" if near[0] == name else f" (did you mean {near[0]}?)"
            yield f"{name}{meant} is not marked with @hookimpl: it is never called"


class _HookManager(pluggy.PluginManager):
    """pluggy's manager, which spares most members of an object's class a closer look: they bear no mark."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        """Return the options of a hook implementation, or None where a member is none."""
        member = getattr(type(plugin), name, plugin)
        if member is not plugin and not hasattr(member, MARK):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def _items(call: Callable[[], Any]) -> list[Any]:
    given = call()
    if given is None:
        return []
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        return [given]
    items = list(islice(given, MAX_ITEMS + 1))
    if len(items) > MAX_ITEMS:
        raise ValueError(f"it returned more than {MAX_ITEMS} objects")
    return items
