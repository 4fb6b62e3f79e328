"""What clients that look for a token read (RFC 9728): the way from a challenge to the issuer."""

from __future__ import annotations

import re

import httpx2
import pytest
from token_issuer import AUDIENCE, SECRET

PATH = "/.well-known/oauth-protected-resource"


@pytest.fixture
async def client():
    async with httpx2.AsyncClient() as client:
        yield client


async def test_each_channel_describes_itself_on_its_own_port(served, issuer, client):
    started = await served(
        channels=("api", "cli", "mcp"), auth_service_url=issuer.url, jwt_audience=AUDIENCE, auth_providers=["oauth2"]
    )
    for channel, path in {"api": "", "cli": "/cli", "mcp": "/mcp"}.items():
        url = started.urls[channel]
        answer = await client.get(f"{url}{PATH}{path}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["access-control-allow-origin"] == "*"
        assert answer.json() == {
            "resource": url + path,
            "authorization_servers": [issuer.url],
            "bearer_methods_supported": ["header"],
            "resource_name": "Nexus",
        }
        for other in {"", "/cli", "/mcp", "/x"} - {path}:
            assert (await client.get(f"{url}{PATH}{other}")).status_code == 404, (channel, other)


REQUESTS = {
    "api": ("GET", "/api/workflows", None),
    "cli": ("POST", "/cli", {"command": "list"}),
    "mcp": ("POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": "ping"}),
}


async def test_a_challenge_leads_to_the_issuer(served, issuer, client):
    started = await served(channels=("api", "cli", "mcp"), auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    for channel, (method, path, body) in REQUESTS.items():
        headers = {"accept": "application/json, text/event-stream"}
        answer = await client.request(method, started.urls[channel] + path, json=body, headers=headers)
        assert answer.status_code == 401, channel
        (address,) = re.findall(r'resource_metadata="([^"]+)"', answer.headers["www-authenticate"])
        document = (await client.get(address)).json()
        assert document["authorization_servers"] == [issuer.url]
        assert (started.urls[channel] + path).startswith(document["resource"])


async def test_the_issuer_is_called_what_it_calls_itself(served, issuer, client):
    issuer.name = f"{issuer.url}/"
    started = await served(auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    assert await started.user(issuer.token()) == "alice"
    document = (await client.get(started.urls["api"] + PATH)).json()
    assert document["authorization_servers"] == [f"{issuer.url}/"]


async def test_the_address_that_callers_use(served, issuer, client):
    options = {"auth_service_url": issuer.url, "jwt_audience": AUDIENCE}
    started = await served(**options, allowed_hosts=["api.example.com"])
    url = started.urls["api"] + PATH
    assert (await client.get(url, headers={"host": "api.example.com"})).json()["resource"] == "http://api.example.com"
    for host in ('a", "x": "', "a b", ""):
        assert (await client.get(url, headers={"host": host})).json()["resource"] == started.urls["api"]
    started = await served(**options, auth_resource_url="https://nexus.example.com/prod/")
    answer = await client.get(started.urls["api"] + PATH, headers={"host": "evil.example"})
    assert answer.json()["resource"] == "https://nexus.example.com/prod"
    refused = await client.get(f"{started.urls['api']}/api/workflows")
    assert f'resource_metadata="https://nexus.example.com/prod{PATH}"' in refused.headers["www-authenticate"]


async def test_below_a_path_of_another_application(alone, issuer):
    nexus = alone(beside=("api",), enable_auth=True, auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    transport = httpx2.ASGITransport(nexus.asgi_app(), root_path="/nexus")
    async with nexus, httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        refused = await client.get("/nexus/api/workflows")
        (address,) = re.findall(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
        assert address == f"http://localhost/nexus{PATH}"
        assert (await client.get(address)).json()["resource"] == "http://localhost/nexus"


async def test_other_methods(served, issuer, client):
    started = await served(auth_service_url=issuer.url, jwt_audience=AUDIENCE)
    url = started.urls["api"] + PATH
    head = await client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len((await client.get(url)).content)
    asked = {"origin": "https://inspector.example", "access-control-request-headers": "mcp-protocol-version"}
    before = await client.request("OPTIONS", url, headers=asked)
    assert before.status_code == 204
    assert before.headers["access-control-allow-headers"] == "*"
    refused = await client.post(url)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    "options", [{"jwt_secret": SECRET}, {"jwt_secret": SECRET, "jwt_issuer": "my-service"}, {"api_key_file": "keys"}]
)
async def test_without_an_issuer_there_is_nothing(served, client, options):
    started = await served(**options)
    assert (await client.get(started.urls["api"] + PATH)).status_code == 404
