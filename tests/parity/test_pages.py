"""Pages of other origins in a real browser: those that are allowed call the API and MCP, with a credential."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import guarded_app
import pytest
from token_issuer import secret_token

from nexus_core import Nexus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
CALL = """async ({url, token, body, accept}) => {
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: {
        "Authorization": `Bearer ${token}`, "Content-Type": "application/json", "X-CSRF-Token": "x",
        "Accept": accept, "Idempotency-Key": crypto.randomUUID(), "X-API-Key": "",
        "Mcp-Protocol-Version": "2025-11-25",
      },
      body: JSON.stringify(body),
    });
    const seen = ["ratelimit", "www-authenticate", "mcp-session-id"].filter((name) => answer.headers.has(name));
    return {status: answer.status, text: await answer.text(), seen};
  } catch (error) {
    return {status: 0, text: String(error), seen: []};
  }
}"""
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}},
}  # fmt: skip
GOOD = secret_token(guarded_app.SECRET, exp=time.time() + 86_400)  # it is made long before the tests run


@pytest.fixture
async def page() -> AsyncIterator[Any]:
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not os.path.exists(CHROMIUM):
        pytest.skip("chromium is not installed")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield await browser.new_page()
        await browser.close()


async def _serve_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<p>hi\n")
    await writer.drain()
    writer.close()


@pytest.mark.timeout(120)
async def test_allowed_pages_get_through_and_others_do_not(page: Any) -> None:
    server = await asyncio.start_server(_serve_page, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    # To a browser these are two sites: one that is listed, and one that is not and no name of this machine's.
    friend, stranger = f"http://friend.localhost:{port}", f"http://stranger.localhost:{port}"
    nexus = Nexus(
        api_port=0, mcp_port=0, enable_auth=True, jwt_secret=guarded_app.SECRET, cors_origins=[friend],
        mcp_allowed_origins=[friend], enable_rate_limiting=True, disabled_plugins=["cli"],
    )  # fmt: skip

    @nexus.workflow
    async def hello(name: str) -> str:
        return f"hello {name}"

    async with server, nexus.serving() as listeners:
        urls = {name: each.url for each in listeners for name in each.channels}
        api = {
            "url": f"{urls['api']}/api/workflows/hello/execute",
            "body": {"name": "page"},
            "accept": "application/json",
        }
        mcp = {"url": f"{urls['mcp']}/mcp", "body": INITIALIZE, "accept": "application/json, text/event-stream"}
        await page.goto(friend)
        for call, word, header in ((api, "hello page", "ratelimit"), (mcp, "serverInfo", "mcp-session-id")):
            answer = await page.evaluate(CALL, {**call, "token": GOOD})
            assert (answer["status"], word in answer["text"]) == (200, True), answer
            assert header in answer["seen"]
            refused = await page.evaluate(CALL, {**call, "token": "wrong"})
            assert (refused["status"], "www-authenticate" in refused["seen"]) == (401, True), refused
        await page.goto(stranger)
        for call in (api, mcp):
            assert (await page.evaluate(CALL, {**call, "token": GOOD}))["status"] == 0
