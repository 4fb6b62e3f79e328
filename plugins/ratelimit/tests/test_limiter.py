"""Whose calls are counted together, what is refused, and what the caller is told."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest

from nexus_core import Caller, ConfigurationError, Invocation, Nexus, RateLimited, WorkflowNotFound
from nexus_core.testing import stages_of
from nexus_core.types.principal import Principal, RateLimit

STRATEGIES = ["sliding_window", "moving_window", "fixed_window"]


async def test_nothing_is_limited_unless_it_is_switched_on(start):
    platform = await start(enable_rate_limiting=False, rate_limit_per_minute=1)
    assert await platform.count(5) == 5
    invocation, _ = await platform.call()
    assert invocation.rate_limit is None


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_caller_has_its_calls_and_is_told_what_is_left(start, strategy):
    platform = await start(rate_limit_strategy=strategy)
    for left in (2, 1, 0):
        invocation, error = await platform.call()
        assert error is None
        state = invocation.rate_limit
        assert (state.limit, state.window, state.remaining) == (3, 60.0, left)
        assert 0 < state.reset <= 120
    invocation, error = await platform.call()
    assert isinstance(error, RateLimited)
    assert error.message == "Too many calls: rate_limit_per_minute allows 3 in 60 seconds."
    assert invocation.rate_limit == RateLimit(3, 60.0, 0, error.retry_after)
    assert error.details == {"limit": 3, "window": 60.0, "remaining": 0, "reset": error.retry_after}
    assert error.problem()["remaining"] == 0
    assert platform.ran == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_there_are_more_calls_when_it_says_so(start, strategy):
    platform = await start(rate_limit_strategy=strategy)
    platform.register("fast", rate_limit={"limit": 2, "window": 1})
    while (error := (await platform.call("fast"))[1]) is None:
        await asyncio.sleep(0)
    await asyncio.sleep(error.retry_after)
    assert await platform.passes("fast", user=None)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_of_a_hundred_calls_at_once_exactly_the_limit_passes(start, strategy):
    platform = await start(rate_limit_per_minute=10, rate_limit_strategy=strategy, max_concurrent_workflows=200)
    passed = await asyncio.gather(*(platform.passes() for _ in range(100)))
    assert sum(passed) == 10


async def test_channels_share_a_callers_budget(start):
    platform = await start()
    assert [await platform.passes(channel=name) for name in ("api", "cli", "mcp", "python")] == [True] * 3 + [False]
    platform = await start()
    channels = ("api", "cli", "mcp", "python")
    assert [await platform.passes(channel=name, user="ann") for name in channels] == [True] * 3 + [False]


async def test_who_is_known_has_a_budget_of_its_own_wherever_it_calls_from(start):
    platform = await start()
    assert await platform.count(5) == 3
    assert [await platform.passes(user="ann", address=f"203.0.113.{n}") for n in range(4)] == [True] * 3 + [False]
    assert await platform.count(5, user="bob") == 3


async def test_users_of_two_tenants_are_two(start):
    platform = await start()
    for principal in (Principal("ann"), Principal("ann", tenant_id="a"), Principal("ann", tenant_id="b")):
        for n in range(4):
            invocation = Invocation("order", {}, principal=principal)
            if n < 3:
                await platform.nexus.invoke(invocation)
            else:
                with pytest.raises(RateLimited):
                    await platform.nexus.invoke(invocation)


async def test_no_user_can_have_the_name_of_an_address(start):
    platform = await start(rate_limit_per_minute=1)
    platform.register("mine", rate_limit=1)
    names = ["address 203.0.113.5", "203.0.113.5", "ann order", "ann", "ann mine", "channel api", "ann\n", "failures x"]
    for name in names:
        assert await platform.passes(user=name)
    assert await platform.passes()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.5", "203.0.113.6", False),
        ("203.0.113.5", "::ffff:203.0.113.5", True),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:0DB8:0001:0002::1", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("testclient", "testclient", True),
        ("testclient", "other client", False),
    ],
)
async def test_an_ipv6_network_is_one_caller(start, one, other, same):
    platform = await start(rate_limit_per_minute=1)
    assert await platform.passes(address=one)
    assert await platform.passes(address=other) is not same


async def test_who_has_neither_name_nor_address_shares_a_budget_with_its_channel(start):
    platform = await start()
    for channel in ("python", "cli", "mcp"):
        assert await platform.count(5, address=None, channel=channel) == 3
    with pytest.raises(RateLimited):
        await platform.nexus.invoke("order")


async def test_what_a_workflow_calls_itself_is_part_of_its_call(start):
    platform = await start(rate_limit_per_minute=2)

    async def all_orders() -> int:
        return sum([(await platform.nexus.invoke("order")).value == "ordered" for _ in range(10)])

    platform.nexus.register("all_orders", all_orders)
    assert await platform.passes("all_orders")
    assert platform.ran == 10
    assert await platform.passes("all_orders")
    assert not await platform.passes("all_orders")


async def test_what_outlives_its_run_is_counted(start):
    platform = await start(rate_limit_per_minute=2)
    left, done = asyncio.Event(), []

    async def later():
        await left.wait()
        done.extend([await platform.passes(address=None, channel="python") for _ in range(4)])

    async def leave() -> None:
        done.append(asyncio.create_task(later()))

    platform.nexus.register("leave", leave)
    await platform.call("leave")
    task = done.pop()
    left.set()
    await task
    assert done == [True, True, False, False]


async def test_views_count_too(start):
    platform = await start()
    caller = Caller("api", client_address="203.0.113.5")
    await platform.nexus.view(caller)
    assert caller.rate_limit.remaining == 2
    assert await platform.count(5) == 2
    with pytest.raises(RateLimited, match="rate_limit_per_minute"):
        await platform.nexus.view(Invocation("order", {}, "api", client_address="203.0.113.5"))


async def test_calls_of_what_is_not_there_count_too(start):
    platform = await start()
    for _ in range(3):
        _, error = await platform.call("nothing")
        assert isinstance(error, WorkflowNotFound)
    assert not await platform.passes("nothing")
    assert not await platform.passes()


# Limits of workflows


@pytest.mark.parametrize(
    ("given", "calls", "window"),
    [
        (2, 2, 60.0),
        ("2/second", 2, 1.0),
        ("2/minute", 2, 60.0),
        (" 2 / hour ", 2, 3600.0),
        ("2/day", 2, 86_400.0),
        ({"limit": 2}, 2, 60.0),
        ({"limit": 2, "window": 0.5}, 2, 0.5),
        ({"limit": 2, "window": 90}, 2, 90.0),
        ({"limit": 2, "window": 31_536_000}, 2, 31_536_000.0),
    ],
)
async def test_a_workflow_has_a_limit_of_its_own_for_each_caller(start, given, calls, window):
    platform = await start(rate_limit_per_minute=100)
    platform.register("mail", rate_limit=given)
    for left in (1, 0):
        invocation, error = await platform.call("mail")
        assert error is None
        assert (invocation.rate_limit.limit, invocation.rate_limit.window) == (calls, window)
        assert invocation.rate_limit.remaining == left
    _, error = await platform.call("mail")
    seconds = f"{window:.1f}".removesuffix(".0") + " second" + "s" * (window != 1)
    assert error.message == f'Too many calls: the rate_limit of the workflow "mail" allows 2 in {seconds}.'
    assert (error.details["limit"], error.details["window"]) == (calls, window)
    assert 0 < error.retry_after <= 2 * window
    assert await platform.count(5, "mail", user="ann") == 2
    assert await platform.count(5) == 5


async def test_both_limits_must_allow_and_a_refused_call_is_taken_from_neither(start):
    platform = await start(rate_limit_per_minute=4)
    platform.register("mail", rate_limit=2)
    platform.register("page", rate_limit=3)
    assert await platform.count(10, "mail") == 2
    assert await platform.count(1) == 1
    assert await platform.passes("page")
    _, error = await platform.call("page")
    assert "rate_limit_per_minute" in error.message
    assert await platform.count(10, "mail") == await platform.count(10) == 0
    page = next(each for key, each in counters(platform).windows.items() if key.endswith(" page"))
    assert page.count == 1


def counters(platform):
    (limiter,) = [each for each in stages_of(platform.nexus) if type(each).__name__ == "RateLimiter"]
    return limiter.counters


async def test_the_tighter_limit_is_told(start):
    platform = await start(rate_limit_per_minute=3)
    platform.register("mail", rate_limit="10/hour")
    told = [(await platform.call("mail"))[0].rate_limit for _ in range(4)]
    assert [(each.limit, each.remaining) for each in told] == [(3, 2), (3, 1), (3, 0), (3, 0)]


WRONG = [
    0, -1, True, False, 1.5, 10**10, "", "10", "10/fortnight", "ten/second", "0/second", "10/second;5/minute",
    "-1/second", "99999999999/second", "1_0/second", "10/2 second", [10], {}, {"limit": 0}, {"limit": "3"},
    {"limit": True}, {"limit": 3, "window": 0}, {"limit": 3, "window": -1}, {"limit": 3, "window": "1"},
    {"limit": 3, "window": True}, {"limit": 3, "window": 1e-9}, {"limit": 3, "window": 1e12}, {"limit": 3, "per": 60},
    {"window": 60}, b"10/second",
]  # fmt: skip


@pytest.mark.parametrize("given", WRONG, ids=repr)
async def test_wrong_limits_stop_the_start(given):
    import nexus_ratelimit.plugin

    nexus = Nexus(discover=False, plugins=[nexus_ratelimit.plugin.RateLimitPlugin], enable_rate_limiting=True)
    nexus.register("mail", lambda: 1)
    nexus.workflows.get("mail").metadata["rate_limit"] = given  # past the check that metadata is JSON
    with pytest.raises(
        ConfigurationError, match='The metadata rate_limit of the workflow "mail" must be a whole number'
    ):
        async with nexus:
            pass


async def test_a_wrong_limit_that_comes_later_refuses_each_call(start):
    platform = await start(rate_limit_per_minute=100)
    platform.register("mail", rate_limit="10/fortnight")
    for _ in range(3):
        with pytest.raises(ConfigurationError, match="10/fortnight"):
            await platform.call("mail")
    assert platform.ran == 0
    platform.register("mail", rate_limit="2/day")
    assert await platform.count(5, "mail") == 2


async def test_a_workflow_that_is_registered_anew_has_its_new_limit(start):
    platform = await start(rate_limit_per_minute=100, rate_limit_strategy="fixed_window")
    platform.register("mail", rate_limit=2)
    assert await platform.count(5, "mail") == 2
    platform.register("mail", rate_limit=4)
    assert await platform.count(5, "mail") == 2
    platform.register("mail")
    assert await platform.count(5, "mail") == 5


# Memory


async def test_any_number_of_addresses_does_not_fill_the_memory(start):
    platform = await start(rate_limit_max_keys=2000)
    kept = counters(platform)
    limiter = next(each for each in stages_of(platform.nexus) if type(each).__name__ == "RateLimiter")

    async def end(invocation):
        return None

    def flood(network):
        for host in range(256 * 40):
            address = f"{network}.{host // 256}.{host % 256}.7"
            invocation = Invocation("order", {}, "api", client_address=address)
            limiter(invocation, end).close()

    tracemalloc.start()
    try:
        flood(1)
        before = tracemalloc.get_traced_memory()[0]
        for network in range(2, 4):
            flood(network)
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(kept) == 2000
    assert grown < 500_000
