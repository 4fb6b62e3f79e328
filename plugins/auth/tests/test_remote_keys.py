"""Keys that an issuer publishes: found, rotated, revoked, and asked for no more often than need be."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import sys
import time
import warnings

import httpx2
import pytest
from joserfc.jwk import OctKey, RSAKey
from nexus_auth.methods.api_keys import new_key
from nexus_auth.methods.key_file import KeyFile
from token_issuer import AUDIENCE, SECRET, Issuer, b64, claims, secret_token, sign

from nexus_core import AuthenticationError, BackendUnavailable, ConfigurationError, Invocation
from nexus_core.testing import eventually

JWKS = "/jwks"
DISCOVERY = "/.well-known/openid-configuration"


def made_up(kid, alg="RS256"):
    """A token in all but its signature."""
    return f"{b64({'alg': alg, 'typ': 'JWT', 'kid': kid})}.{b64(claims(aud=AUDIENCE))}.{b64(b'x' * 256)}"


# Where they are


async def test_keys_by_discovery(trusting, issuer):
    started = await trusting(auth_strategy="oauth2")
    assert await started.user(issuer.token()) == "alice"
    assert issuer.asked == {DISCOVERY: 1, JWKS: 1}


async def test_keys_by_their_address(platform, issuer):
    started = await platform(auth_strategy="jwt", jwt_jwks_url=f"{issuer.url}/jwks", jwt_audience=AUDIENCE)
    assert await started.user(issuer.token()) == "alice"
    assert issuer.asked == {JWKS: 1}


async def test_keys_by_the_metadata_of_oauth2(trusting, issuer):
    issuer.paths["/.well-known/oauth-authorization-server"] = issuer.paths.pop(DISCOVERY)
    started = await trusting()
    assert await started.user(issuer.token()) == "alice"


async def test_an_issuer_with_a_path(platform, issuer):
    issuer.name = f"{issuer.url}/realms/one/"
    discovery = issuer.paths.pop(DISCOVERY)
    for path in ("/realms/one" + DISCOVERY, "/.well-known/oauth-authorization-server/realms/one"):
        issuer.paths[path] = discovery
        started = await platform(auth_service_url=f"{issuer.url}/realms/one", jwt_audience=AUDIENCE)
        assert await started.user(issuer.token()) == "alice"
        assert await started.user(issuer.token(iss=issuer.url)) is None
        del issuer.paths[path]


@pytest.mark.parametrize("kind", ["RSA", "EC", "OKP"])
async def test_every_kind_of_key(trusting, issuer, keys, kind):
    issuer.keys = [keys[kind]]
    assert await (await trusting()).user(issuer.token()) == "alice"


async def test_a_token_that_names_no_key_is_tried_with_each(trusting, issuer, keys):
    issuer.keys = [keys["RSA2"], keys["EC"], keys["RSA"]]
    started = await trusting()
    assert await started.user(sign(claims(aud=AUDIENCE, iss=issuer.name), keys["RSA"], "RS256")) == "alice"


# Whose they are


async def test_tokens_of_another_issuer_or_for_another_service_are_refused(trusting, issuer):
    started = await trusting()
    assert await started.user(issuer.token()) == "alice"
    for wrong in ({"iss": "https://evil.example"}, {"iss": None}, {"iss": [issuer.name]}, {"aud": "x"}, {"aud": None}):
        assert await started.user(issuer.token(**wrong)) is None, wrong


async def test_an_address_of_keys_does_not_make_the_issuer_forgotten(platform, issuer):
    options = {"jwt_jwks_url": f"{issuer.url}/jwks", "jwt_audience": AUDIENCE, "auth_service_url": "https://a.example"}
    started = await platform(**options)
    for fits in ("https://a.example", "https://a.example/"):
        assert await started.user(issuer.token(iss=fits)) == "alice"
    for wrong in (issuer.name, "https://a.example//", "https://a.example.evil", None):
        assert await started.user(issuer.token(iss=wrong)) is None


async def test_a_public_key_is_no_secret(trusting, issuer, keys):
    started = await trusting()
    header, payload = b64({"alg": "HS256", "typ": "JWT", "kid": "rsa"}), b64(claims(aud=AUDIENCE, iss=issuer.name))
    for secret in (keys["RSA"].as_pem(private=False), keys["RSA"].as_der(private=False), b""):
        signature = b64(hmac.new(secret, f"{header}.{payload}".encode(), hashlib.sha256).digest())
        assert await started.user(f"{header}.{payload}.{signature}") is None
    assert await started.user(sign(claims(aud=AUDIENCE, iss=issuer.name), OctKey.import_key(SECRET), "HS256")) is None


async def test_keys_that_are_no_keys_for_tokens_are_left_out(trusting, issuer, keys):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weak = RSAKey.generate_key(1024, {"kid": "weak"})
    good = keys["RSA"].as_dict(private=False)
    odd = {
        "secret": OctKey.import_key(SECRET, {"kid": "secret"}).as_dict(),
        "weak": weak.as_dict(private=False),
        "enc": {**keys["RSA2"].as_dict(private=False), "kid": "enc", "use": "enc"},
        "ops": {**keys["RSA2"].as_dict(private=False), "kid": "ops", "key_ops": ["encrypt"]},
        "alg": {**keys["RSA2"].as_dict(private=False), "kid": "alg", "alg": "RS512"},
    }
    rubbish = [7, None, "key", [], {}, {"kty": 7}, {"kty": "RSA", "n": "!", "e": "AQAB"}, {"kty": "XYZ"}, {"kty": "EC"}]
    issuer.paths[JWKS] = lambda: {"keys": [*rubbish, *odd.values(), good]}
    started = await trusting(jwt_keys_cooldown=0.001)
    assert await started.user(issuer.token()) == "alice"
    what = claims(aud=AUDIENCE, iss=issuer.name)
    assert await started.user(sign(what, OctKey.import_key(SECRET), "HS256", kid="secret")) is None
    assert await started.user(sign(what, weak, "RS256", kid="weak")) is None
    for kid in ("enc", "ops", "alg"):
        assert await started.user(sign(what, keys["RSA2"], "RS256", kid=kid)) is None, kid
    assert await started.user(sign(what, keys["RSA2"], "RS512", kid="alg")) == "alice"


async def test_two_strategies_with_the_same_keys_ask_once(trusting, issuer, keys):
    started = await trusting(auth_providers=["oauth2", "jwt"])
    assert await started.user(issuer.token()) == "alice"
    assert await started.user(made_up("unknown")) is None
    assert issuer.asked[JWKS] == 2


async def test_an_issuer_and_a_secret(trusting, issuer):
    started = await trusting(auth_providers=["oauth2", "jwt"], jwt_secret=SECRET)
    assert await started.user(issuer.token()) == "alice"
    assert await started.user(secret_token(aud=AUDIENCE, sub="bob")) == "bob"
    assert issuer.asked[JWKS] == 1


# Rotation


async def test_a_new_key_is_accepted_at_once(trusting, issuer, keys):
    started = await trusting()
    assert await started.user(issuer.token()) == "alice"
    issuer.keys.insert(0, keys["EC"])
    assert await started.user(issuer.token(sub="bob")) == "bob"
    assert await started.user(issuer.token(keys["RSA"])) == "alice"
    assert issuer.asked[JWKS] == 2


async def test_a_revoked_key_is_refused_once_the_keys_were_asked_for_again(trusting, issuer, keys):
    issuer.keys = [keys["RSA"], keys["RSA2"]]
    old, other = issuer.token(keys["RSA"]), issuer.token(keys["RSA2"], sub="bob")
    started = await trusting()
    assert await started.user(old) == "alice"
    assert await started.user(other) == "bob"
    issuer.keys = [keys["RSA2"], keys["EC"]]
    assert await started.user(issuer.token(keys["EC"], sub="carol")) == "carol"
    assert await started.user(old) is None
    assert await started.user(other) == "bob"


async def test_a_key_is_revoked_though_nobody_sends_a_new_one(trusting, issuer, keys):
    issuer.keys = [keys["RSA"], keys["RSA2"]]
    old = issuer.token(keys["RSA"])
    started = await trusting(jwt_keys_ttl=0.2)
    assert await started.user(old) == "alice"
    issuer.keys = [keys["RSA2"]]
    end = time.monotonic() + 5
    while await started.user(old) is not None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert await started.user(issuer.token(keys["RSA2"])) == "alice"


async def test_when_every_key_is_revoked_nobody_is_let_in(trusting, issuer, caplog):
    started = await trusting()
    assert await started.user(token := issuer.token()) == "alice"
    issuer.keys = []
    assert await started.user(made_up("unknown")) is None
    assert await started.user(token) is None
    assert "has no usable key" in caplog.text


async def test_a_key_under_the_name_of_another_one(trusting, issuer, keys):
    started = await trusting()
    assert await started.user(token := issuer.token()) == "alice"
    replaced = RSAKey.import_key(keys["RSA2"].as_dict(private=True), {"kid": "rsa"})
    issuer.keys = [replaced]
    assert await started.user(issuer.token(sub="bob")) == "bob"
    assert await started.user(token) is None


# No more often than need be


async def test_a_thousand_tokens_of_unknown_keys_ask_once(trusting, issuer):
    started = await trusting()
    assert await started.user(issuer.token()) == "alice"
    kids = [f"kid-{number}" for number in range(990)]
    kids += ["../../etc/passwd", "' OR 1=1 --", "\u0000", "", "a" * 5000, "rsa ", "RSA", "%00", "${jndi}", "http://x"]
    for part in range(0, 1000, 100):
        answers = await asyncio.gather(*(started.call("whoami", made_up(kid)) for kid in kids[part : part + 100]))
        assert {type(each) for each in answers} == {AuthenticationError}
    assert issuer.asked[JWKS] == 2
    assert await started.user(issuer.token(sub="bob")) == "bob"


async def test_after_the_cooldown_it_is_asked_again(trusting, issuer, keys):
    started = await trusting(jwt_keys_cooldown=1)
    assert await started.user(made_up("unknown")) is None
    assert await started.user(made_up("unknown")) is None
    assert issuer.asked[JWKS] == 2
    issuer.keys.insert(0, keys["EC"])
    token, end = issuer.token(), time.monotonic() + 5
    while await started.user(token) is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert issuer.asked[JWKS] == 3


async def test_a_forged_signature_does_not_ask_more_often_either(trusting, issuer):
    started = await trusting()
    head, payload, signature = issuer.token().split(".")
    for number in range(20):
        assert await started.user(f"{head}.{payload}.{b64(bytes([number]) * 256)}") is None
    assert issuer.asked[JWKS] == 2
    assert await started.user(f"{head}.{payload}.{signature}") == "alice"


async def test_calls_that_come_together_ask_once(trusting, issuer):
    issuer.gate.clear()
    started = await trusting()
    calls = [asyncio.create_task(started.user(issuer.token(sub=f"user-{number}"))) for number in range(50)]
    await eventually(lambda: issuer.asked[DISCOVERY] == 1)
    issuer.gate.set()
    assert await asyncio.gather(*calls) == [f"user-{number}" for number in range(50)]
    assert issuer.asked == {DISCOVERY: 1, JWKS: 1}


async def test_who_leaves_does_not_keep_others_from_the_keys(trusting, issuer):
    issuer.gate.clear()
    started = await trusting()
    first, second = (asyncio.create_task(started.user(issuer.token())) for _ in range(2))
    await eventually(lambda: issuer.asked[DISCOVERY] == 1)
    first.cancel()
    issuer.gate.set()
    assert await second == "alice"
    assert first.cancelled()


# When the issuer does not do its part


def elsewhere(issuer):
    return 302, {"location": f"{issuer.url}/elsewhere"}, b""


BAD_ANSWERS = {
    "an error": lambda issuer: (500, {}, b"{}"),
    "elsewhere": elsewhere,
    "not JSON": lambda issuer: (200, {}, b"<html>"),
    "nested deep": lambda issuer: (200, {}, b"[" * 100_000),
    "huge": lambda issuer: (200, {}, b'{"keys": [' + b" " * 600_000 + b"]}"),
    "a list": lambda issuer: (200, {}, b"[]"),
    "a number of too many digits": lambda issuer: (200, {}, b'{"keys": ' + b"9" * 5000 + b"}"),
    "compressed": lambda issuer: (200, {"content-encoding": "gzip"}, b"\x1f\x8b"),
}


@pytest.mark.parametrize(
    ("case", "path"),
    [*((case, JWKS) for case in BAD_ANSWERS), *((case, DISCOVERY) for case in ("elsewhere", "a list"))],
)
async def test_an_answer_of_no_use_lets_nobody_in(trusting, issuer, case, path, caplog):
    good = issuer.token()
    issuer.paths["/elsewhere"] = issuer.paths[path]
    issuer.answers[path] = BAD_ANSWERS[case](issuer)
    started = await trusting()
    for _ in range(10):
        refused = await started.call("whoami", good)
        assert type(refused) is BackendUnavailable
        assert refused.retry_after == 1.0
        assert "127.0.0.1" not in refused.message
    assert issuer.asked[path] <= 2
    assert issuer.asked["/elsewhere"] == 0
    assert len([each for each in caplog.records if each.levelno >= logging.WARNING]) <= 2
    assert len(caplog.text) < 3000
    if case == "an error":
        del issuer.answers[path]
        end = time.monotonic() + 5
        while not isinstance(await started.call("whoami", good), dict):
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


METADATA = {
    "another issuer's": {"issuer": "https://evil.example"},
    "nobody's": {"issuer": None},
    "of the wrong type": {"issuer": ["x"]},
    "without keys": {"jwks_uri": None},
    "with keys nowhere": {"jwks_uri": "jwks"},
    "with keys in a file": {"jwks_uri": "file:///etc/passwd"},
    "with keys on another machine without TLS": {"jwks_uri": "http://keys.example/jwks"},
}


@pytest.mark.parametrize("case", METADATA)
async def test_metadata_of_no_use_let_nobody_in(trusting, issuer, case):
    good, metadata = issuer.token(), issuer._discovery()
    issuer.paths[DISCOVERY] = lambda: {**metadata, **METADATA[case]}
    started = await trusting()
    for _ in range(20):
        assert type(await started.call("whoami", good)) is BackendUnavailable
    assert issuer.asked[DISCOVERY] <= 2
    assert issuer.asked[JWKS] == 0


async def test_an_issuer_that_comes_later(platform, issuer):
    port = issuer.server.server_port
    token = issuer.token()
    issuer.close()
    started = await platform(auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    assert type(await started.call("whoami", token)) is BackendUnavailable
    assert type(await started.call("whoami", "no.such.token")) is AuthenticationError
    later = Issuer(issuer.keys, port)
    try:
        end = time.monotonic() + 5
        while not isinstance(await started.call("whoami", token), dict):
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
    finally:
        later.close()


async def test_an_issuer_that_hangs_costs_the_time_limit_at_most(trusting, issuer, platform):
    issuer.gate.clear()
    started = await trusting(auth_timeout=1)
    began = time.monotonic()
    answers = await asyncio.gather(*(started.call("whoami", issuer.token()) for _ in range(20)))
    assert {type(each) for each in answers} == {BackendUnavailable}
    assert time.monotonic() - began < 8
    began = time.monotonic()
    assert type(await started.call("whoami", issuer.token())) is BackendUnavailable
    assert time.monotonic() - began < 0.8, "after a failure nobody waits for a while"


async def test_who_is_known_is_let_in_while_the_issuer_is_away(trusting, issuer):
    started = await trusting(jwt_keys_ttl=0.1, auth_timeout=3, jwt_keys_cooldown=0.1)
    token = issuer.token()
    assert await started.user(token) == "alice"
    issuer.gate.clear()
    began = time.monotonic()
    while time.monotonic() - began < 0.4:
        assert await started.user(token) == "alice"
        assert await started.user(issuer.token(sub="bob")) == "bob"
        await asyncio.sleep(0.02)
    assert type(await started.call("whoami", made_up("unknown"))) is AuthenticationError


# Start and stop


def test_it_starts_again_on_another_event_loop(alone, issuer):
    nexus = alone(enable_auth=True, auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    nexus.register("free", lambda: 1)

    async def call(*, stop):
        await nexus.__aenter__()
        credentials = {"authorization": f"Bearer {issuer.token()}"}
        assert (await nexus.invoke(Invocation("free", {}, credentials=credentials))).value == 1
        if stop:
            await nexus.__aexit__()

    for stop in (True, False, True):  # the second event loop ends without a stop
        asyncio.run(call(stop=stop))
    assert issuer.asked[JWKS] == 3


async def test_a_start_that_fails_leaves_nothing_open(alone, issuer, tmp_path):
    (tmp_path / "keys.json").write_text("rubbish")
    issuer.gate.clear()
    nexus = alone(
        enable_auth=True, auth_providers=["oauth2", "api_key"], auth_service_url=issuer.url, jwt_audience=AUDIENCE,
        api_key_file=tmp_path / "keys.json",
    )  # fmt: skip
    before = asyncio.all_tasks()
    with pytest.raises(ConfigurationError, match="is not a valid key file"):
        await nexus.__aenter__()
    assert asyncio.all_tasks() == before
    (tmp_path / "keys.json").unlink()
    issuer.gate.set()
    async with nexus:
        pass
    assert asyncio.all_tasks() == before


# An issuer whose own name is not its address: in a container, or for many tenants

PUBLIC = "https://auth.example.com/realms/shop"
TENANTS = "https://login.example.com/{tenantid}/v2.0"
TENANT = "https://login.example.com/3f1c2a90-0000-4000-8000-1234567890ab/v2.0"


@pytest.mark.parametrize("name", [PUBLIC, TENANTS])
async def test_an_issuer_that_calls_itself_otherwise_is_told_from_one_that_is_away(trusting, issuer, name, caplog):
    issuer.name = name
    started = await trusting()
    for _ in range(20):
        assert type(await started.call("whoami", issuer.token(iss=name))) is BackendUnavailable
    (check,) = started.nexus.health_checks()
    said = await complaint(check)
    [warned] = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    for text in (said, warned):
        assert f"the issuer at {issuer.url} has the name {name}" in text
        assert "set jwt_issuer" in text


async def test_health_and_doctor_name_it_both_ways(served, issuer, tmp_path):
    issuer.name = PUBLIC
    options = {"auth_service_url": issuer.url, "jwt_audience": AUDIENCE}
    file = KeyFile(tmp_path / "keys.json")
    key, kept = new_key("operator", ["health.read"])
    file.add(kept)
    platform = await served(
        beside=("health",), auth_providers=["oauth2", "api_key"], api_key_file=str(file.path), **options
    )
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}) as http:
        checks = (await http.get(f"{platform.urls['api']}/health")).json()["checks"]
    (tmp_path / "app.py").write_text(f"from nexus_core import Nexus\nnexus = Nexus(enable_auth=True, **{options!r})\n")
    doctor = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus_core", "--app", "app.py", "doctor", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        said, _ = await doctor.communicate()
    for text in (json.dumps(checks["auth_keys"]), " ".join(said.decode().split())):
        assert f"the issuer at {issuer.url} has the name {PUBLIC}" in text, text


@pytest.mark.parametrize(("name", "own"), [(PUBLIC, PUBLIC), (PUBLIC, f"{PUBLIC}/"), (TENANTS, TENANT)])
async def test_its_own_name_is_what_its_tokens_must_have(trusting, issuer, name, own):
    issuer.name = name
    started = await trusting(jwt_issuer=own)
    assert await started.user(issuer.token(iss=own)) == "alice"
    for other in (issuer.url, TENANTS, f"{TENANT}/x", "https://evil.example", None):
        if other != own:
            assert await started.user(issuer.token(iss=other)) is None, other


@pytest.mark.parametrize(
    ("name", "own"),
    [(PUBLIC, TENANT), ("https://evil.example", PUBLIC), (TENANTS, "https://login.example.com/a/b/v2.0"),
     (TENANTS, "https://login.example.com//v2.0"), (TENANTS, "https://login.example.com/v2.0"),
     ("{tenantid}", PUBLIC)],
)  # fmt: skip
async def test_another_name_than_the_configured_one_is_no_excuse(trusting, issuer, name, own):
    issuer.name = name
    started = await trusting(jwt_issuer=own)
    assert type(await started.call("whoami", issuer.token(iss=own))) is BackendUnavailable
    (check,) = started.nexus.health_checks()
    assert f"has the name {name}, and jwt_issuer is {own}" in await complaint(check)


# Whether they can be had


async def test_a_health_check_says_whether_the_issuer_answers(trusting, issuer):
    started = await trusting(jwt_keys_ttl=0.1, auth_timeout=0.5)
    (check,) = started.nexus.health_checks()
    assert (check.name, check.is_critical) == ("auth_keys", False)
    assert (await check.check())["keys"] >= 1
    issuer.gate.clear()
    assert await comes(lambda: complaint(check), "the previous keys are used")
    issuer.gate.set()
    assert await comes(lambda: complaint(check), "")


async def test_nobody_asks_for_keys_that_are_fixed(platform):
    started = await platform(jwt_secret=SECRET)
    assert started.nexus.health_checks() == []


async def complaint(check):
    try:
        await check.check()
    except Exception as exc:
        return str(exc)
    return ""


async def comes(found, wanted):
    """Whether something comes to say what is wanted, within a while."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        said = await found()
        if said.endswith(wanted) if wanted else not said:
            return True
        await asyncio.sleep(0.05)
    return False
