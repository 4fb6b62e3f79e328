"""Logging in in a browser, and what other sites can make of it: a real issuer, a served platform, HTTP with cookies."""

from __future__ import annotations

import asyncio
import json
import os
import time
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import websockets
from nexus_auth.browser.login import HOME, _local
from nexus_auth.browser.sessions import BrowserSessions, csrf_token
from token_issuer import AUDIENCE

from nexus_core import AuthenticationError, ConfigurationError, Context, Invocation, Principal
from nexus_core.errors import StateLimitReached
from nexus_core.state.memory_store import MemoryStore

OPTIONS = {"auth_browser_login": True, "oauth2_client_id": "pages", "jwt_audience": AUDIENCE}


@pytest.fixture
async def site(served, issuer):
    platform = await served(channels=("api",), auth_service_url=issuer.url, **OPTIONS)
    platform.url = platform.urls["api"]
    return platform


@pytest.fixture
async def browser(site):
    """A browser that keeps cookies and does not follow redirects by itself."""
    async with httpx2.AsyncClient(base_url=site.url, timeout=20) as client:
        yield client


async def log_in(browser, following=None):
    """Do what a person does, and return the last answer."""
    begun = await browser.get("/auth/login", params={} if following is None else {"next": following})
    assert begun.status_code == 303
    allowed = await browser.get(begun.headers["location"])
    return await browser.get(allowed.headers["location"])


async def test_a_person_logs_in_acts_and_logs_out(site, browser, issuer):
    assert (await browser.get("/auth/session")).status_code == 401
    back = await log_in(browser, "/docs?x=1")
    assert (back.status_code, back.headers["location"]) == (303, f"{site.url}/docs?x=1")
    assert back.headers["cache-control"] == "no-store"
    [cookie] = [each for each in back.headers.get_list("set-cookie") if each.startswith("nexus=")]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    session = (await browser.get("/auth/session")).json()
    assert (session["user_id"], session["tenant_id"]) == ("alice", "acme")
    seen = (await browser.get("/api/workflows")).json()["workflows"]
    assert [each["name"] for each in seen] == ["read", "whoami"]
    headers = {"x-csrf-token": session["csrf_token"], "origin": site.url}
    called = await browser.post("/api/workflows/read/execute", json={}, headers=headers)
    assert called.json()["result"] == "data"
    assert (await browser.post("/api/workflows/write/execute", json={}, headers=headers)).status_code == 403
    cookies = dict(browser.cookies)
    ended = await browser.post("/auth/logout", headers=headers)
    assert ended.status_code == 204
    assert not dict(browser.cookies).get("nexus")
    async with asyncio.timeout(5), httpx2.AsyncClient(base_url=site.url, cookies=cookies) as thief:
        while (await thief.get("/api/workflows")).status_code != 401:
            await asyncio.sleep(0.05)


async def test_the_token_never_reaches_the_browser_and_the_store_never_learns_the_id(site, browser):
    back = await log_in(browser)
    said = repr(back.headers) + (await browser.get("/auth/session")).text
    assert "eyJ" not in said
    [key] = site.nexus.store(None, "store").keys("login:")
    assert browser.cookies["nexus"] not in key


@pytest.mark.parametrize(
    "changed",
    [
        lambda url: url.replace("state=", "state=x"),
        lambda url: url.replace("&state=", "&stat="),
        lambda url: url.replace("iss=http", "iss=https"),
        lambda url: url[: url.index("&iss=")],
        lambda url: url.replace("code=", "code=x"),
        lambda url: url.replace("code=", "error=access_denied&x="),
        lambda url: url.split("?")[0],
    ],
    ids=["another state", "no state", "another issuer", "no issuer", "another code", "denied", "nothing"],
)
async def test_a_login_that_fails_begins_no_session(browser, changed):
    begun = await browser.get("/auth/login")
    allowed = await browser.get(begun.headers["location"])
    back = await browser.get(changed(allowed.headers["location"]))
    assert back.status_code == 401
    assert back.json()["code"] == "authentication_failed"
    assert "nexus" not in browser.cookies


async def test_a_link_of_somebody_elses_login_logs_nobody_in(site, browser):
    begun = await browser.get("/auth/login")
    link = (await browser.get(begun.headers["location"])).headers["location"]
    async with httpx2.AsyncClient() as victim:
        assert (await victim.get(link)).status_code == 401
        await victim.get(f"{site.url}/auth/login")
        assert (await victim.get(link)).status_code == 401
    assert (await browser.get(link)).status_code == 303
    first = browser.cookies["nexus"]
    assert (await browser.get(link)).status_code == 401  # the code is used up, and so is the way back
    await log_in(browser)
    assert browser.cookies["nexus"] != first


async def test_a_login_serves_once(site, browser):
    begun = await browser.get("/auth/login")
    login = {"cookie": f"nexus-login={browser.cookies['nexus-login']}"}
    ways_back = [(await browser.get(begun.headers["location"])).headers["location"] for _ in range(2)]
    assert ways_back[0] != ways_back[1]  # two codes, both good, and one state
    async with httpx2.AsyncClient() as other:
        answers = [await other.get(way, headers=login) for way in ways_back]
    assert [answer.status_code for answer in answers] == [303, 401]
    assert "used before" in answers[1].json()["detail"]


@pytest.mark.parametrize("following", ["/docs/a.b.html?v=1.2.3#x.y", "/api/v1.0/items", "/a..b"])
async def test_the_way_back_may_have_dots(site, browser, following):
    assert (await log_in(browser, following)).headers["location"] == site.url + following


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "203.0.113.7", "127.0.0.1.evil.example"])
async def test_another_host_is_never_where_the_issuer_sends_people(served, issuer, host):
    platform = await served(auth_service_url=issuer.url, allowed_hosts=["*"], **OPTIONS)
    async with httpx2.AsyncClient(base_url=platform.urls["api"], headers={"host": host}) as browser:
        for path in ("/auth/login", "/auth/callback?state=x&code=y"):
            answer = await browser.get(path)
            assert answer.status_code in (401, 421), (path, answer.text)
            assert host not in answer.headers.get("location", "")
        assert (await browser.get("/auth/login")).json()["code"] == "host_not_allowed"


@pytest.mark.parametrize("listed", ["Pages.Example", "pages.example:8000"])
async def test_people_may_log_in_at_a_host_that_is_listed(served, issuer, listed):
    platform = await served(auth_service_url=issuer.url, allowed_hosts=[listed, "127.0.0.1"], **OPTIONS)
    headers = {"host": "pages.example:8000"}
    async with httpx2.AsyncClient(base_url=platform.urls["api"], headers=headers) as browser:
        begun = await browser.get("/auth/login")
    assert begun.status_code == 303
    [back] = parse_qs(urlsplit(begun.headers["location"]).query)["redirect_uri"]
    assert back == "http://pages.example:8000/auth/callback"


@pytest.mark.parametrize("scheme", ["Cookie", "cookie", "COOKIE"])
async def test_the_id_of_a_session_is_no_credential_of_its_own(served, issuer, scheme):
    """What protects browsers looks for the cookie: nothing else may stand for it, on any channel."""
    platform = await served(channels=("api", "cli", "mcp"), auth_service_url=issuer.url, **OPTIONS)
    async with httpx2.AsyncClient(base_url=platform.urls["api"]) as browser:
        await log_in(browser)
        session_id = browser.cookies["nexus"]
        assert (await browser.get("/api/workflows")).status_code == 200  # it is known now
    forged = {"authorization": f"{scheme} {session_id}"}
    for text in (f"{scheme} {session_id}", f" {scheme} {session_id}", f"\t{scheme}  {session_id}"):
        assert isinstance(await platform.call("read", authorization=text), AuthenticationError)
    async with httpx2.AsyncClient(headers=forged) as other:
        call = await other.post(f"{platform.urls['api']}/api/workflows/read/execute", json={})
        listed = await other.post(f"{platform.urls['cli']}/cli", json={"command": "list"})
        asked = await other.post(f"{platform.urls['mcp']}/mcp", json={"method": "tools/list"})
    assert [call.status_code, listed.status_code, asked.status_code] == [401, 401, 401]


async def test_a_session_that_was_put_there_by_somebody_else_is_not_taken_over(site, browser):
    back = await log_in(browser)
    earlier = browser.cookies["nexus"]
    assert (await browser.get("/api/workflows")).status_code == 200
    for there in ("chosen-by-somebody-else", earlier):
        begun = await browser.get("/auth/login")
        allowed = await browser.get(begun.headers["location"])
        cookies = f"nexus={there}; nexus-login={browser.cookies['nexus-login']}"
        async with httpx2.AsyncClient() as other:
            back = await other.get(allowed.headers["location"], headers={"cookie": cookies})
            assert other.cookies["nexus"] not in ("", there)
        assert back.status_code == 303
        assert await session_of(site, there) is None


async def session_of(site, session_id):
    """What the platform's store keeps under the id of a session: its token, and its end."""
    return await BrowserSessions(lambda: site.nexus.store(None, "store"), 1, https=False).token(session_id)


@pytest.mark.parametrize(
    "path",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "evil", "/a\r\nx: y", "/ä",
     "", "/" + "x" * 2000, None],
)  # fmt: skip
def test_the_way_back_stays_here(path):
    assert _local(path) == HOME


async def test_the_issuer_is_asked_with_pkce_and_a_state_of_its_own(site, browser):
    urls = [(await browser.get("/auth/login")).headers["location"] for _ in range(2)]
    asked = [{name: values[0] for name, values in parse_qs(urlsplit(url).query).items()} for url in urls]
    assert asked[0]["code_challenge_method"] == "S256"
    assert asked[0]["redirect_uri"] == f"{site.url}/auth/callback"
    assert all(asked[0][name] != asked[1][name] for name in ("state", "code_challenge"))


async def test_beginning_a_login_costs_the_issuer_nothing(browser, issuer):
    await browser.get("/auth/login")
    asked = issuer.asked.copy()
    await asyncio.gather(*(browser.get("/auth/login") for _ in range(10)))
    assert issuer.asked == asked


async def test_over_https_no_other_host_can_set_the_cookies(served, issuer):
    public = "https://nexus.example.com"
    platform = await served(auth_service_url=issuer.url, auth_resource_url=f"{public}/", **OPTIONS)
    async with httpx2.AsyncClient(base_url=platform.urls["api"]) as browser:
        begun = await browser.get("/auth/login")
        [kept] = begun.headers.get_list("set-cookie")
        allowed = await browser.get(begun.headers["location"])
        back = allowed.headers["location"]
        assert back.startswith(f"{public}/auth/callback?")
        name, _, value = kept.partition(";")[0].partition("=")
        answer = await browser.get(back.removeprefix(public), headers={"cookie": f"{name}={value}"})
        assert answer.headers["location"] == f"{public}/docs"
        cookies = [kept, *answer.headers.get_list("set-cookie")]
        assert [each.partition("=")[0] for each in cookies] == [
            "__Host-nexus-login", "__Host-nexus", "__Host-nexus-login"
        ]  # fmt: skip
        for cookie in cookies:  # else browsers do not take them
            assert "Path=/;" in cookie
            assert "Secure" in cookie
            assert "HttpOnly" in cookie
            assert "Domain" not in cookie
        session_id = cookies[1].partition(";")[0].partition("=")[2]
        good = {"cookie": f"__Host-nexus={session_id}", "x-csrf-token": csrf_token(session_id)}
        for origin, status in ((public, 200), ("http://nexus.example.com", 403), (platform.urls["api"], 403)):
            assert (await acted(browser, path="/auth/nothing", **good, origin=origin)).status_code == (
                404 if status == 200 else status
            )
        assert (await browser.get("/api/workflows", headers=good)).status_code == 200


async def test_an_issuer_that_is_away(site, browser, issuer):
    issuer.answers["/.well-known/openid-configuration"] = (500, {}, b"")
    answer = await browser.get("/auth/login")
    assert (answer.status_code, answer.json()["code"]) == (503, "backend_unavailable")
    assert "retry-after" in answer.headers


@pytest.mark.parametrize("request_", ["POST /auth/login", "GET /auth/logout", "GET /auth/nothing", "GET /auth"])
async def test_nothing_else_answers(browser, request_):
    method, path = request_.split()
    answer = await browser.request(method, path)
    assert answer.status_code in (404, 405)
    assert answer.headers["content-type"] == "application/problem+json"


# What other sites can make a browser send


async def acted(browser, method="POST", path="/api/workflows/read/execute", **headers):
    return await browser.request(method, path, json={}, headers=headers)


async def test_requests_of_other_sites_are_refused(site, browser):
    await log_in(browser)
    good = csrf_token(browser.cookies["nexus"])
    here, there = {"origin": site.url}, {"x-csrf-token": good}
    assert (await acted(browser, **here, **there)).status_code == 200
    assert (await acted(browser, **there, **{"sec-fetch-site": "same-origin"})).status_code == 200
    for headers in (
        {}, here, {**here, "x-csrf-token": ""}, {**here, "x-csrf-token": good[:-1]},
        {**here, "x-csrf-token": csrf_token("another")}, {**here, "x-csrf-token": "ä".encode("latin-1")},
        there, {**there, "origin": "https://evil.example"}, {**there, "origin": "null"},
        {**there, "origin": site.url.replace("http", "https")}, {**there, "origin": f"{site.url}.evil.example"},
        {**there, "sec-fetch-site": "same-site"}, {**there, "sec-fetch-site": "none"},
    ):  # fmt: skip
        answer = await acted(browser, **headers)
        assert answer.status_code == 403, headers
    assert (await acted(browser, path="/auth/logout")).status_code == 403
    runs = [run for run in site.nexus.runs.find() if run.workflow == "read"]
    assert len(runs) == 2


async def test_a_cookie_among_several_headers_is_seen(site, browser):
    await log_in(browser)
    cookies = [("cookie", f"nexus={browser.cookies['nexus']}"), ("cookie", "of=another")]
    async with httpx2.AsyncClient(base_url=site.url) as other:
        assert (await other.get("/api/workflows", headers=cookies)).status_code == 200
        answer = await other.post("/api/workflows/read/execute", json={}, headers=cookies)
    assert answer.json()["code"] == "origin_not_allowed"


async def test_a_form_of_a_link_needs_no_csrf_token(site, browser):
    asked = asyncio.get_running_loop().create_future()

    @site.nexus.workflow
    async def asks(context: Context) -> bool:
        return await context.ask("Ship it?", bool, to="user:bob", notify=asked.set_result)

    await log_in(browser)
    run = site.nexus.submit(Invocation("asks", {}, principal=Principal("ann")))
    path = f"/api/answers/{(await asyncio.wait_for(asked, 10)).token}"
    # What a browser sends for the form of a page without a referrer, with the cookie of whoever is logged in.
    headers = {"origin": "null", "sec-fetch-site": "same-origin", "accept": "text/html"}
    assert (await browser.post("/api/sessions", headers=headers)).status_code == 403
    assert (await browser.post("/api/answers", headers=headers)).status_code == 403
    replied = await browser.post(path, data={"answer": "true"}, headers=headers)
    assert (replied.status_code, "Thank you" in replied.text) == (200, True)
    assert (await run.outcome()).value is True


async def test_other_credentials_need_no_csrf_token(site, browser, issuer):
    await log_in(browser)
    answer = await acted(browser, authorization=f"Bearer {issuer.token(sub='bob')}")
    assert answer.json()["result"] == "data"
    who = await acted(browser, path="/api/workflows/whoami/execute", authorization=f"Bearer {issuer.token(sub='bob')}")
    assert who.json()["result"]["user"] == "bob"
    assert (await acted(browser, authorization="Bearer nobody")).status_code == 401


async def test_websockets_of_other_sites_are_refused(site, browser):
    await log_in(browser)
    url = site.url.replace("http", "ws") + "/api/ws"
    cookie = {"cookie": f"nexus={browser.cookies['nexus']}"}
    for origin in ("https://evil.example", "null", None):
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await websockets.connect(url, additional_headers=cookie, origin=origin)
    async with websockets.connect(url, additional_headers=cookie, origin=site.url) as socket:
        await socket.send(json.dumps({"type": "execute", "id": 1, "workflow": "whoami"}))
        while (reply := json.loads(await socket.recv()))["type"] != "result":
            assert reply["type"] == "event", reply
    assert reply["result"]["user"] == "alice"


async def test_the_cookie_counts_on_the_api_alone(served, issuer):
    platform = await served(channels=("api", "cli", "mcp"), auth_service_url=issuer.url, **OPTIONS)
    async with httpx2.AsyncClient(base_url=platform.urls["api"]) as browser:
        await log_in(browser)
        cookie = {
            "cookie": f"nexus={browser.cookies['nexus']}", "x-csrf-token": csrf_token(browser.cookies["nexus"]),
            "sec-fetch-site": "same-origin",
        }  # fmt: skip
        listed = await browser.post(f"{platform.urls['cli']}/cli", json={"command": "list"}, headers=cookie)
        assert listed.status_code == 401
        asked = await browser.post(f"{platform.urls['mcp']}/mcp", json={"method": "tools/list"}, headers=cookie)
        assert asked.status_code == 401


async def test_csrf_protection_can_be_left_to_others(served, issuer):
    platform = await served(auth_service_url=issuer.url, enable_csrf_protection=False, **OPTIONS)
    async with httpx2.AsyncClient(base_url=platform.urls["api"]) as browser:
        await log_in(browser)
        assert (await acted(browser)).status_code == 200


@pytest.mark.parametrize(
    "cookies",
    ["", "nexus", "nexus=", "nexus=a; nexus=b", "nexus=" + "x" * 100, "Nexus=a", "xnexus=a", "__Host-nexus=a",
     ";;;=;", "nexus=\xe4"],
)  # fmt: skip
def test_cookies_that_are_none(cookies):
    sessions = BrowserSessions(MemoryStore, 60, https=False)
    found = sessions.id_in(cookies.encode("latin-1"))
    assert found in (None, "ä")


async def test_a_session_ends_with_its_token_and_in_time():
    store = MemoryStore()
    sessions = BrowserSessions(lambda: store, 60, https=True)
    assert sessions.id_in(b"a=b; __Host-nexus=c ; nexus=d") == "c"
    now = time.time()
    for end, seconds in ((now + 10, 10), (now + 1000, 60), (None, 60), (now - 1, -1)):
        session_id, lasts = await sessions.begin("token", end, "ann")
        assert lasts == pytest.approx(seconds, abs=1)
        assert (await sessions.token(session_id) is not None) == (seconds > 0)
    await store.set(store.keys()[0], b"of somebody else", 60)
    for other in ("", "x", session_id):
        assert await sessions.token(other) is None


async def test_who_logs_out_is_logged_out_at_once_and_a_session_is_not_stored_for_longer_than_it_lasts():
    now = time.monotonic()
    store, ended = MemoryStore(clock=lambda: now), []
    sessions = BrowserSessions(lambda: store, 60, ended.append, https=False)
    kept, _ = await sessions.begin("token", None, "ann")
    left, _ = await sessions.begin("token", None, "ann")
    await sessions.end(left)
    await sessions.end("never begun here")
    assert ended == [f"cookie {left}", "cookie never begun here"]  # what is open with them ends
    assert (await sessions.token(left), await sessions.token(kept) is not None) == (None, True)
    now += 61
    assert await store.get(store.keys()[0]) is None


async def test_logins_of_one_person_end_nobody_elses():
    store = MemoryStore(max_bytes=20_000)
    sessions = BrowserSessions(lambda: store, 60, https=True)
    others, _ = await sessions.begin("token of bob", None, "bob")
    begun = []

    async def log_in_often():
        for _ in range(100):
            begun.append((await sessions.begin("t" * 1000, None, "ann"))[0])

    with pytest.raises(StateLimitReached, match="browser logins"):
        await log_in_often()
    assert (await sessions.token(others))[0] == "token of bob"
    await sessions.end(begun[0])
    await sessions.begin("t" * 1000, None, "ann")


@pytest.mark.parametrize("missing", ["auth_service_url", "oauth2_client_id"])
async def test_what_is_missing_stops_the_start(platform, missing):
    options = {**OPTIONS, "auth_service_url": "https://auth.example.com"}
    with pytest.raises(ConfigurationError, match=missing):
        await platform(**{name: value for name, value in options.items() if name != missing})


async def test_it_needs_enable_auth(alone):
    with pytest.raises(ConfigurationError, match="enable_auth"):
        alone(auth_browser_login=True)


# Headers


async def test_browsers_are_told_to_be_careful(site, browser):
    for path in ("/docs", "/api/workflows", "/nothing"):
        headers = (await browser.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in headers
    assert headers["cache-control"] == "no-store"
    docs = (await browser.get("/docs")).headers
    assert docs.get_list("x-content-type-options") == ["nosniff"]
    assert "frame-ancestors 'none'" in docs["content-security-policy"]


async def test_https_is_insisted_on_where_it_is_used(site):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": "/nothing", "headers": [], "scheme": "https", "query_string": b"",
             "http_version": "1.1"}  # fmt: skip
    await site.nexus.asgi_app()(scope, receive, send)
    assert (b"strict-transport-security", b"max-age=31536000") in sent[0]["headers"]


async def test_the_headers_can_be_left_to_others(served):
    platform = await served(jwt_secret="a secret that is long enough for HS256 and more", enable_security_headers=False)
    async with httpx2.AsyncClient(base_url=platform.urls["api"]) as browser:
        assert "x-frame-options" not in (await browser.get("/api/workflows")).headers


CHROMIUM = "/usr/bin/chromium"


@pytest.mark.timeout(90)
async def test_the_documentation_page_works_for_who_is_logged_in(site):
    """A real browser: it is led to the issuer and back, and calls a workflow with its cookie."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not os.path.exists(CHROMIUM):
        pytest.skip("chromium is not installed")
    async with playwright.async_playwright() as driver:
        chromium = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await chromium.new_page()
        await page.goto(f"{site.url}/docs")
        await page.get_by_role("link", name="Log in").click()
        operation = page.locator("#operations-workflows-execute_whoami")
        await operation.wait_for(timeout=30_000)
        assert page.url == f"{site.url}/docs"
        await operation.locator(".opblock-summary-control").click()
        await operation.locator("button.execute").click()
        answer = operation.locator(".live-responses-table .response-col_description pre").first
        await answer.wait_for(timeout=15_000)
        assert '"user": "alice"' in await answer.inner_text()
        if path := os.environ.get("SCREENSHOT"):
            await page.screenshot(path=path)
        await chromium.close()
