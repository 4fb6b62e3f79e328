"""Tokens that only the issuer can read: it is asked, once for each, and no longer than its answer holds."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time

import pytest
from token_issuer import AUDIENCE, SECRET, secret_token

from nexus_core import AuthenticationError, BackendUnavailable, PermissionDenied
from nexus_core.testing import eventually

PATH = "/introspect"


@pytest.fixture
def asking(platform, issuer):
    """A function that starts a platform that asks the issuer about tokens."""

    async def start(**options):
        return await platform(
            **{
                "auth_strategy": "oauth2", "oauth2_introspection_url": f"{issuer.url}/introspect",
                "oauth2_client_id": "nexus", "oauth2_client_secret": "hush: a secret", **options,
            }
        )  # fmt: skip

    return start


async def test_the_issuer_says_who_calls(asking, issuer):
    started = await asking()
    token = issuer.introspected("opaque", scope="data.read openid", permissions=None)
    assert await started.call("whoami", token) == {
        "user": "alice", "tenant": "acme", "permissions": ["data.read"], "scopes": ["data.read", "openid"],
    }  # fmt: skip
    assert await started.call("read", token) == "data"
    assert isinstance(await started.call("write", token), PermissionDenied)
    assert issuer.last_form == {"token": "opaque", "token_type_hint": "access_token"}
    credentials = base64.b64encode(b"nexus:hush: a secret").decode()
    assert issuer.last_headers["authorization"] == f"Basic {credentials}"


async def test_a_token_of_whatever_form(asking, issuer):
    started = await asking()
    for token in (secret_token(), "x", "a" * 4096, "a=b&token=c", "+/=~", '"quoted"'):
        assert await started.user(issuer.introspected(token)) == "alice"
        assert issuer.last_form["token"] == token


async def test_a_token_that_is_not_active_is_refused(asking, issuer):
    started = await asking()
    assert type(await started.call("whoami", "unknown")) is AuthenticationError
    assert type(await started.call("whoami", "unknown")) is AuthenticationError
    assert issuer.asked[PATH] == 2, "nothing is kept of a token that was refused"
    assert await started.user(issuer.introspected("unknown")) == "alice"


async def test_a_token_without_a_subject_is_its_clients(asking, issuer):
    """RFC 7662, section 2.2: both are optional. A client that acts for itself may have no subject."""
    started = await asking()
    assert await started.user(issuer.introspected("own", sub=None, client_id="nightly")) == "nightly"
    assert await started.user(issuer.introspected("for alice", client_id="nightly")) == "alice"
    for odd in ("", 7, None, ["nightly"]):
        assert await started.user(issuer.introspected(f"odd {odd}", sub=None, client_id=odd)) is None
    assert await started.user(issuer.introspected("odd subject", sub=7, client_id="nightly")) is None


async def test_a_claim_that_is_asked_for_has_no_stand_in(asking, issuer):
    started = await asking(jwt_user_claim="username")
    assert await started.user(issuer.introspected("x", username=None, client_id="nightly")) is None


ANSWERS = {
    "active as text": {"active": "true"},
    "active as number": {"active": 1},
    "active as list": {"active": [True]},
    "not active": {"active": False},
    "nothing": {"active": None},
    "without a user": {"sub": None},
    "a user that is a number": {"sub": 7},
    "expired": {"exp": 1},
    "expiry as text": {"exp": "never"},
    "not yet good": {"nbf": 99_999_999_999},
    "scopes that are a number": {"scope": 7},
    "permissions that are an object": {"permissions": {}},
}


async def test_an_answer_that_says_nothing_usable_refuses(asking, issuer):
    started = await asking()
    for case, changes in ANSWERS.items():
        issuer.introspected("token")
        issuer.tokens["token"] |= changes
        assert type(await started.call("whoami", "token")) is AuthenticationError, case
    assert await started.user(issuer.introspected("token")) == "alice"


async def test_members_that_may_be_left_out(asking, issuer):
    started = await asking(jwt_issuer=issuer.name, jwt_audience=AUDIENCE)
    for good in ({"exp": None}, {"iss": issuer.name, "aud": AUDIENCE}, {"aud": ["x", AUDIENCE]}, {"permissions": None}):
        assert await started.user(issuer.introspected(f"good {good}".replace(" ", ""), **good)) == "alice", good
    for bad in ({"iss": "https://evil.example"}, {"aud": "x"}, {"aud": []}):
        assert await started.user(issuer.introspected(f"bad {bad}".replace(" ", ""), **bad)) is None, bad


async def test_an_answer_holds_for_a_while(asking, issuer):
    started = await asking(auth_cache_ttl=60)
    token, began = issuer.introspected("opaque"), time.monotonic()
    for _ in range(20):
        assert await started.user(token) == "alice"
    assert issuer.asked[PATH] == 1
    call = started.invocation("whoami", token)
    await started.nexus.invoke(call)
    assert began + 60 <= call.validity.check_at <= time.monotonic() + 60


async def test_a_revoked_token_is_refused_when_the_answer_holds_no_longer(asking, issuer):
    started = await asking(auth_cache_ttl=0.1)
    token = issuer.introspected("opaque")
    assert await started.user(token) == "alice"
    del issuer.tokens[token]  # it is revoked
    end = time.monotonic() + 5
    while await started.user(token) is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_no_answer_is_kept_where_that_is_not_wanted(asking, issuer):
    started = await asking(auth_cache_ttl=0)
    token = issuer.introspected("opaque")
    assert await started.user(token) == "alice"
    del issuer.tokens[token]
    assert await started.user(token) is None


async def test_no_answer_is_kept_for_longer_than_the_token_is_good(asking, issuer):
    started = await asking(jwt_leeway=3, auth_cache_ttl=3600)
    end = int(time.time()) + 60
    call = started.invocation("whoami", issuer.introspected("opaque", exp=end))
    await started.nexus.invoke(call)
    assert (call.validity.expires_at, call.validity.refused_at) == (end, end + 3)  # see test_credential_cache


async def test_calls_with_one_token_at_a_time_ask_once(asking, issuer):
    started = await asking()
    issuer.introspected("one")
    issuer.introspected("two", sub="bob")
    issuer.gate.clear()
    calls = [asyncio.create_task(started.user(token)) for token in ("one", "two") * 30]
    await eventually(lambda: issuer.asked[PATH] == 2)
    calls[0].cancel()
    issuer.gate.set()
    await asyncio.wait(calls)
    assert [call.result() for call in calls[1:]] == ["bob", *["alice", "bob"] * 29]
    assert issuer.asked[PATH] == 2


@pytest.mark.parametrize(
    "answer",
    [
        (401, {}, b'{"error": "invalid_client"}'),
        (500, {}, b""),
        (302, {"location": "/elsewhere"}, b""),
        (200, {}, b"<html>"),
        (200, {}, b" " * 600_000),
    ],
    ids=lambda answer: f"{answer[0]} {answer[2][:6]!r}",
)
async def test_an_issuer_of_no_use_lets_nobody_in(asking, issuer, answer, caplog):
    started = await asking()
    issuer.answers[PATH] = answer
    for _ in range(5):
        assert type(await started.call("whoami", "token")) is BackendUnavailable
    assert issuer.asked["/elsewhere"] == 0
    (record,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert "/introspect" in record.getMessage()
    assert "hush" not in caplog.text


async def test_a_token_that_upsets_the_issuer_harms_nobody_else(asking, issuer):
    started = await asking()
    upset = json.dumps({"error": "invalid_request"}).encode()
    for number in range(5):
        issuer.answers[PATH] = (500, {}, upset)
        assert type(await started.call("whoami", "made-up")) is BackendUnavailable
        del issuer.answers[PATH]
        assert await started.user(issuer.introspected(f"good-{number}")) == "alice"


async def test_an_issuer_that_hangs_costs_the_time_limit_at_most(asking, issuer):
    started = await asking(auth_timeout=1)
    known = issuer.introspected("known")
    assert await started.user(known) == "alice"
    issuer.gate.clear()
    began = time.monotonic()
    answers = await asyncio.gather(*(started.call("whoami", f"token-{number}") for number in range(50)))
    assert {type(each) for each in answers} == {BackendUnavailable}
    assert time.monotonic() - began < 8
    assert await started.user(known) == "alice"


async def test_a_flood_of_made_up_tokens_shuts_nobody_out(asking, issuer, caplog):
    started = await asking(auth_timeout=1, max_concurrent_workflows=1000)
    issuer.introspected("good")
    issuer.delay = 0.2  # twenty at a time: the last ones wait for longer than the issuer may take for one
    flood = [asyncio.create_task(started.call("whoami", f"made-up-{number}")) for number in range(120)]
    assert AuthenticationError in {type(each) for each in await asyncio.gather(*flood)}
    assert "no response" not in caplog.text
    assert await started.user("good") == "alice"


async def test_no_more_is_asked_at_a_time_than_memory_is_for(asking, issuer, monkeypatch):
    monkeypatch.setattr("nexus_auth.methods.introspection.MAX_REQUESTS", 3)
    started = await asking()
    issuer.gate.clear()
    open_questions = [asyncio.create_task(started.call("whoami", f"made-up-{number}")) for number in range(3)]
    await eventually(lambda: issuer.asked[PATH] == 3)
    assert type(await started.call("whoami", "one-more")) is BackendUnavailable
    issuer.gate.set()
    assert {type(each) for each in await asyncio.gather(*open_questions)} == {AuthenticationError}
    assert type(await started.call("whoami", "one-more")) is AuthenticationError


async def test_an_issuer_that_is_away_is_not_waited_for(asking, issuer):
    started = await asking()
    issuer.close()
    began = time.monotonic()
    for _ in range(50):
        assert type(await started.call("whoami", "token")) is BackendUnavailable
    assert time.monotonic() - began < 8


async def test_beside_tokens_with_a_secret(asking, issuer):
    started = await asking(auth_providers=["oauth2", "jwt"], auth_strategy=None, jwt_secret=SECRET)
    assert await started.user(issuer.introspected("opaque", sub="bob")) == "bob"
    assert await started.user(secret_token()) == "alice"
    issuer.close()
    assert await started.user(secret_token(sub="carol")) == "carol", "the other way needs no issuer"
    assert type(await started.call("whoami", "no.such.token")) is BackendUnavailable


async def test_api_keys_are_none_of_the_issuer_s_business(asking, issuer, tmp_path):
    started = await asking(auth_providers=["oauth2", "api_key"], auth_strategy=None, api_key_file=tmp_path / "keys")
    assert type(await started.call("whoami", "nxk_0123456789ab_" + "x" * 43)) is AuthenticationError
    assert issuer.asked[PATH] == 0
