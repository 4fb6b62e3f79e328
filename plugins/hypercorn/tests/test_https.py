"""HTTPS on every port, with certificates made here, and with those that are none."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl

import pytest
from nexus_hypercorn.plugin import HypercornPlugin

from nexus_core import Channel, ConfigurationError, hookimpl
from nexus_core.testing import eventually, isolated_nexus

cryptography = pytest.importorskip("cryptography")
httpx2 = pytest.importorskip("httpx2")
websockets = pytest.importorskip("websockets")

from certificates import Authority  # noqa: E402


class Echo(Channel):
    name = "echo"
    port = 0

    def asgi_app(self):
        return self._answer

    async def _answer(self, scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": scope["scheme"]})
            await send({"type": "websocket.close", "code": 1000})
            return
        body = f"{scope['scheme']} {scope['http_version']}".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Channels:
    __name__ = "echoes"

    @hookimpl
    def nexus_register_channels(self, nexus):
        return [Echo()]


@pytest.fixture(name="authority")
def authority_fixture(tmp_path):
    return Authority(tmp_path)


def make(**options):
    return isolated_nexus(HypercornPlugin, Channels(), **{"enable_https": True} | options)


def port_of(listeners):
    scheme, _, rest = listeners[0].url.partition("://")
    assert scheme == "https"
    return int(rest.rpartition(":")[2])


async def subject(port, authority):
    """Return the common name of the certificate that a new connection is shown."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=authority.trust(), server_hostname="localhost")
    names = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
    writer.close()
    return names["commonName"]


async def test_every_port_is_encrypted(authority):
    async with make(**authority.issue()).serving() as listeners:
        port = port_of(listeners)
        async with httpx2.AsyncClient(verify=authority.trust(), base_url=f"https://localhost:{port}") as client:
            assert (await client.get("/echo")).text == "https 1.1"
        address = f"wss://localhost:{port}/"
        async with websockets.connect(address, ssl=authority.trust()) as connection:
            assert await connection.recv() == "wss"


async def test_who_does_not_encrypt_gets_nothing(authority, raw):
    async with make(**authority.issue()).serving() as listeners:
        plain = raw(f"http://127.0.0.1:{port_of(listeners)}")
        answer = await plain.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"HTTP/1.1 200" not in answer
        old = ssl.create_default_context(cafile=str(authority.file))
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", port_of(listeners), ssl=old, server_hostname="localhost")


async def test_who_never_encrypts_is_let_go(authority, raw, monkeypatch):
    monkeypatch.setattr("nexus_hypercorn.server.HANDSHAKE_SECONDS", 0.2)
    async with make(**authority.issue()).serving() as listeners:
        silent = raw(f"http://127.0.0.1:{port_of(listeners)}")
        assert await silent.read(seconds=10) == b""


async def test_a_key_may_be_encrypted(authority):
    paths = authority.issue(password=b"a long password")
    async with make(**paths, ssl_key_password="a long password").serving() as listeners:
        assert await subject(port_of(listeners), authority) == "localhost"


async def test_a_certificate_that_is_renewed_comes_into_use(authority, monkeypatch, caplog):
    monkeypatch.setattr("nexus_hypercorn.tls.WATCH_SECONDS", 0.02)
    paths = authority.issue("first")
    async with make(**paths).serving() as listeners:
        port = port_of(listeners)
        assert await subject(port, authority) == "first"
        paths["ssl_key_path"].write_bytes(b"half a key")
        with caplog.at_level(logging.ERROR):
            await eventually(lambda: "The certificate was not renewed, the old one stays in use: " in caplog.text)
        assert await subject(port, authority) == "first"
        authority.issue("second")
        os.utime(paths["ssl_cert_path"], (1, 1))
        with caplog.at_level(logging.INFO):
            await eventually(lambda: "The certificate has been renewed" in caplog.text)
        assert await subject(port, authority) == "second"
        paths["ssl_cert_path"].unlink()
        await eventually(lambda: "can't be read: No such file" in caplog.text)
        assert await subject(port, authority) == "second"
    assert caplog.text.count("half a key") == 0


class TestWrongOptions:
    async def refused(self, **options):
        with pytest.raises(ConfigurationError) as caught:
            async with make(**options).serving():
                pytest.fail("it has started")
        return str(caught.value)

    async def test_without_files(self, authority):
        assert await self.refused() == "enable_https needs ssl_cert_path and ssl_key_path."
        paths = authority.issue()
        assert "needs ssl_cert_path and ssl_key_path" in await self.refused(ssl_cert_path=paths["ssl_cert_path"])

    @pytest.mark.parametrize("option", ["ssl_cert_path", "ssl_key_path"])
    async def test_files_that_are_not_there(self, authority, tmp_path, option):
        said = await self.refused(**authority.issue() | {option: tmp_path / "none"})
        assert said == f"{option}: {tmp_path / 'none'} can't be read: No such file or directory."

    async def test_files_that_are_none(self, authority):
        paths = authority.issue()
        paths["ssl_cert_path"].write_text("no certificate")
        assert "can't be used: " in await self.refused(**paths)

    async def test_a_key_of_another_certificate(self, authority):
        paths = authority.issue()
        kept = paths["ssl_key_path"].read_bytes()
        authority.issue()
        paths["ssl_key_path"].write_bytes(kept)
        assert "key values mismatch" in await self.refused(**paths)

    @pytest.mark.parametrize("given", [{}, {"ssl_key_password": "wrong"}])
    async def test_a_password_that_is_missing_or_wrong_asks_nobody(self, authority, given):
        paths = authority.issue(password=b"a long password")
        said = await self.refused(**paths, **given)
        assert "can't be used: " in said
        assert "a long password" not in said
