"""What checks mean by what they return or raise, and what is hidden of it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_health.redaction import LONGEST, ReportRedactor
from nexus_health.verdict import judge, verdict_of_exception
from pydantic import SecretStr

from nexus_core import PluginSettings

HIDES = ReportRedactor(["the secret of the options"])
URL = "postgres://ann:s3cr3t/of@ann@db.example:5432/shop"


def say(returned, *, strict=True):
    return judge(returned, HIDES, is_strict=strict)


def test_it_says_how_it_is():
    good = say({"status": "healthy", "latency": "5ms"})
    assert (good.is_healthy, good.error, good.details) == (True, None, {"latency": "5ms"})
    bad = say({"status": "unhealthy", "error": "gone", "tries": 3})
    assert (bad.is_healthy, bad.error, bad.details) == (False, "gone", {"tries": 3})
    assert say({"status": "unhealthy"}).error is None
    assert say({"status": "unhealthy", "error": {"code": 7}}).error == '{"code":7}'


def test_several_services_are_entries_of_their_own():
    several = say({"mail": {"status": "healthy"}, "status": {"status": "unhealthy", "error": "x"}, "ink": {}})
    assert not several.is_healthy
    assert several.error == "affected: status, ink"
    assert {name: each.is_healthy for name, each in several.parts.items()} == {
        "mail": True, "status": False, "ink": False,
    }  # fmt: skip
    assert "without a status" in several.parts["ink"].error
    assert say({"mail": {"status": "healthy"}}).is_healthy
    assert say({}).is_healthy, "there are no services"


CYCLE: dict = {"status": "healthy"}
CYCLE["itself"] = CYCLE


@pytest.mark.parametrize(
    ("nonsense", "complaint"),
    [
        (None, "it returned None; expected"),
        ("healthy", "it returned a str; expected"),
        (True, "it returned a bool; expected"),
        ([{"status": "healthy"}], "it returned a list; expected"),
        ({"healthy": True}, "without a status; expected"),
        ({"mail": {"status": "healthy"}, "ink": 1}, "without a status"),
        ({"status": "weird"}, "the status 'weird'; expected"),
        ({"status": "Healthy\x1b[31m"}, r"the status 'Healthy\u001b[31m'; expected"),
        ({"status": "x" * 1000}, "…'; expected"),
        ({"status": True}, "a status that is not text; expected"),
        ({"status": None}, "a status that is not text; expected"),
        (
            {"status": "healthy", "what": object()},
            "a value that is not JSON (the type object is not supported); expected",
        ),
        ({"status": "healthy", "number": float("nan")}, "not JSON (the number at /number is not finite)"),
        ({"status": "healthy", "endless": iter(int, 1)}, "it returned a value that is not JSON"),
        (CYCLE, "it returned a value that is not JSON"),
        ({"status": "healthy", "log": "x" * 20_000}, "bytes of JSON; the maximum is 16384"),
        ({str(number): {"status": "healthy"} for number in range(101)}, "it returned 101 services; the maximum is 100"),
    ],
)
def test_nonsense_is_unhealthy_and_told(nonsense, complaint):
    verdict = say(nonsense)
    assert not verdict.is_healthy
    assert complaint in verdict.error
    assert len(verdict.error) < 400
    assert verdict.error.isprintable()


def test_a_plugins_check_may_return_what_it_likes():
    for returned in (None, True, "PONG", {}, {"keys": 3}, {"status": "healthy"}):
        assert say(returned, strict=False).is_healthy
    for returned in (42, 0, False, [], object(), b"PONG"):
        verdict = say(returned, strict=False)
        assert not verdict.is_healthy
        assert verdict.error.startswith("it returned a ")
    assert say({"keys": 3}, strict=False).details == {"keys": 3}
    assert not say({"status": "unhealthy"}, strict=False).is_healthy
    assert not say({"status": "weird"}, strict=False).is_healthy


def test_what_is_returned_is_a_copy():
    returned = {"status": "healthy", "list": [1]}
    verdict = say(returned)
    returned["list"].append(2)
    assert verdict.details == {"list": [1]}


class Unreadable(Exception):
    def __str__(self):
        raise ValueError


def test_exceptions():
    assert (
        verdict_of_exception(ConnectionError("no\nroute\x1b[2J"), HIDES).error == r"ConnectionError: no route\u001b[2J"
    )
    assert verdict_of_exception(RuntimeError("the disk is full"), HIDES).error == "the disk is full"
    assert verdict_of_exception(SystemExit(3), HIDES).error == "SystemExit: 3"
    assert verdict_of_exception(Unreadable(), HIDES).error == "Unreadable: its message can't be read"
    assert verdict_of_exception(KeyError(), HIDES).error == "KeyError"
    assert len(verdict_of_exception(ValueError("x" * 100_000), HIDES).error) < 400


@pytest.mark.parametrize(
    ("text", "hidden", "kept"),
    [
        (f"can't connect to {URL}: refused", "s3cr3t", "postgres://***@db.example:5432/shop: refused"),
        ("redis://:pw1234@h/0", "pw1234", "redis://***@h/0"),
        ("Authorization: Bearer abcdef.ghijk-l", "abcdef", "***"),
        ("the header was Basic YWRtaW46cHc=", "YWRtaW46", "the header was Basic ***"),
        ("token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.sig-nature expired", "eyJ", "expired"),
        ("password=hunter22 host=db", "hunter22", "host=db"),
        ("{'api_key': 'k-123456', 'host': 'db'}", "k-123456", "'host': 'db'"),
        ("DB_PASSWORD: hunter22", "hunter22", "DB_PASSWORD: ***"),
        ("it said the secret of the options, twice: the secret of the options", "the secret of", "twice: ***"),
    ],
)
def test_secrets_are_hidden(text, hidden, kept):
    shown = HIDES.text(text)
    assert hidden not in shown
    assert kept in shown


def test_secrets_among_details_are_hidden_by_their_names_too():
    verdict = say(
        {"status": "healthy", "password": "hunter22", "deep": [{"Api-Key": 12345, "url": URL}], "token": None}
    )
    assert verdict.details == {
        "password": "***", "deep": [{"Api-Key": "***", "url": "postgres://***@db.example:5432/shop"}], "token": None,
    }  # fmt: skip
    assert "s3cr3t" not in str(say({"mail": {"status": "unhealthy", "error": URL}}).parts)


def test_secrets_of_the_options_are_known():
    class Settings(PluginSettings):
        url: SecretStr = SecretStr("redis://user:pass%20word@h")
        other: str = "not a secret"

    hides = ReportRedactor.of([Settings()])
    assert hides.text("AUTH pass%20word or pass word failed, not a secret") == "AUTH *** or *** failed, not a secret"


@given(st.text(alphabet="a-:/@=.pwd secret\n\x1b'\"", max_size=3000))
def test_whatever_is_said_is_one_short_line_soon(text):
    begin = time.perf_counter()
    shown = HIDES.text(text)
    assert time.perf_counter() - begin < 0.5
    assert len(shown) <= LONGEST
    assert shown.isprintable()


@pytest.mark.parametrize("part", ["a-", "a://", "secret", "pwd:", "eyJ", "bearer "])
def test_texts_that_are_made_to_take_long_do_not(part):
    begin = time.perf_counter()
    HIDES.text(part * 100_000)
    assert time.perf_counter() - begin < 0.3
