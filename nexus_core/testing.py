"""For the tests of plugins: a platform with chosen plugins only, and the contracts that plugins and run stores keep.

It needs pytest, which the core itself does not.
"""

# ruff: noqa: D102  (the names of tests say what they test)

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import stat
import subprocess
import sys
import time
from importlib.metadata import Distribution, EntryPoint, distributions, entry_points
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from nexus_core.app import hookspecs
from nexus_core.app.nexus import Nexus
from nexus_core.options.settings import CoreSettings, PluginSettings
from nexus_core.plugins.discovery import ALWAYS, CORE, GROUP, GUARDS, PluginStatus, discover
from nexus_core.plugins.markers import hookimpl
from nexus_core.plugins.requirements import unmet_requirement
from nexus_core.runs.contract import RunStoreContract as RunStoreContract

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

    from nexus_core.pipeline.stage import Interceptor

HEAVY = (
    "aiohttp", "fastapi", "httpx2", "hypercorn", "jinja2", "kailash", "mcp", "numpy", "opentelemetry", "pandas",
    "prompt_toolkit", "redis", "rich", "sqlalchemy", "starlette", "typer", "uvicorn", "yaml",
)  # fmt: skip
"""Modules that importing ``plugin.py`` must not import: that happens in every process that uses Nexus."""

CHECK_SECONDS = 60.0
"""How long a fresh interpreter may take; ``nexus plugins check`` has its own limit below that."""


def isolated_nexus(*plugins: object, **options: Any) -> Nexus:
    """Return a `Nexus` with these plugins and no installed ones.

    Args:
        *plugins: Objects or modules with hook implementations.
        **options: Options by name.
    """
    return Nexus(discover=False, plugins=plugins, **options)


def stages_of(nexus: Nexus) -> list[Interceptor]:
    """Return the interceptors that a call passes, in order and without guards; none unless it is started."""
    running = nexus._state.running
    return [getattr(each, "interceptor", each) for each in running.interceptors] if running else []


def stage_of(nexus: Nexus, stage: int) -> Any:
    """Return the interceptor at a stage of a started platform, without a guard around it.

    Example:
        ``stage_of(nexus, Stage.ADMIT).in_use`` is how many calls are worked on.

    Args:
        nexus: The platform.
        stage: A `Stage`, or what else the interceptor has as its ``stage``.

    Raises:
        LookupError: The platform is not started, or has no or several interceptors at the stage.
    """
    found = [each for each in stages_of(nexus) if each.stage == stage]
    if len(found) != 1:
        names = ", ".join(f"{type(each).__name__} ({each.stage})" for each in stages_of(nexus)) or "none: not started"
        raise LookupError(f"{len(found)} interceptors at stage {stage}; the platform's interceptors: {names}")
    return found[0]


async def eventually(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the event loop turn until a condition holds.

    Raises:
        AssertionError: It does not within so many seconds.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not come within {seconds:g} s"
        await asyncio.sleep(0.005)


class PluginContract:
    """What every installed plugin keeps to. Subclass it: ``class TestContract(PluginContract): plugin = "api"``.

    Attributes:
        plugin: The name of the entry point.
        options: Options with which the plugin is started, such as port 0 or the addresses of its services.
        heavy: Modules that importing the plugin must not import.
    """

    plugin: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    heavy: ClassVar[tuple[str, ...]] = HEAVY

    @pytest.fixture(autouse=True)
    def _no_options_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [each for each in os.environ if each.startswith("NEXUS_")]:
            monkeypatch.delenv(name)

    @pytest.fixture(autouse=True)
    def _in_an_empty_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)  # a file that an option names by default is not left beside the plugin's tests

    def entry_point(self) -> EntryPoint:
        """Return the plugin's entry point."""
        found = [each for each in entry_points(group=GROUP) if each.name == self.plugin]
        assert len(found) == 1, f"{len(found)} distributions provide the plugin {self.plugin!r}"
        return found[0]

    def nexus(self, *others: object, **options: Any) -> Nexus:
        """Return a platform with this plugin, and with no other installed one."""
        disabled = [record.name for record in discover() if record.name != self.plugin]
        return Nexus(plugins=others, disabled_plugins=disabled, **{**self.options, **options})

    def test_the_entry_point_leads_to_hook_implementations(self) -> None:
        loaded = self.entry_point().load()
        names = [name for name in dir(loaded) if hasattr(getattr(loaded, name, None), "nexus_impl")]
        assert names, f"{self.entry_point().value} has no hook implementations"

    def test_the_distribution_names_the_versions_of_the_core_it_works_with(self) -> None:
        requires = _distribution(self.plugin).requires or []
        lines = [line for line in requires if re.match(rf"{CORE}\b", line.lower().replace("_", "-"))]
        assert lines, f"the distribution must require {CORE}"
        assert unmet_requirement(lines, CORE, "999") is not None, f"{lines[0]!r} has no upper bound"

    def test_importing_it_imports_nothing_heavy(self) -> None:
        module = self.entry_point().module
        loaded = _python(f"import sys, {module}; print(*sys.modules, sep='\\n')").splitlines()
        assert not sorted(set(self.heavy) & set(loaded))

    def test_its_hooks_are_known_and_only_start_and_stop_are_async(self) -> None:
        nexus = self.nexus()
        record = next(each for each in nexus.plugins.records if each.name == self.plugin)
        assert record.status is PluginStatus.ACTIVE, record.reason
        for hook in record.hooks:
            assert hasattr(hookspecs, hook)
            call = next(call for name, call in nexus.plugins.implementations(hook, login={}) if name == self.plugin)
            assert hook in ("nexus_startup", "nexus_shutdown") or not asyncio.iscoroutinefunction(call), hook

    def test_its_options_are_described_have_fitting_defaults_and_are_its_own(self) -> None:
        taken = set(CoreSettings.model_fields)
        for record in discover():
            if record.status is PluginStatus.AVAILABLE and record.name != self.plugin:
                taken |= _fields(record.entry_point().load())
        model = _model(self.entry_point().load())
        if model is None:
            return
        for name, field in model.model_fields.items():
            assert name not in taken, f"the option {name} belongs to another plugin too"
            assert (field.description or "").strip(), f"the option {name} has no description"
        assert _model(self.entry_point().load()) is model, "the model must be the same class each time"
        self.nexus().settings(model)  # it could be made of defaults

    def test_what_it_says_of_guarding_access_names_its_options_and_itself(self) -> None:
        loaded, guard = self.entry_point().load(), "guards_access"
        points = [each for each in _distribution(self.plugin).entry_points if each.group == GUARDS]
        plugins = {each.name for each in _distribution(self.plugin).entry_points if each.group == GROUP}
        for each in points:
            assert each.value in plugins, f"{GUARDS} names {each.value!r}, which is no plugin of the distribution"
        names = {each.name for each in points if each.value == self.plugin}
        assert not (names - _fields(loaded) - {ALWAYS}), f"{GUARDS} names options that the plugin does not have"
        if inspect.getattr_static(loaded, guard, False) is not False:
            assert names, f"{guard} does not hold where the import fails: name its option in {GUARDS}"

    def test_starting_and_stopping_twice_leaves_nothing_behind(self) -> None:
        asyncio.run(self._leaves_nothing_behind())

    async def _leaves_nothing_behind(self) -> None:
        nexus = self.nexus()
        tasks, sockets = asyncio.all_tasks(), _sockets()
        for _ in range(2):
            await self._start_and_stop(nexus)
            assert nexus.channel(self.plugin) is None
            left = [task for task in asyncio.all_tasks() - tasks if not task.done()]
            assert not left, f"tasks are left: {left}"
            assert _sockets() <= sockets, "sockets are left open"

    async def _start_and_stop(self, nexus: Nexus) -> None:
        async with nexus:
            nexus.register("contract", lambda: 1, replace=True)
            assert (await nexus.invoke("contract")).value == 1
            assert self.plugin in nexus.plugins.active(), nexus.plugins.inactive()
        nexus.unregister("contract")

    def test_a_plugin_that_fails_beside_it_does_not_harm_it(self) -> None:
        nexus = self.nexus(_Failing(), _FailingLater())
        asyncio.run(self._start_and_stop(nexus))
        assert {"_Failing", "_FailingLater"} <= nexus.plugins.inactive().keys()

    def test_nexus_plugins_check_shows_it_active(self) -> None:
        code = f"from nexus_core.plugins.commands import run; run(['check', {self.plugin!r}, '--json'])"
        (record,) = json.loads(_python(code))
        assert (record["status"], record["reason"]) == ("active", "")
        assert record["hooks"]


class _Failing:
    @hookimpl
    def nexus_startup(self, nexus: Nexus) -> None:
        raise RuntimeError("This plugin fails on purpose.")


class _FailingLater:
    @hookimpl
    def nexus_register_routes(self, nexus: Nexus) -> list[Any]:
        raise RuntimeError("This plugin fails on purpose.")


def _distribution(plugin: str) -> Distribution:
    for each in distributions():
        if any(point.group == GROUP and point.name == plugin for point in each.entry_points):
            return each
    raise LookupError(plugin)


def _model(plugin: ModuleType) -> type[PluginSettings] | None:
    give = getattr(plugin, "nexus_register_settings", None)
    return give() if give is not None else None


def _fields(plugin: ModuleType) -> set[str]:
    model = _model(plugin)
    return set(model.model_fields) if model is not None else set()


def _python(code: str) -> str:
    done = subprocess.run(  # noqa: S603  (this interpreter, with code from here)
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=CHECK_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _sockets() -> set[int]:
    """Return the file descriptors of this process that are sockets."""
    found = set()
    for number in range(3, 1024):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                found.add(number)
        except OSError:
            continue  # not open
    return found
