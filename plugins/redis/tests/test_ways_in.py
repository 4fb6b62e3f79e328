"""TLS, Unix sockets and sentinels, against real servers."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from contextlib import asynccontextmanager

import nexus_redis.plugin
import pytest
from certificates import VALID
from redis_service import free_port

from nexus_core import BackendUnavailable, ConfigurationError, Nexus
from nexus_core.testing import eventually


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 that signs itself, with its key, as two files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "redis")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(VALID[0]).not_valid_after(VALID[1])
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("certificate")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(text)
    return folder


@asynccontextmanager
async def behind_tls(server, certificate):
    """Put TLS in front of a server; yield the port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    under_way = set()

    async def pump(reader, writer):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def pass_on(reader, writer):
        from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(pump(reader, to_server))
                both.create_task(pump(from_server, writer))
        finally:
            to_server.transport.abort()
            writer.transport.abort()

    def take(reader, writer):
        under_way.add(asyncio.create_task(pass_on(reader, writer)))

    front = await asyncio.start_server(take, "127.0.0.1", 0, ssl=context)
    yield front.sockets[0].getsockname()[1]
    front.close()
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


async def test_tls_with_a_certificate_that_is_known(connect, redis_server, certificate):
    async with behind_tls(redis_server, certificate) as port:
        store = await connect(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={certificate / 'cert.pem'}", redis_timeout=5)
        await asyncio.gather(*(store.set(f"key {i}", b"1", 60) for i in range(20)))
        assert await store.get("key 7") == b"1"
        await store.client.close()
    assert redis_server.ask("INFO", "keyspace").keys() == {"db1"}


async def test_tls_with_a_certificate_of_the_clients_own_that_is_none(certificate):
    wrong = f"rediss://127.0.0.1:1?ssl_certfile={certificate / 'cert.pem'}&ssl_keyfile={certificate / 'cert.pem'}"
    with pytest.raises(ConfigurationError, match="redis_url: the certificates can't be loaded"):
        async with Nexus(discover=False, plugins=[nexus_redis.plugin.RedisPlugin], redis_url=wrong):
            pass


async def test_tls_with_a_stranger_is_refused_unless_that_is_asked_for(connect, redis_server, certificate):
    async with behind_tls(redis_server, certificate) as port:
        store = await connect(f"rediss://127.0.0.1:{port}")
        assert "certificate" in store.reason.lower()
        with pytest.raises(BackendUnavailable):
            await store.get("a")
        careless = await connect(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none")
        assert await careless.get("a") is None
        for each in (store, careless):
            await each.client.close()


async def test_in_the_clear_to_tls_and_tls_to_what_is_in_the_clear_fail_soon(connect, redis_server, certificate):
    async with behind_tls(redis_server, certificate) as port:
        begin = time.monotonic()
        stores = [await connect(f"redis://127.0.0.1:{port}"), await connect(f"rediss://127.0.0.1:{redis_server.port}")]
        assert time.monotonic() - begin < 10
        for store in stores:
            with pytest.raises(BackendUnavailable):
                await store.get("a")
            await store.client.close()


async def test_a_unix_socket(connect, start_redis, tmp_path):
    path = tmp_path / "redis.sock"
    server = start_redis("--unixsocket", str(path))
    store = await connect(f"unix://{path}?db=3")
    await store.set("a", b"1", 60)
    assert server.ask("INFO", "keyspace").keys() == {"db3"}
    server.kill()
    with pytest.raises(BackendUnavailable):
        await store.get("a")


@pytest.fixture
async def sentinel(start_redis, tmp_path):
    """Two servers, one of them a replica of the other, and a sentinel that watches them as ``main``."""
    first, second = start_redis("--repl-diskless-sync-delay", "0"), start_redis()
    second.ask("REPLICAOF", "127.0.0.1", first.port)
    await eventually(lambda: second.ask("INFO", "replication")["master_link_status"] == "up", 20)
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"sentinel monitor main 127.0.0.1 {first.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    watcher = start_redis(str(file), "--sentinel")
    await eventually(lambda: b"slave" in b"".join(flat(watcher.ask("SENTINEL", "REPLICAS", "main"))), 20)
    return watcher, first, second


def flat(reply):
    if isinstance(reply, (list, tuple)):
        return [each for part in reply for each in flat(part)]
    if isinstance(reply, dict):
        return [each for pair in reply.items() for part in pair for each in flat(part)]
    return [reply if isinstance(reply, bytes) else str(reply).encode()]


async def test_sentinels_lead_to_the_server_that_is_written_to_after_a_failover_too(connect, sentinel):
    watcher, first, second = sentinel
    nobody = free_port()
    store = await connect(f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{watcher.port}/main")
    await store.set("a", b"1", 60)
    assert first.ask("GET", "nexus:a") == b"1"
    await eventually(lambda: second.ask("GET", "nexus:a") == b"1", 10)
    first.kill()
    end = time.monotonic() + 30
    while True:
        try:
            await store.set("a", b"2", 60)
            break
        except BackendUnavailable:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)
    assert second.ask("GET", "nexus:a") == b"2"


async def test_sentinels_that_know_no_such_service_or_are_gone(connect, sentinel):
    watcher, *_ = sentinel
    store = await connect(f"redis+sentinel://127.0.0.1:{watcher.port}/other")
    assert "No master found" in store.reason
    watcher.kill()
    gone = await connect(f"redis+sentinel://127.0.0.1:{watcher.port}/main")
    with pytest.raises(BackendUnavailable):
        await gone.get("a")


async def test_a_network_that_swallows_even_the_greeting(connect, seconds):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(8)]
        try:
            for each in fillers:
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            begin = time.monotonic()
            store = await connect(f"redis://127.0.0.1:{port}")
            assert 0.9 < time.monotonic() - begin < 10
            duration, error = await seconds(store.get("a"))
            assert type(error) is BackendUnavailable
            assert duration < 0.9
        finally:
            for each in fillers:
                each.close()
