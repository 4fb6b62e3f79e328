"""`pytest --unit`: the tests of one distribution that start no process and open no port, for `make check`.

Which these are is read from their code: a test is none of them if its function, a fixture of it, or a function or class
of the tests that these name, names what does so. Where only the code under test does, the test has the marker
``integration``. That nothing is missed is checked while they run: a unit test that does either fails.

Tests of several distributions together, in the other folders of ``tests``, are no unit tests.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STARTERS = {
    "HTTPServer", "Popen", "StdioServerParameters", "ThreadingHTTPServer", "bind", "create_server",
    "create_subprocess_exec", "create_subprocess_shell", "fork", "forkpty", "getfixturevalue", "multiprocessing",
    "playwright", "posix_spawn", "serve", "serving", "start_server", "subprocess", "subprocess_exec", "system",
}  # fmt: skip
"""Names of what starts processes or opens ports, or may: whatever fixture a test asks for while it runs."""

FOLDERS = {"core", "docs", "generated", "plugin_system", "services"}
"""Those in ``tests`` that may have unit tests."""

EVENTS = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.exec", "os.system", "socket.bind"}
"""The audit events of a process that is started, and of a port that is opened."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--unit", action="store_true", help="only the tests that start no process and open no port")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--unit"):
        config.pluginmanager.register(Started())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--unit"):
        return
    starters = _Starters()
    unit = [item for item in items if _may_be_unit(item) and not starters.are_named_by(item)]
    config.hook.pytest_deselected(items=list(set(items) - set(unit)))
    items[:] = unit


def _may_be_unit(item: pytest.Item) -> bool:
    first, second, *_ = item.path.relative_to(ROOT).parts
    return (first != "tests" or second in FOLDERS) and item.get_closest_marker("integration") is None


class Started:
    """Makes a test fail that starts a process or opens a port."""

    def __init__(self) -> None:
        self._started: list[str] = []
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if arguments[:1] == ("uname",):
            return  # `platform.processor`, which a library may ask once in a process
        if event in EVENTS:
            self._started.append(f"{event}: {arguments!r:.200}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        yield
        started, self._started = self._started, []
        assert not started, f"no unit test: mark it with @pytest.mark.integration: {started}"


class _Starters:
    """Finds out which tests name what starts processes or opens ports; each function of a test once."""

    def __init__(self) -> None:
        self._known: dict[object, bool] = {}

    def are_named_by(self, item: pytest.Item) -> bool:
        """Whether a test's code does, or that of a fixture it has."""
        test = getattr(item, "obj", None)
        key = getattr(test, "__func__", test), getattr(item, "cls", None)
        if key not in self._known:
            fixtures = getattr(item, "_fixtureinfo", None)
            found = fixtures.name2fixturedefs.values() if fixtures is not None else ()
            self._known[key] = _names_starter([*key, *(each.func for every in found for each in every)])
        return self._known[key]


def _names_starter(code: Iterable[object]) -> bool:
    """Whether functions and classes name what does, or others of the tests that do.

    Of a class those methods count whose names occur: a test may use a class without the method that starts something.
    """
    functions: list[FunctionType] = []
    classes: set[type] = set()
    names: set[str] = set()
    seen: set[object] = set()

    def add(each: object) -> None:
        each = inspect.unwrap(getattr(each, "__func__", each))  # type: ignore[arg-type]
        each = getattr(getattr(each, "hypothesis", None), "inner_test", each)
        if isinstance(each, type):
            classes.update(base for base in each.__mro__ if _is_of_tests(base))
        elif isinstance(each, FunctionType) and each not in seen and _is_of_tests(each):
            seen.add(each)
            functions.append(each)

    for each in code:
        add(each)
    while functions:
        while functions:
            function = functions.pop()
            own = set(_names(function.__code__))
            if {name.partition(".")[0] for name in own} & STARTERS:
                return True
            names |= own
            for each in _objects(function, own):
                add(each)
        for owner in classes:
            for name, method in vars(owner).items():
                if name in names or name.startswith("__"):
                    add(getattr(method, "fget", None) or method)
    return False


def _objects(function: FunctionType, names: set[str]) -> Iterator[object]:
    """Yield what the names in a function stand for, as far as that can be told without running it."""
    for name in names & function.__globals__.keys():
        value = function.__globals__[name]
        yield value
        if isinstance(value, ModuleType):
            yield from (vars(value)[each] for each in names & vars(value).keys())
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            yield cell.cell_contents


def _is_of_tests(what: FunctionType | type) -> bool:
    if isinstance(what, type):
        file = getattr(sys.modules.get(what.__module__), "__file__", None) or "/"
    else:
        file = what.__code__.co_filename
    path = Path(file)
    return path.is_relative_to(ROOT) and ("tests" in path.parts or path.name in ("conftest.py", "testing.py"))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)
