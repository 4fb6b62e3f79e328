"""The address that callers have for the platform: behind proxies, below a path; and whose pages may call."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import guarded_app
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from token_issuer import secret_token

from nexus_core import ConfigurationError, Nexus
from nexus_core.types.addresses import parse_host, parse_origin, parse_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TRUSTED: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"]}
TOKEN = {
    "authorization": f"Bearer {secret_token(guarded_app.SECRET, exp=time.time() + 86_400, iss='https://issuer.example')}"
}
GUARDED = {"enable_auth": True, "jwt_secret": guarded_app.SECRET, "jwt_issuer": "https://issuer.example"}
PAGE = "https://app.example.com"
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip
MCP = {"accept": "application/json, text/event-stream"}


@pytest.fixture
async def serve() -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> dict[str, httpx2.AsyncClient]:
            nexus = Nexus(api_port=0, cli_port=0, mcp_port=0, shutdown_grace=0.1, **options)

            @nexus.workflow
            async def hello() -> str:
                return "hello"

            @nexus.workflow
            async def slow() -> None:
                await asyncio.Event().wait()

            listeners = await stack.enter_async_context(nexus.serving())
            urls = {name: each.url for each in listeners for name in each.channels}
            return {
                name: await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=30))
                for name, url in urls.items()
            }

        yield start


def proxied(**more: str) -> dict[str, str]:
    said = {"x-forwarded-proto": "https", "x-forwarded-host": "example.com", "x-forwarded-prefix": "/nexus"}
    return {**said, **more}


async def seen(client: httpx2.AsyncClient, headers: dict[str, str], below: str = "") -> dict[str, str]:
    """Return the addresses that the API tells of itself."""
    document = await client.get(f"{below}/openapi.json", headers=headers)
    run = await client.post(f"{below}/api/workflows/slow/execute?wait=0", headers=headers)
    session = await client.post(f"{below}/api/sessions", headers=headers)
    assert (document.status_code, run.status_code, session.status_code) == (200, 202, 201)
    return {
        "server": document.json()["servers"][0]["url"],
        "run": run.headers["location"].rpartition("/")[0],
        "session": session.headers["location"].rpartition("/")[0],
    }


def at(path: str, server: str | None = None) -> dict[str, str]:
    return {"server": server or path or "/", "run": f"{path}/api/runs", "session": f"{path}/api/sessions"}


async def test_a_trusted_proxy_says_where_the_platform_is(serve: Any) -> None:
    client = (await serve(**TRUSTED))["api"]
    assert await seen(client, proxied()) == at("/nexus")
    assert await seen(client, proxied(**{"x-forwarded-prefix": "/a/b/"})) == at("/a/b")
    assert await seen(client, proxied(**{"x-forwarded-prefix": "/evil, /nexus"})) == at("/nexus")
    assert await seen(client, proxied(**{"x-forwarded-prefix": "/api"})) == at("/api")
    assert await seen(client, proxied(), below="/nexus") == at("/nexus")  # it has not taken the prefix away
    assert await seen(client, {}) == at("")


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/a/../b", "https://evil.example", "/a b", "/a\\b", "/" + "x" * 300]
)
async def test_what_is_no_prefix_counts_for_nothing(serve: Any, prefix: str) -> None:
    client = (await serve(**TRUSTED))["api"]
    assert await seen(client, proxied(**{"x-forwarded-prefix": prefix})) == at("")


@pytest.mark.parametrize("options", [{}, {"trusted_proxies": ["10.0.0.0/8"]}])
async def test_nobody_else_says_it(serve: Any, options: dict[str, Any]) -> None:
    client = (await serve(**options))["api"]
    assert await seen(client, proxied()) == at("")


async def test_one_option_says_it_for_all_requests(serve: Any) -> None:
    client = (await serve(public_url="https://example.com/nexus"))["api"]
    assert await seen(client, {"host": "example.com"}) == at("/nexus", "https://example.com/nexus")
    assert await seen(client, proxied(**{"x-forwarded-prefix": "/other"}), below="/nexus") == at(
        "/nexus", "https://example.com/nexus"
    )
    page = await client.get("/docs")
    assert page.status_code == 200
    assert 'href="/' not in page.text
    assert 'src="/' not in page.text


async def test_clients_learn_who_gives_tokens_at_the_address_they_use(serve: Any) -> None:
    metadata = "/.well-known/oauth-protected-resource"
    for options, headers in (({**TRUSTED}, proxied()), ({"public_url": "https://example.com/nexus"}, {})):
        clients = await serve(**GUARDED, **options)
        for channel, method, path in (
            ("api", "GET", "/api/workflows"),
            ("mcp", "POST", "/mcp"),
            ("cli", "POST", "/cli"),
        ):
            more = {**headers, "content-type": "application/json"}
            refused = await clients[channel].request(method, path, headers=more)
            suffix = "" if channel == "api" else path
            assert (
                f'resource_metadata="https://example.com/nexus{metadata}{suffix}"'
                in refused.headers["www-authenticate"]
            )
            document = (await clients[channel].get(metadata + suffix, headers=headers)).json()
            assert document["resource"] == f"https://example.com/nexus{suffix}"


async def test_a_page_is_of_the_address_that_it_was_loaded_from(serve: Any) -> None:
    execute = "/api/workflows/hello/execute"
    for options, headers in (({**TRUSTED}, proxied()), ({"public_url": "https://example.com/nexus"}, {})):
        client = (await serve(**options))["api"]
        for origin, status in (
            ("https://example.com", 200),
            ("https://evil.example", 403),
            ("https://example.com:1", 403),
        ):
            assert (await client.post(execute, headers={**headers, "origin": origin})).status_code == status


async def test_a_rebound_name_is_not_answered_for_what_its_page_says(serve: Any) -> None:
    clients = await serve(**TRUSTED)
    for channel, path in (("api", "/api/workflows"), ("mcp", "/mcp"), ("cli", "/cli")):
        answer = await clients[channel].get(path, headers=proxied(host="evil.example"))
        assert answer.status_code == 421, channel


MALFORMED = [
    "[::1].evil.example",
    "",
    "evil.example:",
    "a:b",
    "a/b",
    "127.0.0.1@evil.example",
    "[::1",
    "::1",
    "[x]",
    "a..b",
    "localhost:99999",
    "a b",
    "[127.0.0.1]",
    "-a",
    "\xe9",
]


@pytest.mark.parametrize("host", MALFORMED)
async def test_malformed_hosts_pass_nowhere(serve: Any, host: str) -> None:
    clients = await serve(allowed_hosts=["*"])
    for channel, path in (("api", "/api/workflows"), ("mcp", "/mcp"), ("cli", "/cli"), ("api", "/health")):
        answer = await clients[channel].get(path, headers={"host": host.encode("latin-1")})
        assert answer.status_code in (400, 421), (channel, path)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "javascript:",
        "javascript:alert(1)",
        "https://",
        "https://a/b",
        "https:// a",
        "x",
        "https://[::1].evil.example",
        "https://a:b",
        "https://a?",
        "https://u@a",
    ],
)
async def test_malformed_origins_pass_nowhere(serve: Any, origin: str) -> None:
    clients = await serve(cors_origins=["*"], mcp_allowed_origins=["*"])
    for channel, path in (("api", "/api/workflows/hello/execute"), ("mcp", "/mcp"), ("cli", "/cli")):
        answer = await clients[channel].post(path, json=INITIALIZE, headers={**MCP, "origin": origin})
        assert answer.status_code == 403, channel
        assert "access-control-allow-origin" not in answer.headers


HOSTS = {"nexus.example.com": True, "NEXUS.example.com:1": True, "other.example.com:8443": True,
         "other.example.com": False, "x.nexus.example.com": False, "127.0.0.1": True}  # fmt: skip


async def test_one_list_of_hosts_holds_for_every_channel(serve: Any) -> None:
    clients = await serve(allowed_hosts=["nexus.example.com", "other.example.com:8443"])
    for channel, path in (("api", "/api/workflows"), ("mcp", "/mcp"), ("cli", "/cli")):
        for host, is_known in HOSTS.items():
            answer = await clients[channel].get(path, headers={"host": host})
            assert (answer.status_code != 421) == is_known, (channel, host)


PREFLIGHT = ("authorization,content-type,x-api-key,x-csrf-token,idempotency-key,x-nexus-session,prefer,last-event-id,"
             "mcp-session-id,mcp-protocol-version,mcp-method,mcp-name,traceparent")  # fmt: skip


@pytest.mark.parametrize(
    ("channel", "path", "method"),
    [("api", "/api/workflows/hello/execute", "POST"), ("api", "/api/sessions/x", "PATCH"), ("mcp", "/mcp", "POST"),
     ("mcp", "/mcp", "DELETE")],
)  # fmt: skip
async def test_pages_of_allowed_origins_may_send_what_is_documented(
    serve: Any, channel: str, path: str, method: str
) -> None:
    client = (await serve(**GUARDED, cors_origins=[PAGE], mcp_allowed_origins=[PAGE]))[channel]
    asked = {"access-control-request-method": method, "access-control-request-headers": PREFLIGHT}
    answer = await client.options(path, headers={"origin": PAGE, **asked})
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT
    assert "access-control-allow-credentials" not in answer.headers
    refused = await client.options(path, headers={"origin": "https://evil.example", **asked})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers


async def test_pages_of_allowed_origins_may_read_what_is_answered(serve: Any) -> None:
    clients = await serve(**GUARDED, cors_origins=[PAGE], mcp_allowed_origins=[PAGE], enable_rate_limiting=True)
    calls = {"api": ("/api/workflows/hello/execute", {}), "mcp": ("/mcp", INITIALIZE)}
    for channel, (path, body) in calls.items():
        for headers, status in ((TOKEN, 200), ({}, 401)):
            answer = await clients[channel].post(path, json=body, headers={"origin": PAGE, **MCP, **headers})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, PAGE)
            exposed = answer.headers["access-control-expose-headers"].lower().replace(" ", "").split(",")
            for name in (
                "ratelimit",
                "ratelimit-policy",
                "retry-after",
                "www-authenticate",
                "mcp-session-id",
                "location",
            ):
                assert name in exposed
            assert "origin" in answer.headers["vary"].lower()
            if channel == "mcp" and status == 200:
                assert answer.headers["mcp-session-id"]


async def test_a_page_of_this_machine_may_use_mcp_as_inspectors_do(serve: Any) -> None:
    client = (await serve(**GUARDED))["mcp"]
    page = "http://localhost:6274"
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,mcp-session-id"}
    assert (await client.options("/mcp", headers={"origin": page, **asked})).headers[
        "access-control-allow-origin"
    ] == page
    answer = await client.post("/mcp", json=INITIALIZE, headers={"origin": page, **MCP, **TOKEN})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, page)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("public_url", "example.com"),
        ("public_url", "ftp://example.com"),
        ("public_url", "https://example.com/?a"),
        ("public_url", "https://a b"),
        ("allowed_hosts", ["https://example.com"]),
        ("allowed_hosts", ["a/b"]),
        ("trusted_proxies", ["0.0.0.0/0"]),
        ("trusted_proxies", ["proxy.example.com"]),
        ("trusted_proxies", ["10.0.0.1/8"]),
        ("cors_origins", ["example.com"]),
        ("mcp_allowed_origins", ["https://example.com/path"]),
    ],
)
def test_options_that_would_have_no_effect_are_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"argument {option}: "):
        Nexus(**{option: value})


@given(st.text(alphabet="a.:[]1/@\\ é-_%0", max_size=12))
def test_hosts_are_read_as_a_whole_or_not_at_all(text: str) -> None:
    host = parse_host(text)
    if host is not None:
        assert parse_host(host.text) == host
        assert not set(text) & set("/@\\ é%")
    origin = parse_origin(f"https://{text}")
    assert (origin is None) == (host is None or "/" in text)
    if (prefix := parse_prefix(text)) is not None:
        assert not prefix or (prefix[0] == "/" and "//" not in prefix and ".." not in prefix)
