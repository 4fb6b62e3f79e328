"""Tokens that were signed with a secret or a key that the options have."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace

import pytest
from joserfc.jwk import OctKey, RSAKey
from nexus_auth.methods.jwt import TokenRules, check_claims
from nexus_auth.rejection import Rejected
from token_issuer import SECRET, b64, claims, secret_token, sign

from nexus_core import AuthenticationError, PermissionDenied

OTHER = "another secret, which is long enough as well"


async def test_a_good_token_tells_who_calls(platform):
    with_secret = await platform(jwt_secret=SECRET)
    assert await with_secret.call("whoami", secret_token()) == {
        "user": "alice", "tenant": "acme", "permissions": ["data.read"], "scopes": [],
    }  # fmt: skip
    assert await with_secret.call("read", secret_token()) == "data"
    denied = await with_secret.call("write", secret_token())
    assert isinstance(denied, PermissionDenied)
    assert denied.details == {"missing_permissions": ["data.write"]}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_written_as_one_likes(platform, scheme):
    started = await platform(jwt_secret=SECRET)
    assert await started.user(authorization=f"{scheme}  {secret_token()} ") == "alice"


@pytest.mark.parametrize("kind", ["RSA", "EC", "EC384", "OKP"])
async def test_every_kind_of_public_key(platform, keys, kind, tmp_path):
    key = keys[kind]
    pem = key.as_pem(private=False).decode()
    algorithm = {"RSA": "RS256", "EC": "ES256", "EC384": "ES384", "OKP": "Ed25519"}[kind]
    file = tmp_path / "key.pem"
    file.write_text(pem)
    token = sign(claims(), key, algorithm)
    for given in (pem, str(file), json.dumps(key.as_dict(private=False))):
        started = await platform(jwt_public_key=given)
        assert await started.user(token) == "alice", given


async def test_the_older_name_of_ed25519(platform, keys, recwarn):
    started = await platform(jwt_public_key=keys["OKP"].as_pem(private=False).decode())
    recwarn.clear()
    assert await started.user(sign(claims(), keys["OKP"], "Ed25519")) == "alice"
    header, payload, _ = sign(claims(), keys["OKP"], "Ed25519").split(".")
    header = b64({"alg": "EdDSA", "typ": "JWT"})
    signature = keys["OKP"].get_op_key("sign").sign(f"{header}.{payload}".encode())
    assert await started.user(f"{header}.{payload}.{b64(signature)}") == "alice"
    assert not recwarn.list


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS512"])
async def test_an_rsa_key_signs_with_each_rsa_algorithm_unless_some_are_chosen(platform, keys, algorithm):
    pem, token = keys["RSA"].as_pem(private=False).decode(), sign(claims(), keys["RSA"], algorithm)
    assert await (await platform(jwt_public_key=pem)).user(token) == "alice"
    assert await (await platform(jwt_public_key=pem, jwt_algorithms="RS256")).user(token) is None


def hs_with_public_key(keys):
    pem = keys["RSA"].as_pem(private=False)
    header, payload = b64({"alg": "HS256", "typ": "JWT"}), b64(claims())
    import hashlib
    import hmac

    signature = hmac.new(pem, f"{header}.{payload}".encode(), hashlib.sha256).digest()
    return f"{header}.{payload}.{b64(signature)}"


async def test_a_public_key_is_no_secret(platform, keys):
    started = await platform(jwt_public_key=keys["RSA"].as_pem(private=False).decode())
    assert await started.user(sign(claims(), keys["RSA"], "RS256")) == "alice"
    assert await started.user(hs_with_public_key(keys)) is None


def unsigned(alg="none", **changes):
    return f"{b64({'alg': alg, 'typ': 'JWT'})}.{b64(claims(**changes))}."


def parts(token=None):
    return (token or secret_token()).split(".")


def with_header(**header):
    return secret_token(header=header)


def payload_of(text):
    """A signed token whose payload is this text."""
    import hashlib
    import hmac

    message = f"{b64({'alg': 'HS256', 'typ': 'JWT'})}.{b64(text.encode())}"
    return f"{message}.{b64(hmac.new(SECRET.encode(), message.encode(), hashlib.sha256).digest())}"


def good(**changes):
    return json.dumps(claims(**changes))


BAD = {
    "unsigned": lambda: unsigned(),
    "unsigned, in capitals": lambda: unsigned("None"),
    "unsigned, with a signature": lambda: f"{unsigned()}{parts()[2]}",
    "its signature taken off": lambda: ".".join([*parts()[:2], ""]),
    "two parts": lambda: ".".join(parts()[:2]),
    "five parts": lambda: ".".join([*parts(), "a", "b"]),
    "another's secret": lambda: secret_token(OTHER),
    "another's payload": lambda: ".".join([parts()[0], parts(secret_token(sub="root"))[1], parts()[2]]),
    "an algorithm that is not allowed": lambda: secret_token(SECRET * 2, "HS512"),
    "no algorithm that exists": lambda: ".".join([b64({"alg": "HS257"}), *parts()[1:]]),
    "an algorithm that is a list": lambda: ".".join([b64({"alg": ["HS256"]}), *parts()[1:]]),
    "no algorithm": lambda: ".".join([b64({"typ": "JWT"}), *parts()[1:]]),
    "a header that is a list": lambda: ".".join([b64(["alg"]), *parts()[1:]]),
    "a header that is text": lambda: ".".join([b64("alg"), *parts()[1:]]),
    "a header that is no JSON": lambda: ".".join([b64(b"{alg}"), *parts()[1:]]),
    "a header nested deep": lambda: ".".join([b64(b'{"alg":' + b"[" * 5000), *parts()[1:]]),
    "a header that is not base64": lambda: ".".join(["%%%", *parts()[1:]]),
    "an encrypted token": lambda: f"{b64({'alg': 'dir', 'enc': 'A256GCM'})}..a.b.c",
    "it brings its key": lambda: with_header(jwk=OctKey.import_key(SECRET).as_dict()),
    "it says where its key is": lambda: with_header(jku="https://evil.example/jwks"),
    "it says where its certificate is": lambda: with_header(x5u="https://evil.example/pem"),
    "something critical": lambda: with_header(crit=["exp"], exp=1),
    "an unencoded payload": lambda: with_header(crit=["b64"], b64=False),
    "a kid that is a number": lambda: with_header(kid=7),
    "another kind of token": lambda: sign(claims(), OctKey.import_key(SECRET), "HS256", typ="logout+jwt"),
    "expired": lambda: secret_token(exp=int(time.time()) - 61),
    "not yet good": lambda: secret_token(nbf=int(time.time()) + 120),
    "made in the future": lambda: secret_token(iat=int(time.time()) + 120),
    "without expiry": lambda: secret_token(exp=None),
    "expiry as text": lambda: secret_token(exp="never"),
    "expiry as truth": lambda: secret_token(exp=True),
    "expiry NaN": lambda: payload_of('{"sub": "alice", "exp": NaN}'),
    "expiry without end": lambda: payload_of('{"sub": "alice", "exp": 1e999}'),
    "expiry of too many digits": lambda: payload_of('{"sub": "alice", "exp": ' + "9" * 5000 + "}"),
    "nbf as text": lambda: secret_token(nbf="now"),
    "without a user": lambda: secret_token(sub=None),
    "an empty user": lambda: secret_token(sub=""),
    "a blank user": lambda: secret_token(sub="  "),
    "a user that is a number": lambda: secret_token(sub=7),
    "a user that is a list": lambda: secret_token(sub=["alice"]),
    "a user with a line break": lambda: secret_token(sub="alice\nroot"),
    "a user with half a character": lambda: payload_of(good(sub="\ud800")),
    "a user without end": lambda: secret_token(sub="a" * 300),
    "a tenant that is a number": lambda: secret_token(tenant_id=7),
    "permissions that are a number": lambda: secret_token(permissions=7),
    "permissions that are an object": lambda: secret_token(permissions={"data.read": True}),
    "permissions with a number": lambda: secret_token(permissions=["data.read", 7]),
    "scopes that are true": lambda: secret_token(scope=True),
    "made out for somebody": lambda: secret_token(aud="another service"),
    "made out for a number": lambda: secret_token(aud=7),
    "an issuer that is a number": lambda: secret_token(iss=7),
    "a payload that is a list": lambda: payload_of("[]"),
    "a payload that is no JSON": lambda: payload_of("{"),
    "a payload nested deep": lambda: payload_of('{"a":' + "[" * 3000),
    "too large": lambda: secret_token(padding="x" * 16_000),
    "far too large": lambda: secret_token(padding="x" * 1_000_000),
    "nothing": lambda: "",
    "dots": lambda: "..",
    "a control character": lambda: secret_token() + "\r\nX-Evil: 1",
    "a character beyond ASCII": lambda: secret_token() + "é",
    "half a character": lambda: secret_token() + "\ud800",
    "a NUL": lambda: secret_token() + "\0",
}


@pytest.mark.parametrize("flaw", BAD)
async def test_a_bad_token_is_refused_with_one_message_and_its_reason_in_the_debug_log(platform, flaw, caplog):
    started = await platform(jwt_secret=SECRET)
    token = BAD[flaw]()
    caplog.set_level(logging.DEBUG, "nexus_auth")
    refused = await started.call("whoami", token)
    assert type(refused) is AuthenticationError
    assert refused.message == "The credential is not valid."
    assert refused.challenge == 'Bearer realm="nexus", error="invalid_token"'
    assert set(refused.problem()) == {"type", "title", "status", "detail", "code"}
    (record,) = [each for each in caplog.records if each.name.startswith("nexus_auth")]
    assert record.levelno == logging.DEBUG
    assert "\n" not in record.getMessage()
    if token.count(".") == 2 and len(token) > 30:
        assert token.split(".")[2] not in record.getMessage() or not token.split(".")[2]
    assert await started.user(secret_token()) == "alice"


async def test_no_credential_says_what_is_needed(platform):
    started = await platform(jwt_secret=SECRET)
    refused = await started.call("whoami")
    assert type(refused) is AuthenticationError
    assert "Authorization: Bearer" in refused.message
    assert refused.challenge == 'Bearer realm="nexus"'
    assert type(await started.call("there is no such workflow")) is AuthenticationError


async def test_a_claim_larger_than_any_float_is_a_time_far_away(platform):
    started = await platform(jwt_secret=SECRET)
    assert await started.user(secret_token(exp=10**400)) == "alice"
    assert await started.user(secret_token(nbf=10**400)) is None


async def test_clocks_may_differ_by_the_leeway(platform):
    now = int(time.time())
    started = await platform(jwt_secret=SECRET, jwt_leeway=60)
    for inside, outside in ({"exp": now - 30}, {"exp": now - 90}), ({"nbf": now + 30}, {"nbf": now + 90}):
        assert await started.user(secret_token(**inside)) == "alice"
        assert await started.user(secret_token(**outside)) is None


async def test_issuer_and_audience(platform):
    started = await platform(jwt_secret=SECRET, jwt_issuer="me", jwt_audience="a,b")
    assert await started.user(secret_token(iss="me", aud="a")) == "alice"
    assert await started.user(secret_token(iss="me", aud=["x", "b"])) == "alice"
    for wrong in ({"iss": "you"}, {"iss": None}, {"aud": "x"}, {"aud": None}, {"aud": []}, {"iss": ["me"]}):
        assert await started.user(secret_token(**{"iss": "me", "aud": "a", **wrong})) is None, wrong


async def test_any_audience(platform):
    started = await platform(jwt_secret=SECRET, jwt_audience="*")
    assert await started.user(secret_token(aud="whoever")) == "alice"
    assert await started.user(secret_token()) == "alice"


async def test_claims_that_are_required(platform):
    started = await platform(jwt_secret=SECRET, jwt_required_claims=["jti", "department"])
    assert await started.user(secret_token(jti="1", department="sales", exp=None)) == "alice"
    assert await started.user(secret_token(jti="1")) is None
    assert await started.user(secret_token(jti="1", department="")) is None


async def test_claims_under_other_names(platform):
    started = await platform(
        jwt_secret=SECRET, jwt_user_claim="uid", jwt_tenant_claim="", jwt_permissions_claim="realm_access.roles",
        jwt_scopes_claim="https://example.com/scopes",
    )  # fmt: skip
    token = secret_token(
        uid="bob", realm_access={"roles": ["data.read", "data.write"]},
        **{"https://example.com/scopes": "data.read openid"},
    )  # fmt: skip
    assert await started.call("whoami", token) == {
        "user": "bob", "tenant": None, "permissions": ["data.read", "data.write"], "scopes": ["data.read", "openid"],
    }  # fmt: skip
    assert await started.call("read", token) == "data"
    assert isinstance(await started.call("write", token), PermissionDenied)


async def test_where_there_are_no_permissions_scopes_are(platform):
    started = await platform(jwt_secret=SECRET)
    by_scope = secret_token(permissions=None, scope="openid data:read")
    assert await started.call("read", by_scope) == "data"
    assert isinstance(await started.call("write", by_scope), PermissionDenied)
    nothing = secret_token(permissions=[], scope="data:read")
    assert isinstance(await started.call("read", nothing), PermissionDenied)


def test_what_can_not_be_checked_is_not_accepted():
    good, rules = {"sub": "alice", "exp": time.time() + 60}, TokenRules(frozenset(), leeway=1)
    check_claims(good, rules)
    with pytest.raises(Rejected, match="can't be checked: TypeError"):
        check_claims(good, replace(rules, leeway=None))


async def test_weak_keys_are_none(platform, keys):
    import warnings

    from nexus_core import ConfigurationError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weak = RSAKey.generate_key(1024).as_pem(private=False).decode()
    with pytest.raises(ConfigurationError, match="jwt_public_key: not a supported public key"):
        await platform(jwt_public_key=weak)


async def test_the_principal_that_code_gives_is_not_asked(platform):
    from nexus_core import Principal

    started = await platform(jwt_secret=SECRET)
    assert await started.user(principal=Principal("the platform")) == "the platform"
