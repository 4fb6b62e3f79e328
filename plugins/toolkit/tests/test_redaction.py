"""What counts as secret, and what is left of it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_toolkit.redaction import DEPTH, HIDDEN, Redactor, option_secrets
from pydantic import SecretStr

from nexus_core.options.settings import PluginSettings

SECRET_NAMES = [
    "password", "db_password", "dbPassword", "DB_PASSWORD", "X-Auth-Token", "clientSecret", "client_secret", "api_key",
    "apiKey", "APIKey", "apikey", "privateKey", "access-key", "Authorization", "cookie", "jwt", "pin", "refresh_token",
]  # fmt: skip
PLAIN_NAMES = ["max_tokens", "tokens", "keyboard", "key", "api", "spinner", "secretary", "pinned", "passage", "author"]


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name):
    assert Redactor().is_secret(name)
    assert Redactor().value({"a": [{name: "hunter2"}]}) == {"a": [{name: HIDDEN}]}


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_names_of_others(name):
    assert not Redactor().is_secret(name)
    assert Redactor().value({name: "hunter2"}) == {name: "hunter2"}


def test_names_of_ones_own():
    assert Redactor(["IBAN"]).value({"iban": "CH93", "Iban": 7, "ibans": "CH93"}) == {
        "iban": HIDDEN,
        "Iban": HIDDEN,
        "ibans": "CH93",
    }


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("token: abc123 is wrong", "token: *** is wrong"),
        ("Authorization: Bearer abcdef012345", "Authorization: *** ***"),
        ("sent Basic dXNlcjpwYXNz there", "sent Basic *** there"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl!", "got ***!"),
        ("the key nxk_abc_0123456789", "the key ***"),
        ("redis://user:pa55@host:6379/0 is away", "redis://***@host:6379/0 is away"),
        ("postgresql://:pa55@host/db", "postgresql://***@host/db"),
        ("password=hunter2, user=ann", "password=***, user=ann"),
        ("{'password': 'hunter2', 'n': 3}", "{'password': '***', 'n': 3}"),
        ('{"api_key": "hunter2"}', '{"api_key": "***"}'),
        ("-----BEGIN PRIVATE KEY-----\nMIIE\nabc\n-----END PRIVATE KEY----- end", "*** end"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc", "***"),
        ("the token is wrong", "the token is wrong"),
        ("http://host:8000/path and ann@host at 12:30:05", "http://host:8000/path and ann@host at 12:30:05"),
        ("postgres://ann:s3cr3t/of@ann@db:5432/shop", "postgres://***@db:5432/shop"),
    ],
)
def test_what_looks_like_a_secret(text, left):
    assert Redactor().text(text) == left


def test_known_secrets_are_found_anywhere():
    assert Redactor().text("got hunter2, hunter22 and xhunter2x", ("hunter22", "hunter2")) == "got ***, *** and x***x"


def test_secrets_in_parameters():
    params = {"user": "ann", "password": "hunter2", "nested": {"credentials": {"a": "first", "b": ["second", 12345]}}}
    assert set(Redactor().secrets_in(params)) == {"hunter2", "first", "second", "12345"}
    assert set(Redactor().secrets_in({"pin": "12", "token": True, "secret": None})) == set()
    assert set(Redactor().secrets_in({"note": "hidden"}, {"note"})) == {"hidden"}


def test_what_is_too_deep_or_too_much_is_not_shown():
    deep = "hunter2"
    for _ in range(DEPTH + 5):
        deep = [deep]
    assert "hunter2" not in json.dumps(Redactor().value(deep))
    wide = Redactor().value({"list": list(range(100_000)), "more": "hunter2"})
    assert len(json.dumps(wide)) < 20_000
    assert Redactor().value({"text": "x" * 1_000_000})["text"].endswith("...")
    many = Redactor().value({f"text {number}": "x" * 4000 for number in range(1000)})
    assert len(json.dumps(many)) < 40_000
    assert len(Redactor().secrets_in({f"secret {number}": f"value {number}" for number in range(100_000)})) <= 100


def test_objects_are_named_only():
    assert Redactor().value({"a": object(), "b": b"hunter2", 3: (1, 2.5, None)}) == {
        "a": "<object>",
        "b": "<bytes>",
        "3": [1, 2.5, None],
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(JSON, st.text(min_size=4).filter(lambda text: HIDDEN not in text and text not in HIDDEN))
def test_no_secret_is_left_of_anything(value, secret):
    redactor = Redactor()
    shown = redactor.value({"password": secret, "note": f"it is {secret}!", "value": value}, [secret])
    assert shown["password"] == HIDDEN
    assert secret not in shown["note"].replace("it is ", "").replace(HIDDEN, "")


HOSTILE = [
    "://", "-eyJ", "a=", "a" * 50, "-----BEGIN ", "'a': ", "Bearer ", "password=", "/@", "://a@", "eyJaaaaaaaaa.",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_do_not_take_long(text):
    hostile = text * (30_000 // len(text))
    begin = time.process_time()
    Redactor(secrets=["a secret of the options"]).text(hostile, ["a secret of the caller"])
    assert time.process_time() - begin < 2  # it is some hundredths; with a bound missing, minutes


def test_secrets_of_options():
    class Settings(PluginSettings):
        key: SecretStr = SecretStr("hidden-key")
        url: SecretStr = SecretStr("redis://ann:pa%20ss55@host/0")
        short: SecretStr = SecretStr("dev")
        plain: str = "plain-value"

    redactor = Redactor(secrets=option_secrets([Settings()]))
    assert redactor.text("hidden-key, pa ss55, pa%20ss55, dev, plain-value") == "***, ***, ***, dev, plain-value"
