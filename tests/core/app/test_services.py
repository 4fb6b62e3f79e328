"""What plugins have for applications and workflows, by name."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from nexus_core import ConfigurationError, Context, Nexus, WorkflowFailed, hookimpl


class Plugin:
    def __init__(self, name: str, services: Any) -> None:
        self.__name__ = name
        self.services = services
        self.asked = 0

    @hookimpl
    def nexus_register_services(self, nexus: Nexus) -> Any:
        self.asked += 1
        if isinstance(self.services, Exception):
            raise self.services
        return self.services


async def test_the_same_object_before_the_start_in_workflows_and_after_a_restart(make: Any) -> None:
    greeter = object()
    plugin = Plugin("greeting", {"greeter": greeter})
    nexus = make(plugin)
    found: list[Any] = []

    @nexus.workflow
    async def awaited(context: Context) -> None:
        found.append(context.service("greeter"))

    @nexus.workflow
    def threaded(context: Context) -> None:
        found.append(context.service("greeter"))

    assert plugin.asked == 0
    assert nexus.service("greeter") is greeter
    for _ in range(2):
        async with nexus:
            await nexus.invoke("awaited")
            await nexus.invoke("threaded")
    assert found == [greeter] * 4
    assert nexus.service("greeter") is greeter
    assert plugin.asked == 1


async def test_two_platforms_have_their_own(make: Any) -> None:
    one, other = make(Plugin("greeting", {"greeter": 1})), make(Plugin("greeting", {"greeter": 2}))
    assert (one.service("greeter"), other.service("greeter")) == (1, 2)


def test_plugins_are_asked_once_by_many_threads(make: Any) -> None:
    plugin = Plugin("greeting", {"greeter": 1})
    nexus = make(plugin)
    barrier, found = threading.Barrier(8), []

    def ask() -> None:
        barrier.wait(10)
        found.append(nexus.service("greeter"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert (found, plugin.asked) == ([1] * 8, 1)


def test_two_plugins_with_one_name(make: Any) -> None:
    nexus = make(Plugin("a", {"greeter": 1, "own": 2}), Plugin("b", {"greeter": 3}))
    assert nexus.service("own") == 2
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"'greeter': .*\(a\) and .*\(b\); disable all but one"):
            nexus.service("greeter")
    assert nexus.plugins.active() == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gretter", "did you mean 'greeter'?"),
        ("db_pol", "did you mean 'db_pool'?"),
        ("db_pool", 'needs the plugin "pools": pip install nexus-hub-pools, and set postgres_url.'),
        ("http_pool", 'needs the plugin "pools": pip install nexus-hub-pools.'),
        ("redis_pool", 'needs the plugin "redis": pip install nexus-hub-redis, and set redis_url.'),
        ("a\nb", "There is no service 'a\\\\u000ab'"),
        ("", "There is no service ''."),
    ],
)
def test_what_is_not_there(make: Any, name: str, told: str) -> None:
    nexus = make(Plugin("greeting", {"greeter": 1}))
    with pytest.raises(ConfigurationError) as refused:
        nexus.service(name)
    assert told in str(refused.value) or told in repr(str(refused.value))


def test_what_is_not_switched_on(make: Any) -> None:
    nexus = make(Plugin("pools", None))
    with pytest.raises(ConfigurationError, match='plugin "pools" gives it, where it is switched on: set postgres_url'):
        nexus.service("db_pool")
    with pytest.raises(ConfigurationError, match=r"gives it, where it is switched on\.$"):
        nexus.service("http_pool")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["greeter"], "returned a str, not objects by name"),
        ({1: "greeter"}, "returned a dict, not objects by name"),
        (RuntimeError("no"), "RuntimeError: no"),
    ],
)
def test_a_plugin_that_gives_nonsense_is_out(make: Any, caplog: Any, given: Any, told: str) -> None:
    nexus = make(Plugin("greeting", given), Plugin("other", {"own": 1}))
    assert nexus.service("own") == 1
    assert "greeting" in nexus.plugins.inactive()
    assert told in caplog.text


def test_what_the_operator_has_to_mend_is_told_each_time(make: Any) -> None:
    plugin = Plugin("greeting", ConfigurationError("greeting_url: is not a URL"))
    nexus = make(plugin)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="greeting_url: is not a URL"):
            nexus.service("greeter")
    plugin.services = {"greeter": 1}
    assert nexus.service("greeter") == 1


async def test_a_plugin_that_fails_later_takes_its_services_with_it(make: Any) -> None:
    class Failing(Plugin):
        @hookimpl
        def nexus_startup(self, nexus: Nexus) -> None:
            raise RuntimeError("it does not open")

    nexus = make(Failing("greeting", {"greeter": 1}))
    assert nexus.service("greeter") == 1
    async with nexus:
        with pytest.raises(ConfigurationError, match=r'"greeting" gives it, which is not active: .*it does not open'):
            nexus.service("greeter")


async def test_a_workflow_without_its_service_fails_and_only_the_log_says_why(make: Any, caplog: Any) -> None:
    nexus = make()

    @nexus.workflow
    async def work(context: Context) -> None:
        context.service("db_pool")

    caplog.set_level(logging.ERROR)
    with pytest.raises(WorkflowFailed) as failed:
        await nexus.invoke("work")
    assert "db_pool" not in str(failed.value)
    assert "pip install nexus-hub-pools" in caplog.text
