"""Options that are missing, or contradict each other."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode, urlsafe_b64encode

import pytest
from nexus_auth import AuthProvider, JWTAuthProvider
from token_issuer import SECRET

from nexus_core import ConfigurationError, PluginError, Stage
from nexus_core.testing import stages_of

URL = "https://auth.example.com"


class Own(AuthProvider):
    def authenticate(self, credentials):
        return {"user_id": "somebody"}


class OwnRules(AuthProvider):
    def authorize(self, user, resource, action):
        return True


WRONG = {
    "a short secret": (
        {"jwt_secret": "short"}, r"jwt_secret: 5 bytes are too short for HS256, which needs 32.*token_hex",
    ),
    "too short for a stronger algorithm": (
        {"jwt_secret": SECRET, "jwt_algorithms": "HS512"}, "jwt_secret: .* too short for HS512, which needs 64",
    ),
    "two keys": ({"jwt_secret": SECRET, "jwt_jwks_url": URL}, "jwt_jwks_url: jwt_secret is set too"),
    "a strategy that is not among several": (
        {"auth_strategy": "api_key", "auth_providers": "jwt,oauth2"},
        "auth_strategy: .api_key. is not one of auth_prov",
    ),
    "no such strategy": ({"auth_strategy": "basic"}, "argument auth_strategy: .*'jwt', 'oauth2' or 'api_key'"),
    "no such provider": ({"auth_providers": "jwt,basic"}, "argument auth_providers"),
    "unsigned": ({"jwt_secret": SECRET, "jwt_algorithms": ["none"]}, "jwt_algorithms: 'none' is not a supported"),
    "a misspelt algorithm": ({"jwt_secret": SECRET, "jwt_algorithms": ["HS265"]}, "Did you mean HS256"),
    "a secret for a public algorithm": (
        {"jwt_secret": SECRET, "jwt_algorithms": ["HS256", "RS256"]}, "jwt_algorithms: RS256 needs a public key",
    ),
    "an issuer's keys for a secret's algorithm": (
        {"auth_service_url": URL, "jwt_algorithms": ["HS256"]}, "jwt_algorithms: HS256 needs jwt_secret",
    ),
    "a key that another strategy ignores": (
        {"auth_strategy": "api_key", "api_key_file": "x", "jwt_secret": SECRET},
        "jwt_secret: belongs to the strategy jwt",
    ),
    "introspection that another strategy ignores": (
        {"auth_providers": "jwt", "jwt_secret": SECRET, "oauth2_introspection_url": URL},
        "oauth2_introspection_url: belongs to the strategy oauth2, but auth_providers is jwt",
    ),
    "a key that a provider ignores": (
        {"auth_provider": Own(), "auth_strategy": "jwt", "jwt_secret": SECRET},
        r"jwt_secret: not used: auth_provider \(Own\) auth",
    ),
    "a class as provider": ({"auth_provider": Own}, r"argument auth_provider: must be an object, not the class: Own\("),
    "no provider": ({"auth_provider": 7}, "argument auth_provider: must be an AuthProvider, not a int"),
    "no URL": ({"auth_service_url": "auth.example.com"}, "argument auth_service_url: must be a URL such as"),
    "a URL with a password": (
        {"auth_service_url": "https://u:p@auth.example.com"}, "argument auth_service_url: .*without user, password",
    ),
    "no time limit": ({"auth_timeout": 0}, "argument auth_timeout"),
    "a leeway of hours": ({"jwt_leeway": 7200}, "argument jwt_leeway"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_when_the_platform_is_made(alone, case):
    options, complaint = WRONG[case]
    with pytest.raises(ConfigurationError, match=complaint) as raised:
        alone(enable_auth=True, **options)
    assert SECRET not in str(raised.value)


MISSING = {
    "everything": ({}, "enable_auth: no authentication method is set.* auth_strategy .* auth_provider"),
    "only who decides": ({"auth_provider": OwnRules()}, "enable_auth: no authentication method"),
    "a key": (
        {"auth_strategy": "jwt"}, "auth_strategy: jwt needs one of jwt_secret, jwt_public_key, jwt_jwks_url, auth_s",
    ),
    "an issuer": ({"auth_strategy": "oauth2"}, "auth_strategy: oauth2 needs auth_service_url"),
    "an audience": ({"auth_service_url": URL}, "jwt_audience: required, because an issuer"),
    "an audience of a key set": ({"jwt_jwks_url": URL}, "jwt_audience: "),
    "a client": ({"oauth2_introspection_url": URL}, "oauth2_client_id: required by oauth2_introspection"),
    "its secret": ({"oauth2_introspection_url": URL, "oauth2_client_id": "x"}, "oauth2_client_secret: required"),
    "a file": ({"auth_strategy": "api_key"}, "api_key_file: required by the strategy api_key"),
    "TLS": ({"auth_service_url": "http://auth.example.com", "jwt_audience": "x"}, "auth_service_url: without TLS"),
    "TLS for keys": ({"jwt_jwks_url": "http://auth.example.com", "jwt_audience": "x"}, "jwt_jwks_url: without TLS"),
    "TLS for questions": (
        {"oauth2_introspection_url": "http://a.example", "oauth2_client_id": "x", "oauth2_client_secret": "y"},
        "oauth2_introspection_url: without TLS",
    ),
    "a key that can be read": ({"jwt_public_key": "/there/is/none.pem"}, "jwt_public_key: not PEM, a JWK"),
    "a key for which there is an option": ({"auth_provider": JWTAuthProvider()}, "enable_auth: no auth"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISSING)
async def test_what_is_missing_is_said_when_the_platform_starts(alone, case):
    options, complaint = MISSING[case]
    nexus = alone(enable_auth=True, **options)
    with pytest.raises(ConfigurationError, match=complaint):
        async with nexus:
            pass
    with pytest.raises(ConfigurationError, match=complaint):
        await nexus.invoke("whatever")


async def test_a_private_key_is_not_taken_for_the_public_one(alone, keys):
    for kind in ("RSA", "EC", "OKP"):
        nexus = alone(enable_auth=True, jwt_public_key=keys[kind].as_pem(private=True).decode())
        with pytest.raises(ConfigurationError, match="this is a private key"):
            await nexus.__aenter__()
    import json

    nexus = alone(enable_auth=True, jwt_public_key=json.dumps(keys["EC"].as_dict(private=True)))
    with pytest.raises(ConfigurationError, match="this is a private key"):
        await nexus.__aenter__()


async def test_a_public_key_is_not_taken_for_a_secret(alone, keys):
    nexus = alone(enable_auth=True, jwt_secret=keys["RSA"].as_pem(private=False).decode())
    with pytest.raises(ConfigurationError, match=r"jwt_secret: this is a key in PEM, .* jwt_public_key"):
        await nexus.__aenter__()


async def test_what_is_wrong_does_not_matter_where_nobody_is_asked(alone):
    async with alone(enable_auth=False, jwt_secret="short", auth_strategy="jwt", auth_providers="oauth2") as nexus:
        nexus.register("free", lambda: 1)
        assert (await nexus.invoke("free")).value == 1
        assert not access_stages(nexus)


async def test_where_everybody_is_asked_two_stages_see_to_it(alone):
    async with alone(enable_auth=True, jwt_secret=SECRET) as nexus:
        assert access_stages(nexus) == {Stage.AUTHENTICATE, Stage.AUTHORIZE}


def access_stages(nexus):
    return {each.stage for each in stages_of(nexus)} & {Stage.AUTHENTICATE, Stage.AUTHORIZE}


def test_the_secret_is_not_shown(alone):
    from nexus_auth.settings import AuthSettings

    settings = alone(enable_auth=True, jwt_secret=SECRET, oauth2_client_secret="hush").settings(AuthSettings)
    assert SECRET not in repr(settings)
    assert "hush" not in repr(settings)


def test_the_environment_sets_lists_with_commas(alone, monkeypatch):
    from nexus_auth.settings import AuthSettings

    monkeypatch.setenv("NEXUS_ENABLE_AUTH", "true")
    monkeypatch.setenv("NEXUS_AUTH_PROVIDERS", "oauth2,jwt")
    monkeypatch.setenv("NEXUS_JWT_AUDIENCE", "a, b")
    monkeypatch.setenv("NEXUS_AUTH_SERVICE_URL", URL)
    settings = alone().settings(AuthSettings)
    assert settings.auth_providers == ["oauth2", "jwt"]
    assert settings.jwt_audience == ["a", "b"]
    monkeypatch.setenv("NEXUS_AUTH_SERVICE_URL", "")
    assert alone().settings(AuthSettings).auth_service_url is None


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"jwt_secret": SECRET}, ["jwt"]),
        ({"auth_service_url": URL}, ["oauth2"]),
        ({"oauth2_introspection_url": URL}, ["oauth2"]),
        ({"api_key_file": "keys.json"}, ["api_key"]),
        ({"api_key_file": "keys.json", "jwt_jwks_url": URL}, ["api_key", "jwt"]),
        ({"auth_providers": ["oauth2", "jwt", "oauth2"]}, ["oauth2", "jwt"]),
        ({"auth_provider": Own()}, []),
        ({"auth_provider": Own(), "api_key_file": "keys.json"}, ["api_key"]),
    ],
)
def test_the_strategy_is_what_the_other_options_imply(alone, options, expected):
    from nexus_auth.option_checks import strategies
    from nexus_auth.settings import AuthSettings

    assert strategies(alone(enable_auth=True, **options).settings(AuthSettings)) == expected


BROKEN = {
    "its library": ("joserfc", "ImportError"),
    "another of its libraries": ("httpx2", "RuntimeError"),
}
PROGRAM = """
import asyncio, builtins, sys

class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise getattr(builtins, sys.argv[2])(name + " is broken")

sys.meta_path.insert(0, Broken())
from nexus_core import Nexus, ConfigurationError
nexus = Nexus(enable_auth=True, auth_service_url="http://127.0.0.1:1", jwt_audience="nexus")
nexus.register("open", lambda: "let in")
try:
    print(asyncio.run(nexus.invoke("open")).value)
except Exception as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize("case", BROKEN)
def test_a_platform_whose_plugin_is_broken_lets_nobody_in(case):
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *BROKEN[case]], capture_output=True, text=True, timeout=50,
        env={**os.environ, "NEXUS_DISABLED_PLUGINS": "api,cli,mcp,hypercorn,kailash"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "let in" not in done.stdout
    if case == "its library":
        assert done.stdout.startswith('PluginError The required plugin "auth" is not active: nexus_startup failed')
    else:
        assert done.stdout.startswith("BackendUnavailable") or "AuthenticationError" in done.stdout, done.stdout


def test_a_platform_without_the_plugin_does_not_start():
    from nexus_core.testing import isolated_nexus

    with pytest.raises(PluginError, match='"auth" is not installed'):
        isolated_nexus(enable_auth=True)


def _forms_of_a_key(keys):
    """Texts in which keys are published, or that stand for one."""
    public = keys["RSA"].as_dict(private=False)
    pem = keys["EC"].as_pem(private=False).decode()
    yield "JWK", json.dumps(public)
    yield "private JWK", json.dumps(keys["EC"].as_dict(private=True))
    yield "secret JWK", json.dumps({"kty": "oct", "k": "c2VjcmV0" * 8})
    yield "JWK set", json.dumps({"keys": [public]}, indent=2)
    yield "list of JWKs", json.dumps([public])
    yield "JWK as text", json.dumps(json.dumps(public))
    yield "JWK with space around", f"\ufeff\n {json.dumps(public)}\n"
    yield "PEM without its lines", "".join(pem.splitlines()[1:-1])
    yield "PEM", pem
    der = b64decode("".join(pem.splitlines()[1:-1]))
    yield "base64 of URLs", urlsafe_b64encode(der).decode().rstrip("=")
    yield "hexadecimal digits", der.hex()
    yield "PEM in base64", b64encode(pem.encode()).decode()
    yield "JWK in base64 of URLs", urlsafe_b64encode(json.dumps(public).encode()).decode().rstrip("=")
    yield "JWK that Python has written", str(public)
    yield "JWK and more", json.dumps(public) + ","
    yield "address of keys", "https://auth.example.com/.well-known/jwks.json"


async def test_no_form_of_a_key_is_a_secret(alone, keys, tmp_path):
    file = tmp_path / "a-file-that-holds-the-key-of-the-issuer.pem"
    file.write_bytes(keys["EC"].as_pem(private=False))
    for form, text in (*_forms_of_a_key(keys), ("file", str(file))):
        nexus = alone(enable_auth=True, jwt_secret=text)
        with pytest.raises(ConfigurationError, match=r"jwt_secret: this is .*jwt_public_key"):
            async with nexus:
                pytest.fail(f"it has started with a {form}")


@pytest.mark.parametrize("secret", ["{" + "a" * 40, "[" * 40, "a" * 44, '{"a": "JSON that is a secret of somebody"}'])
async def test_a_secret_may_look_a_little_like_a_key(alone, secret):
    async with alone(enable_auth=True, jwt_secret=secret):
        pass
