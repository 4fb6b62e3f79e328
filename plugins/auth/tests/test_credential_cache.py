"""What is remembered of credentials: each is checked once, and none outlives its end."""

from __future__ import annotations

import asyncio
import time

import pytest
from joserfc import jwt
from nexus_auth.credential_cache import CredentialCache, VerifiedCredential
from nexus_auth.credentials import MAX_BYTES
from token_issuer import SECRET, secret_token

from nexus_core import Principal
from nexus_core.pipeline.credentials import CHECK_SECONDS

ALICE, BOB = Principal("alice"), Principal("bob")


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clocks():
    return Time(), Time()


@pytest.fixture
def known(clocks):
    return CredentialCache(3, *clocks)


@pytest.fixture
def checks(monkeypatch):
    """How often a signature has been checked."""
    found = []

    def counted(token, *args, **kwargs):
        found.append(token)
        return decode(token, *args, **kwargs)

    decode = jwt.decode
    monkeypatch.setattr("nexus_auth.methods.jwt.jwt.decode", counted)
    return found


async def test_a_token_is_checked_once(platform, checks):
    started = await platform(jwt_secret=SECRET)
    tokens = [secret_token(sub=f"user-{number}") for number in range(3)]
    for _ in range(100):
        assert [await started.user(token) for token in tokens] == ["user-0", "user-1", "user-2"]
    assert sorted(checks) == sorted(tokens)


async def test_a_token_that_was_refused_is_checked_each_time(platform, checks):
    started = await platform(jwt_secret=SECRET)
    bad = secret_token(secret="another secret, which is long enough as well")
    for _ in range(10):
        assert await started.user(bad) is None
    assert len(checks) == 10


async def test_the_same_token_in_another_spelling_is_another_credential(platform, checks):
    started = await platform(jwt_secret=SECRET)
    token = secret_token()
    assert await started.user(authorization=f"Bearer {token}") == "alice"
    for other in (f"{token}A", token[:-1], f"{token}=", token.replace(".", "..", 1)):
        assert await started.user(other) is None, other


@pytest.mark.parametrize("leeway", [0, 30])
async def test_a_token_is_known_until_it_ends(platform, leeway):
    started = await platform(jwt_secret=SECRET, jwt_leeway=leeway)
    expiry = int(time.time()) + 60
    token = secret_token(exp=expiry)
    for _ in range(2):  # verified, and remembered
        call = started.invocation("whoami", token)
        await started.nexus.invoke(call)
        assert (call.validity.expires_at, call.validity.refused_at) == (expiry, expiry + leeway)


async def test_many_calls_with_a_token_at_a_time(platform, checks):
    started = await platform(jwt_secret=SECRET)
    token = secret_token()
    assert set(await asyncio.gather(*(started.user(token) for _ in range(100)))) == {"alice"}
    assert len(checks) == 1


def test_it_is_known_for_the_seconds_that_it_may_be(known, clocks):
    clock, _ = clocks
    known.add("a", VerifiedCredential(ALICE, 10))
    clock.now += 9.9
    assert known.get("a").principal is ALICE
    clock.now += 0.1
    assert known.get("a") is None


def test_it_is_not_known_beyond_its_end_however_the_clocks_go(known, clocks):
    clock, now = clocks
    known.add("a", VerifiedCredential(ALICE, 1000, now.now + 10))
    now.now += 10  # the machine has slept: only the date has moved on
    assert known.get("a") is None
    now.now -= 100  # somebody sets the date back
    clock.now += 1000
    assert known.get("a") is None


def test_it_is_checked_again_when_it_may_be_remembered_no_longer(known, clocks):
    """What a caller has open is checked at that time; a credential that is not remembered every quarter second."""
    clock, now = clocks
    short = known.add("short", VerifiedCredential(ALICE, 0.25, now.now + 10, leeway=5))
    assert known.get("short") is short
    assert short.validity[:3] == (now.now + 10, now.now + 15, clock.now + 0.25)
    for seconds in (0, -1, float("nan")):
        assert known.add("once", VerifiedCredential(ALICE, seconds)).validity.check_at == clock.now + CHECK_SECONDS


def test_it_is_accepted_for_the_leeway_beyond_its_end(known, clocks):
    _, now = clocks
    known.add("a", VerifiedCredential(ALICE, 1000, now.now + 10, leeway=5))
    now.now += 14.9
    assert known.get("a").principal is ALICE
    now.now += 0.1
    assert known.get("a") is None


def test_what_is_forgotten_is_checked_again_where_it_is_open():
    rechecked = []
    known = CredentialCache(recheck=lambda *keys: rechecked.append(keys))
    keys = [known.add(name, VerifiedCredential(ALICE)).validity.key for name in "ab"]
    known.forget("a")
    assert (known.get("a"), known.get("b").principal) == (None, ALICE)
    assert rechecked == [(keys[0],)]
    known.forget("a")  # open with another process's session, perhaps
    assert rechecked == [(keys[0],)] * 2
    known.clear()
    assert known.get("b") is None
    assert rechecked[2:] == [()]


def test_for_this_once_means_not_at_all(known):
    for seconds in (0, -1, float("nan")):
        known.add("a", VerifiedCredential(ALICE, seconds))
        assert known.get("a") is None


def test_the_oldest_makes_room(known):
    for name in "abc":
        known.add(name, VerifiedCredential(ALICE))
    known.add("a", VerifiedCredential(BOB))  # again: it is the newest now
    known.add("d", VerifiedCredential(ALICE))
    found = [known.get(name) for name in "abcd"]
    assert [each and each.principal for each in found] == [BOB, None, ALICE, ALICE]
    assert len(known) == 3


def test_neither_credentials_nor_what_is_too_large_are_kept(known):
    known.add("Bearer a-secret-token", VerifiedCredential(ALICE))
    assert "a-secret-token" not in repr(vars(known))
    for size, found in ((MAX_BYTES, ALICE), (MAX_BYTES + 1, None)):
        known.add("x" * size, VerifiedCredential(ALICE))
        entry = known.get("x" * size)
        assert (entry and entry.principal) is found
    assert known.get("\ud800") is None
    known.clear()
    assert known.get("Bearer a-secret-token") is None
