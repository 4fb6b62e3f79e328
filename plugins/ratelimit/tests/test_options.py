"""Options that are wrong are refused with a reason; those that are right may be written in every way."""

from __future__ import annotations

import nexus_ratelimit.plugin
import pytest
from nexus_ratelimit.plugin import RateLimitPlugin
from nexus_ratelimit.settings import RateLimitSettings

from nexus_core import ConfigurationError, Nexus
from nexus_core.testing import stages_of


def settings(**options):
    return Nexus(discover=False, plugins=[nexus_ratelimit.plugin.RateLimitPlugin], **options).settings(
        RateLimitSettings
    )


WRONG = [
    ("rate_limit_per_minute", 0, "greater than or equal to 1"),
    ("rate_limit_per_minute", -1, "greater than or equal to 1"),
    ("rate_limit_per_minute", 1.5, "integer"),
    ("rate_limit_per_minute", "many", "integer"),
    ("rate_limit_per_minute", 10**10, "less than or equal to 1000000000"),
    ("rate_limit_strategy", "leaky_bucket", "'sliding_window', 'moving_window' or 'fixed_window'"),
    ("rate_limit_max_keys", 0, "greater than or equal to 1"),
    ("auth_failures_per_minute", 0, "greater than or equal to 1"),
    ("trusted_proxies", ["proxy.example.com"], "'proxy.example.com' is neither an address nor a network"),
    ("trusted_proxies", ["10.0.0.1/8"], "'10.0.0.1/8' is neither an address nor a network .* has host bits set"),
    ("trusted_proxies", ["10.0.0.0/33"], "'10.0.0.0/33' is neither an address nor a network"),
    ("trusted_proxies", ["*"], "is neither an address nor a network"),
    ("trusted_proxies", ["0.0.0.0/0"], "'0.0.0.0/0' contains all addresses"),
    ("trusted_proxies", ["127.0.0.1", "::/0"], "'::/0' contains all addresses"),
]


@pytest.mark.parametrize(("name", "value", "complaint"), WRONG)
def test_wrong_options_are_refused(name, value, complaint):
    with pytest.raises(ConfigurationError, match=f"argument {name}: .*{complaint}"):
        settings(**{name: value})


def test_options_of_the_environment(monkeypatch):
    monkeypatch.setenv("NEXUS_ENABLE_RATE_LIMITING", "true")
    monkeypatch.setenv("NEXUS_RATE_LIMIT_PER_MINUTE", "1000")
    found = settings()
    assert (found.enable_rate_limiting, found.rate_limit_per_minute) == (True, 1000)
    assert (found.rate_limit_strategy, found.rate_limit_backend) == ("sliding_window", None)


def test_nothing_is_in_the_chain_unless_it_is_switched_on():
    for options, expected in (
        ({}, []),
        ({"enable_rate_limiting": True}, ["FailedAttempts", "RateLimiter"]),
    ):
        nexus = Nexus(discover=False, plugins=[nexus_ratelimit.plugin.RateLimitPlugin], **options)
        plugin = RateLimitPlugin(nexus, nexus.settings(RateLimitSettings))
        assert [type(stage).__name__ for stage in plugin.nexus_register_interceptors()] == expected


@pytest.mark.parametrize("strategy", ["sliding_window", "moving_window", "fixed_window"])
async def test_the_strategy_is_the_one_that_is_set(start, strategy):
    platform = await start(rate_limit_strategy=strategy)
    await platform.call()
    for stage in stages_of(platform.nexus):
        if type(stage).__name__ == "RateLimiter":
            (window,) = stage.counters.windows.values()
            assert type(window).__name__.lower() == strategy.replace("_", "")


async def test_budgets_that_make_room_begin_anew(start):
    platform = await start(rate_limit_max_keys=2, rate_limit_per_minute=1)
    assert [await platform.passes(address=f"192.0.2.{n}") for n in (1, 2, 1, 2)] == [True, True, False, False]
    assert [await platform.passes(address=f"192.0.2.{n}") for n in (3, 2, 1)] == [True, False, True]
