"""What callers without a good credential are told, on the wire; and credentials that try to be more than that."""

from __future__ import annotations

import asyncio
import json

import httpx2
from nexus_auth import AuthProvider
from token_issuer import AUDIENCE, SECRET, secret_token

METADATA = "/.well-known/oauth-protected-resource"
EXECUTE = "/api/workflows/read/execute"


async def post(started, path=EXECUTE, **headers):
    async with httpx2.AsyncClient(base_url=started.urls["api"]) as client:
        return await client.post(path, json={}, headers=headers)


async def test_without_an_issuer_only_the_scheme_is_named(served):
    started = await served(jwt_secret=SECRET)
    answer = await post(started)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="nexus"')
    answer = await post(started, authorization="Bearer x")
    assert answer.headers["www-authenticate"] == 'Bearer realm="nexus", error="invalid_token"'
    assert answer.json()["detail"] == "The credential is not valid."
    denied = await post(started, authorization=f"Bearer {secret_token(permissions=[])}")
    assert denied.status_code == 403
    assert "www-authenticate" not in denied.headers
    assert (await post(started, authorization=f"Bearer {secret_token()}")).json()["result"] == "data"


async def test_an_issuer_is_found_by_the_metadata_that_the_challenge_names(served, issuer):
    started = await served(auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    answer = await post(started)
    assert answer.headers["www-authenticate"] == (
        f'Bearer realm="nexus", resource_metadata="{started.urls["api"]}{METADATA}"'
    )
    answer = await post(started, authorization=f"Bearer {secret_token()}")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (await post(started, authorization=f"Bearer {issuer.token()}")).status_code == 200


async def test_a_host_that_is_none_is_not_repeated(served, issuer):
    started = await served(auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    for host in ('evil.example", error="x', "a b", "a/b", "[::1", ""):
        shown = await raw(started, f"Host: {host}".encode())
        assert b" 400 " in shown
        assert not host or host.encode() not in shown
    assert b" 421 " in await raw(started, b"Host: evil.example")


async def raw(started, *headers, path=EXECUTE):
    """Send headers as they are, and return the whole answer."""
    host, port = started.urls["api"].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"POST {path} HTTP/1.1".encode(), *headers, b"content-type: application/json", b"content-length: 2"]
    lines.append(b"connection: close")
    if not any(line.lower().startswith(b"host:") for line in headers):
        lines.insert(1, b"host: localhost")
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n{}")
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


CREDENTIALS = [
    b"",
    b"Bearer",
    b"Bearer ",
    b"Bearer\t" + secret_token().encode(),
    b"Bearer " + b"x" * 20_000,
    b"Bearer " + b"\xff\xfe" * 10,
    b"Bearer a b c",
    b"Bearer a.b.c\x00",
    b"Bearer a.b.c, Bearer " + secret_token().encode(),
    b"Bearer,Bearer " + secret_token().encode(),
    secret_token().encode(),
    b"Token " + secret_token().encode(),
    b"Basic " + secret_token().encode(),
    b"Bearer " + secret_token().encode() + b"\r\n folded: x",
    b"Bearer {origin}",
    b'Bearer "\r\nx-evil: 1',
    b"Bearer " + secret_token().replace("e", "\xe9").encode("latin-1"),
]


async def test_credentials_that_are_none(served):
    started = await served(jwt_secret=SECRET)
    for credential in CREDENTIALS:
        shown = await raw(started, b"authorization: " + credential)
        head, _, body = shown.partition(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        assert status in (400, 401, 431), (credential, shown)
        assert b"x-evil" not in head.lower(), credential
        if status == 401:
            assert json.loads(body)["code"] == "authentication_failed", credential


async def test_a_second_credential_does_not_help_the_first(served):
    started = await served(jwt_secret=SECRET)
    good, bad = (f"authorization: Bearer {token}".encode() for token in (secret_token(), "bad"))
    for headers in ((good, bad), (bad, good)):
        answer = await raw(started, *headers)
        assert answer.split(b" ")[1] == b"400"
        assert b"more than one Authorization header" in answer
    assert (await raw(started, good)).split(b" ")[1] == b"200"


async def test_what_callers_say_of_themselves_in_headers_is_not_believed(served):
    started = await served(jwt_secret=SECRET)
    for name in ("x-user", "x-forwarded-user", "x-nexus-user", "remote-user", "x-principal", "x-nexus-principal"):
        assert (await post(started, **{name: "alice"})).status_code == 401


async def test_a_principal_can_not_come_with_the_body(served):
    started = await served(jwt_secret=SECRET)
    async with httpx2.AsyncClient(base_url=started.urls["api"]) as client:
        body = {"principal": {"user_id": "alice"}, "credentials": {"authorization": f"Bearer {secret_token()}"}}
        assert (await client.post(EXECUTE, json=body)).status_code == 401


async def test_api_keys_in_a_header_of_their_own(served, tmp_path):
    from nexus_auth.methods.api_keys import new_key
    from nexus_auth.methods.key_file import KeyFile

    token, key = new_key("robot", ["data.read"])
    KeyFile(tmp_path / "keys").add(key)
    started = await served(api_key_file=tmp_path / "keys")
    assert (await post(started, **{"x-api-key": token})).json()["result"] == "data"
    assert (await post(started, **{"x-api-key": token + "x"})).status_code == 401
    assert (await post(started, **{"x-api-key": token, "authorization": "Bearer x"})).status_code == 401


async def test_a_message_of_a_provider_can_not_become_a_header(served):
    from nexus_core import AuthenticationError

    class Own(AuthProvider):
        def authenticate(self, credentials):
            token = credentials["token"]
            raise AuthenticationError(f"No: {token}\r\nx-evil: 1", challenge=f"Bearer {token}\r\nx-evil: 1")

    started = await served(auth_provider=Own())
    answer = await post(started, authorization="Bearer x")
    assert "x-evil" not in answer.headers
    assert answer.headers["www-authenticate"] == 'Bearer realm="nexus", error="invalid_token"'
