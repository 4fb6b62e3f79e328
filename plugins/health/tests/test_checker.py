"""Which checks an object has, and what they may take and decide."""

from __future__ import annotations

import functools
import logging
from typing import ClassVar

import pytest
from guide_checker import CustomHealthChecker
from nexus_health import HealthChecker, check
from nexus_health.checker import checks_of

from nexus_core import ConfigurationError


def names(checker):
    return [each.name for each in checks_of(checker)]


class Inherited(HealthChecker):
    def check_parent(self):
        return {"status": "healthy"}


class Many(Inherited):
    """Never calls `HealthChecker.__init__`."""

    check_limit = 3
    check_error = ValueError

    def __init__(self):
        self.check_own = lambda: {"status": "healthy"}

    def check_method(self):
        return {"status": "healthy"}

    @staticmethod
    def check_static():
        return {"status": "healthy"}

    @classmethod
    def check_class(cls):
        return {"status": "healthy"}

    async def check_async(self):
        return {"status": "healthy"}

    def _helper(self, said="healthy"):
        return {"status": said}

    check_partial = functools.partialmethod(_helper, "healthy")

    @property
    def check_property(self):
        raise AssertionError("nobody reads it")

    def _check_private(self):
        raise AssertionError("nobody calls it")

    def checked(self):
        raise AssertionError("nobody calls it")

    def check_url(self, url):
        raise AssertionError("nobody calls it")


def test_every_method_whose_name_begins_so_is_a_check(caplog):
    assert names(Many()) == ["async", "class", "method", "own", "parent", "partial", "static"]
    assert caplog.messages == ["Many.check_url is not used as a check: it takes arguments"]


def test_the_guides_class_has_two():
    assert names(CustomHealthChecker()) == ["database_health", "external_services"]


def test_what_checks_use_comes_from_arguments_attributes_or_the_class():
    class OfClass(HealthChecker):
        db_client = "of the class"
        external_services: ClassVar = {"a": "of the class"}

    assert (HealthChecker().db_client, HealthChecker().external_services) == (None, {})
    given = HealthChecker(db_client="given", external_services={"b": "given"})
    assert (given.db_client, given.external_services) == ("given", {"b": "given"})
    assert (OfClass().db_client, OfClass().external_services) == ("of the class", {"a": "of the class"})
    assert OfClass(external_services={}).external_services == {}
    assigned = Many()
    assigned.db_client = "assigned"
    assigned.external_services["c"] = "assigned"
    assert (assigned.db_client, assigned.external_services) == ("assigned", {"c": "assigned"})
    assert Many().external_services == {}, "each has its own"


class Timed(HealthChecker):
    non_critical = ("quiet", "check_slow")
    timeouts: ClassVar = {"check_slow": 2, "quiet": 0.5}

    def check_slow(self): ...
    def check_quiet(self): ...
    def check_plain(self): ...

    @check(timeout=7, critical=True)
    async def check_decorated(self): ...


def test_time_limits_and_what_is_critical():
    found = {each.name: (each.timeout, each.is_critical) for each in checks_of(Timed())}
    assert found == {"slow": (2.0, False), "quiet": (0.5, False), "plain": (None, True), "decorated": (7.0, True)}

    class Quiet(Timed):
        critical = False

    assert {each.name: each.is_critical for each in checks_of(Quiet())}["plain"] is False


@pytest.mark.parametrize(
    ("attributes", "complaint"),
    [
        ({"timeouts": {"check_slo": 1}}, "names the unknown method 'check_slo'; did you mean 'check_slow'"),
        ({"non_critical": "check_nothing"}, "non_critical names the unknown method 'check_nothing'"),
        ({"non_critical": 3}, "must hold method names, not be a int"),
        ({"timeouts": {"check_slow": 0}}, "the time limit must be a positive number of seconds, not 0"),
        ({"timeouts": {"check_slow": "1"}}, "not '1'"),
        ({"timeouts": {"check_slow": float("nan")}}, "not nan"),
        ({"timeouts": {"check_slow": True}}, "not True"),
    ],
)
def test_what_can_not_be_is_told(attributes, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        checks_of(type("Wrong", (Timed,), attributes)())


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (Timed, r"takes an object, not the class Timed: Timed\(\)"),
        (HealthChecker(), "The health checker HealthChecker has no method check_"),
        (None, "health checker NoneType has no"),
        ({"check_a": lambda: 1}, "health checker dict has no"),
    ],
)
async def test_what_is_no_checker_stops_the_start(start, given, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        await start(given)


def test_attributes_that_raise_are_told():
    class Hostile(HealthChecker):
        def __dir__(self):
            raise ValueError("out of order")

    with pytest.raises(ConfigurationError, match="Hostile can't be read: ValueError: out of order"):
        checks_of(Hostile())


async def test_what_is_no_checker_is_left_out_later(start, caplog):
    from health_helpers import comes, monitor_of

    nexus = await start()
    nexus.register_health_checker(Timed)
    with caplog.at_level(logging.ERROR):
        await comes(lambda: "A health checker is ignored" in caplog.text)
    nexus.register_health_checker(Many())
    await comes(lambda: "static" in {each.name for each in monitor_of(nexus).results})
    assert monitor_of(nexus).is_ready
