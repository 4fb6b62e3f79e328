"""Probes of real ``nexus serve`` processes, over real HTTP."""

from __future__ import annotations

import asyncio
import re
import socket
import time

import pytest
from health_helpers import comes
from nexus_health.probe_channel import MAX_CONNECTIONS

httpx2 = pytest.importorskip("httpx2")
for needed in ("nexus_api", "nexus_hypercorn", "nexus_cli"):
    pytest.importorskip(needed)

FAST = {"health_check_interval": 0.2, "health_check_timeout": 0.5}
CHECKED = """
import asyncio, pathlib, time
from nexus_core import Nexus
from nexus_health import HealthChecker

class Switched(HealthChecker):
    def check_file(self):
        return {"status": "unhealthy" if pathlib.Path("broken").exists() else "healthy", "path": "/srv/secret-place"}

    def check_hanging(self):
        if pathlib.Path("hangs").exists():
            time.sleep(3600)
        return {"status": "healthy"}

nexus = Nexus(max_concurrent_workflows=1, shutdown_grace=20)
nexus.register_health_checker(Switched())

@nexus.workflow
async def wait() -> str:
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.02)
    return "done"
"""


def get(served, path="/health/ready", method="GET", **headers):
    return httpx2.request(method, f"{served.url}{path}", headers=headers, timeout=10)


def is_ready(served):
    return get(served).status_code == 200


async def test_what_each_address_answers(serve):
    served = serve(CHECKED, **FAST)
    await comes(lambda: is_ready(served))
    live, ready, full = (get(served, path) for path in ("/health/live", "/health/ready", "/health"))
    assert (live.status_code, live.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    report = full.json()
    assert full.status_code == 200
    assert (report["status"], report["ready"], report["failed_plugins"]) == ("healthy", True, {})
    assert re.fullmatch(r"[0-9]+\.[0-9]+.*", report["version"])
    assert 0 < report["uptime"] < 60
    assert report["checks"].keys() >= {"event_loop", "places", "plugins", "file", "hanging"}
    assert report["checks"]["file"]["details"] == {"path": "/srv/secret-place"}
    assert abs(report["checks"]["file"]["since"] - time.time()) < 60
    for path, answer in (("/health/live", live), ("/health/ready", ready), ("/health", full)):
        assert answer.headers["cache-control"] == "no-store"
        head = get(served, path, "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            refused = get(served, path, method)
            assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD"), method
            assert refused.json()["code"] == "method_not_allowed"
    for path in ("/health/", "/health/nothing", "/health/live/more", "/healthy"):
        assert get(served, path).status_code == 404
    for host in ("evil.example", "evil.example:80"):
        assert get(served, "/health", host=host).status_code == 421, "a page's name that means this machine"
        assert get(served, "/health/ready", host=host).status_code == 200, "a probe by the name of a service"


async def test_a_check_that_changes_or_hangs_changes_readiness_and_probes_tell_no_details(serve):
    served = serve(CHECKED, **FAST)
    await comes(lambda: is_ready(served))
    folder = served.file.parent
    (folder / "broken").touch()
    (folder / "hangs").touch()
    refused = await comes(lambda: len((answer := get(served)).json().get("not_ready", ())) == 2 and answer)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json() == {"status": "not ready", "not_ready": ["file", "hanging"]}
    full = get(served, "/health")
    assert full.status_code == 503
    assert full.headers["retry-after"]
    assert full.json()["checks"]["hanging"]["error"].startswith("timed out after 0.5 s")
    assert get(served, "/health/live").status_code == 200
    (folder / "broken").unlink()
    await comes(lambda: get(served).json()["not_ready"] == ["hanging"])
    served.terminate()
    assert await asyncio.to_thread(served.process.wait, 10) == 0, "what hangs does not keep it from ending"


async def test_probes_are_answered_while_every_place_is_taken_and_while_it_stops(serve):
    served = serve(CHECKED, **FAST)
    await comes(lambda: is_ready(served))
    async with httpx2.AsyncClient(base_url=served.url, timeout=30) as client:
        work = asyncio.create_task(client.post("/api/workflows/wait/execute", json={}))
        while (await client.get("/health")).json()["checks"]["places"]["status"] == "healthy":
            await asyncio.sleep(0.02)
        assert (await client.post("/api/workflows/wait/execute", json={})).status_code == 503
        assert "places" in (await client.get("/health/ready")).json()["degraded"]
        for path in ("/health/live", "/health/ready", "/health"):
            assert (await client.get(path)).status_code == 200
        served.terminate()
        while (answer := await client.get("/health/ready")).status_code == 200:
            await asyncio.sleep(0.01)
        assert (answer.status_code, answer.json()["not_ready"]) == (503, [])
        assert answer.headers["retry-after"] == "1"
        assert (await client.get("/health/live")).status_code == 200
        assert not work.done()
        (served.file.parent / "go").touch()
        assert (await work).json()["result"] == "done"
    assert await asyncio.to_thread(served.process.wait, 20) == 0
    assert "Traceback" not in served.log.read_text()


async def test_a_redis_that_goes_and_comes_back(serve, redis_server):
    pytest.importorskip("nexus_redis")
    served = serve(store="redis", redis_url=redis_server.url, **FAST)
    await comes(lambda: is_ready(served))
    report = get(served, "/health").json()
    assert report["checks"]["redis"]["details"] == {"server": f"127.0.0.1:{redis_server.port}/0"}
    redis_server.kill()
    began = time.monotonic()
    await comes(lambda: not is_ready(served))
    assert time.monotonic() - began < 3
    assert set(get(served).json()["not_ready"]) <= {"redis", "store"}
    assert str(redis_server.port) in get(served, "/health").json()["checks"]["redis"]["error"]
    redis_server.start()
    began = time.monotonic()
    await comes(lambda: is_ready(served))
    assert time.monotonic() - began < 3
    await comes(lambda: "Health check redis is healthy again" in served.log.read_text())
    assert len(re.findall(r"Health check redis is .*", served.log.read_text())) == 2


async def test_callers_need_the_permission_and_wrong_credentials_are_refused(serve):
    issuer = pytest.importorskip("token_issuer")
    pytest.importorskip("nexus_auth")
    secret = "a secret of at least thirty-two bytes"
    served = serve(CHECKED, enable_auth=True, jwt_secret=secret, **FAST)
    await comes(lambda: is_ready(served))
    assert get(served, "/health/live").status_code == 200

    def asked(**claims):
        return get(served, "/health", authorization=f"Bearer {issuer.secret_token(secret, **claims)}")

    nobody = get(served, "/health")
    assert (nobody.status_code, nobody.json()["code"]) == (401, "authentication_failed")
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    assert nobody.headers["content-type"] == "application/problem+json"
    assert nobody.headers["cache-control"] == "no-store"
    assert get(served, "/health", authorization="Bearer made-up").status_code == 401
    refused = asked(permissions=["data.read"])
    assert (refused.status_code, refused.json()["missing_permissions"]) == (403, ["health.read"])
    for granting in ("health.read", "health:read", "health.*", "*"):
        assert "file" in asked(permissions=[granting]).json()["checks"], granting
    assert get(served, "/health", host="evil.example").status_code == 401, "who is asked is no secret"


async def test_probes_count_for_no_limit(serve):
    pytest.importorskip("nexus_ratelimit")
    served = serve(enable_rate_limiting=True, rate_limit_per_minute=2, **FAST)
    await comes(lambda: is_ready(served))
    assert {get(served, path).status_code for path in ("/health/live", "/health/ready") for _ in range(5)} == {200}
    assert [get(served, "/health").status_code for _ in range(3)] == [200, 200, 429]
    assert get(served).status_code == 200


async def test_where_there_is_no_api_the_first_port_that_listens_has_it(serve):
    served = serve(disabled_plugins="api,mcp", **FAST)
    assert list(served.listens()) == ["cli"]
    await comes(lambda: is_ready(served))
    assert get(served, "/health").json()["ready"]


async def test_where_it_is_off_nothing_answers(serve):
    served = serve(enable_health_checks=False)
    assert {get(served, path).status_code for path in ("/health", "/health/live", "/health/ready")} == {404}


async def test_a_checker_that_is_none_stops_the_start(serve):
    served = serve("from nexus_core import Nexus\nnexus = Nexus()\nnexus.register_health_checker(object())\n")
    assert await asyncio.to_thread(served.process.wait, 30) == 1
    assert "The health checker object has no method check_" in served.log.read_text()


async def test_a_mounted_platform_answers_below_its_path():
    starlette = pytest.importorskip("starlette.applications")
    from starlette.routing import Mount

    from nexus_core import Nexus

    nexus = Nexus(**FAST)
    transport = httpx2.ASGITransport(starlette.Starlette(routes=[Mount("/shop", nexus.asgi_app())]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        assert (await client.get("/shop/health/live")).json() == {"status": "alive"}
        end = time.monotonic() + 20
        while (await client.get("/shop/health/ready")).status_code != 200:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert (await client.get("/shop/health")).json()["ready"]
    await nexus.__aexit__()


COMPUTES = """
import pathlib, threading, time
from nexus_core import Nexus
nexus = Nexus(workflow_threads=95, shutdown_grace=0)

@nexus.workflow
def burn():
    pathlib.Path("burns").touch()
    end = time.monotonic() + 300
    while time.monotonic() < end:
        pass

@nexus.workflow
async def block():
    pathlib.Path("blocks").touch()
    time.sleep(300)
"""


def sends(connection):
    """Send a byte; returns whether the other side has not ended the connection yet."""
    try:
        connection.sendall(b"x")
        return connection.recv(1, socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


async def test_a_port_of_its_own_answers_while_the_event_loop_cannot(serve, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = serve(COMPUTES, health_port=port, **FAST)
    url = f"http://127.0.0.1:{port}/health"

    def asked(path):
        return httpx2.get(url + path, timeout=10)

    await comes(lambda: is_ready(served))
    assert asked("/ready").status_code == 200
    assert asked("/live").json() == {"status": "alive"}
    assert asked("").status_code == 404
    assert httpx2.head(f"{url}/live", timeout=10).content == b""
    assert httpx2.post(f"{url}/live", timeout=10).status_code == 501
    for _ in range(40):  # clients that send nothing take no thread for ever, and others are answered
        socket.create_connection(("127.0.0.1", port), 5).close()
    slow = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(MAX_CONNECTIONS)]
    for each in slow:
        each.sendall(b"GET /health/live HTTP/1.1\r\nx-more: ")
    for _ in range(3):  # who keeps connections open keeps no probe out
        assert asked("/live").status_code == 200
    for each in slow:  # each is broken off in the end, however often it sends a byte
        while sends(each):
            time.sleep(0.1)
        each.close()
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{served.url}/api/workflows/block/execute", json={}, timeout=2)
    assert asked("/live").json() == {"status": "alive"}
    assert asked("/ready").status_code == 200
