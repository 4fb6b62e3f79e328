"""Logging in in a browser where several processes share a Redis, and where that does not answer."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import httpx2
import pytest
from nexus_auth.browser.sessions import csrf_token
from token_issuer import AUDIENCE

PUBLIC = "http://nexus.localhost"


@pytest.fixture
def started(served, issuer, redis_proxy):
    """A function that starts one of several platforms behind one address."""

    async def start():
        platform = await served(
            beside=("redis",), auth_service_url=issuer.url, jwt_audience=AUDIENCE, auth_browser_login=True,
            oauth2_client_id="pages", auth_resource_url=PUBLIC, redis_url=redis_proxy.url,
            redis_timeout=10, store="redis",
        )  # fmt: skip
        return platform.urls["api"]

    return start


@pytest.fixture
async def browser():
    """Its cookies are for every port of a host."""
    async with httpx2.AsyncClient(timeout=20) as client:
        yield client


async def way_back(browser, url):
    """Begin a login, and return the path that the issuer sends the browser to."""
    begun = await browser.get(f"{url}/auth/login")
    allowed = await browser.get(begun.headers["location"])
    return allowed.headers["location"].removeprefix(PUBLIC)


def headers(browser):
    """What a page's request has behind a proxy that keeps the Host."""
    token = csrf_token(browser.cookies["nexus"])
    return {"x-csrf-token": token, "origin": PUBLIC, "host": PUBLIC.removeprefix("http://")}


async def until(browser, url, status):
    async with asyncio.timeout(5):
        while (await browser.get(url)).status_code != status:
            await asyncio.sleep(0.02)


async def test_each_process_knows_who_is_logged_in(started, browser, issuer):
    issuer.name = f"{issuer.url}/"  # compared letter by letter, also by a process that has not begun the login
    one, other = await started(), await started()
    assert (await browser.get(other + await way_back(browser, one))).status_code == 303
    for url in (one, other):
        called = await browser.post(f"{url}/api/workflows/whoami/execute", json={}, headers=headers(browser))
        assert called.json()["result"]["user"] == "alice"
    cookies = f"nexus={browser.cookies['nexus']}"
    assert (await browser.post(f"{other}/auth/logout", headers=headers(browser))).status_code == 204
    async with httpx2.AsyncClient(headers={"cookie": cookies}) as thief:
        await until(thief, f"{one}/api/workflows", 401)


async def test_nobody_is_let_in_while_the_store_does_not_answer(started, browser, redis_proxy):
    url = await started()
    await browser.get(url + await way_back(browser, url))
    assert (await browser.get(f"{url}/api/workflows")).status_code == 200
    session_id, back = browser.cookies["nexus"], await way_back(browser, url)
    redis_proxy.mode = "refuse"
    await until(browser, f"{url}/api/workflows", 503)
    for method, path in (("POST", "/api/workflows/read/execute"), ("GET", "/auth/session"), ("GET", back),
                         ("POST", "/auth/logout")):  # fmt: skip
        answer = await browser.request(method, url + path, headers=headers(browser))
        assert (answer.status_code, answer.json()["code"]) == (503, "backend_unavailable"), urlsplit(path).path
        assert "set-cookie" not in answer.headers
    assert browser.cookies["nexus"] == session_id
    redis_proxy.mode = "pass"
    await until(browser, f"{url}/api/workflows", 200)
