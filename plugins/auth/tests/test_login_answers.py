"""What a token endpoint may answer: each time the login says what happened, soon, and without a secret."""

from __future__ import annotations

import gzip
import json
import time

import pytest
from nexus_auth.oauth.client import OAuthClient
from nexus_auth.oauth.issuer import Issuer
from nexus_auth.oauth.json_client import MAX_BYTES, JsonClient
from nexus_auth.rejection import Rejected, Unavailable

TOKEN = {"access_token": "a-token", "token_type": "Bearer", "expires_in": 60}


@pytest.fixture
async def client(issuer):
    web = JsonClient(5)
    yield OAuthClient(Issuer(issuer.url, web), "robot", "robot-secret", seconds=1.0)
    await web.close()


def answer(body, status=200, **headers):
    return status, headers, body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.mark.parametrize(
    ("answered", "kind", "message"),
    [
        (answer(b"", 302, location="https://evil.example/token"), Unavailable, "status 302"),
        (answer(b"", 307, location="https://evil.example/token"), Unavailable, "status 307"),
        (answer({"error": "robot-secret"}, 500), Unavailable, "status 500"),
        (answer(b"<html>"), Unavailable, "not a JSON object"),
        (answer(b"<html>", 404), Unavailable, "404"),
        (answer([]), Unavailable, "not a JSON object"),
        (answer({}), Unavailable, "no bearer token"),
        (answer({**TOKEN, "more": "x" * MAX_BYTES}), Unavailable, "more than"),
        (answer(gzip.compress(json.dumps(TOKEN).encode()), **{"content-encoding": "gzip"}), Unavailable, "JSON"),
        (answer({**TOKEN, "expires_in": "soon"}), Unavailable, "ValueError"),
        (answer({"error": "no\x1b[31m", "error_description": 7}, 400), Rejected, "refuses: no"),
        (answer({"error": ["x"]}, 400), Rejected, "refuses"),
    ],
    ids=["elsewhere", "elsewhere again", "an error", "a page", "no such page", "a list", "nothing", "too much",
         "compressed", "an odd end", "no", "an odd no"],
)  # fmt: skip
async def test_answers_that_are_none(client, issuer, answered, kind, message):
    issuer.answers["/token"] = answered
    with pytest.raises(kind, match=message) as caught:
        await client.client_credentials()
    assert "\x1b" not in str(caught.value)
    assert "robot-secret" not in str(caught.value)
    assert issuer.asked["/token"] == 1


async def test_an_answer_that_does_not_come(client, issuer):
    await client.issuer.recent()
    issuer.gate.clear()
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="no response within 1 s"):
        await client.client_credentials()
    assert time.monotonic() - begin < 5
    issuer.gate.set()
    assert (await client.client_credentials()).refresh == "refresh-1"


async def test_nobody_there(client, issuer):
    await client.issuer.recent()
    issuer.close()
    with pytest.raises(Unavailable, match="ConnectError"):
        await client.client_credentials()


async def test_a_logout_does_not_fail(client, issuer):
    assert await client.revoke("a-token")
    issuer.answers["/revoke"] = answer(b"", 500)
    assert not await client.revoke("a-token")
    issuer.close()
    assert not await client.revoke("a-token")
