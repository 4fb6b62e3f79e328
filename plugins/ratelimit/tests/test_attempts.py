"""Wrong credentials: how many an address may try, and who is not shut out by its neighbours."""

from __future__ import annotations

import asyncio
import logging

import nexus_ratelimit.plugin
import pytest

from nexus_core import AuthenticationError, Caller, ConfigurationError, Invocation, Nexus, RateLimited, hookimpl


def word(text):
    return {"authorization": text}


@pytest.fixture
async def guarded(start, door):
    platform = await start(door, auth_failures_per_minute=3, rate_limit_per_minute=100)
    platform.door = door
    return platform


async def kinds(platform, *words, **who):
    """What becomes of a call with each of the words: the class of its error, or None."""
    found = []
    for each in words:
        _, error = await platform.call(credentials=None if each is None else word(each), **who)
        found.append(error and type(error))
    return found


async def test_after_so_many_wrong_credentials_the_next_is_not_looked_at(guarded, caplog):
    assert await kinds(guarded, "a", "b", "c") == [AuthenticationError] * 3
    assert guarded.door.asked == 3
    _, error = await guarded.call(credentials=word("d"))
    assert isinstance(error, RateLimited)
    assert error.message.endswith(
        "invalid credentials from this address: auth_failures_per_minute allows 3 in 60 seconds."
    )
    assert (error.details["limit"], error.details["remaining"]) == (3, 0)
    assert 0 < error.retry_after <= 120
    assert await kinds(guarded, "e", "good f", "good g") == [RateLimited] * 3
    assert guarded.door.asked == 3
    told = [record for record in caplog.records if record.name.startswith("nexus_ratelimit")]
    assert len(told) == 1
    assert "203.0.113.5" in told[0].getMessage()
    assert told[0].levelno == logging.WARNING


async def test_other_addresses_have_attempts_of_their_own(guarded):
    await kinds(guarded, "a", "b", "c", "d")
    assert await kinds(guarded, "good one", address="203.0.113.6") == [None]
    assert await kinds(guarded, *"abcd", address="2001:db8::1") == [AuthenticationError] * 3 + [RateLimited]
    assert await kinds(guarded, "good two", address="2001:db8::2") == [RateLimited]
    assert await kinds(guarded, "good two", address="2001:db8:0:1::2") == [None]


async def test_who_is_in_already_stays_in(guarded):
    assert await kinds(guarded, "good ann") == [None]
    await kinds(guarded, *"abcdef")
    assert await kinds(guarded, "good ann", "good bob", "good ann") == [None, RateLimited, None]


async def test_a_credential_that_is_accepted_no_more_is_an_attempt_like_any_other(guarded):
    assert await kinds(guarded, "good ann") == [None]
    await kinds(guarded, *"abc")
    guarded.door.revoked.add("good ann")
    assert await kinds(guarded, "good ann") == [RateLimited]
    asked = guarded.door.asked
    assert await kinds(guarded, "good ann") == [RateLimited]
    assert guarded.door.asked == asked


async def test_good_credentials_cost_no_attempts(guarded):
    assert await kinds(guarded, *(f"good {n}" for n in range(10))) == [None] * 10
    assert await kinds(guarded, *"abc") == [AuthenticationError] * 3


async def test_a_call_without_a_credential_is_no_attempt(guarded):
    assert await kinds(guarded, *[None] * 10) == [AuthenticationError] * 10
    assert await kinds(guarded, *"abc", None) == [AuthenticationError] * 4
    assert await kinds(guarded, "d") == [RateLimited]


async def test_keys_in_a_header_of_their_own_are_credentials(guarded):
    for n in range(5):
        _, error = await guarded.call(headers={b"x-api-key": b"guess %d" % n})
        assert isinstance(error, AuthenticationError if n < 3 else RateLimited)
    assert (await guarded.call(headers={b"x-api-key": b"good ann"}, address="203.0.113.8"))[1] is None


async def test_errors_after_authentication_are_no_attempts(start, door):
    class Later:
        stage = 75

        @hookimpl
        def nexus_register_interceptors(self):
            return [self]

        async def __call__(self, invocation, call_next):
            raise AuthenticationError("Something further in asks again.")

    guarded = await start(door, Later(), auth_failures_per_minute=3, rate_limit_per_minute=100)
    assert await kinds(guarded, *["good ann"] * 6) == [AuthenticationError] * 6


async def test_who_has_no_address_is_not_counted(guarded):
    assert await kinds(guarded, *"abcdef", address=None, channel="mcp") == [AuthenticationError] * 6


async def test_views_and_questions_who_somebody_is_are_attempts_too(guarded):
    def caller():
        return Caller("api", credentials=word("guess"), client_address="203.0.113.5")

    with pytest.raises(AuthenticationError):
        await guarded.nexus.view(caller())
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            await guarded.nexus.authenticate(caller())
    for ask, who in (
        (guarded.nexus.view, caller()),
        (guarded.nexus.authenticate, caller()),
        (guarded.nexus.invoke, Invocation.of(caller(), "w", {})),
    ):
        with pytest.raises(RateLimited):
            await ask(who)


async def test_attempts_behind_a_proxy_count_for_who_makes_them(start, door):
    platform = await start(door, auth_failures_per_minute=2, trusted_proxies=["127.0.0.1"])
    headers = {b"x-forwarded-for": b"1.2.3.4"}
    found = await kinds(platform, *"abc", address="127.0.0.1", headers=headers)
    assert found == [AuthenticationError] * 2 + [RateLimited]
    headers = {b"x-forwarded-for": b"1.2.3.5"}
    assert await kinds(platform, "a", address="127.0.0.1", headers=headers) == [AuthenticationError]


async def test_of_many_attempts_at_once_only_so_many_are_told_that_they_are_wrong(start, door):
    platform = await start(door, auth_failures_per_minute=10, max_concurrent_workflows=200)
    found = await asyncio.gather(*(kinds(platform, f"guess {n}") for n in range(100)))
    assert [kind for (kind,) in found].count(AuthenticationError) == 10
    assert [kind for (kind,) in found].count(RateLimited) == 90


async def test_without_authentication_credentials_mean_nothing(start):
    platform = await start(auth_failures_per_minute=1, rate_limit_per_minute=100)
    assert await kinds(platform, *"abcdef") == [None] * 6


async def test_limiting_attempts_is_no_authentication():
    nexus = Nexus(
        discover=False, plugins=[nexus_ratelimit.plugin.RateLimitPlugin], enable_rate_limiting=True, host="0.0.0.0"
    )
    with pytest.raises(ConfigurationError, match="authentication is off"):
        async with nexus.serving():
            pass
