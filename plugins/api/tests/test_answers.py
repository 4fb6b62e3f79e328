"""`/api/answers/{token}`: questions by their links."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Literal

import asking
import httpx2
import pytest

from nexus_core import Caller, Context, Invocation

HTML = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"accept": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
CHROMIUM = "/usr/bin/chromium"
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


@dataclass
class Parcel:
    size: Literal["small", "large"]
    count: int
    note: str | None = None
    insured: bool = False


class Page(HTMLParser):
    """What a browser sees of a page: its tags with attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


class Platform:
    """A served platform, and links to what its workflow asks."""

    def __init__(self, nexus, client):
        self.nexus, self.client = nexus, client

    async def ask(self, schema, question="Ship it?", prefix="", **more):
        """Let a run ask, and return it with the path of the link."""
        asked = asyncio.get_running_loop().create_future()
        self.plan = (question, schema, {"notify": asked.set_result} | more)
        run = self.nexus.submit(Invocation("asks", {}, credentials={"authorization": "Bearer ann"}))
        found = await asyncio.wait_for(asked, 10)
        if self.nexus.options.public_url:
            assert found.link == f"{self.nexus.options.public_url}/api/answers/{found.token}"
        return run, f"{prefix}/api/answers/{found.token}"

    async def page(self, path, status=200):
        reply = await self.client.get(path, headers=HTML)
        assert reply.status_code == status, reply.text
        return Page(reply.text)

    async def send(self, path, fields, **headers):
        return await self.client.post(path, data=fields, headers=HTML | {"origin": "null"} | headers)


@pytest.fixture
def links(make_nexus, serve):
    """A function that serves a platform with options."""
    clients = []

    async def start(*plugins, **options):
        nexus = make_nexus(*plugins, **options)

        @nexus.workflow
        async def asks(context: Context) -> object:
            question, schema, more = platform.plan
            return await context.ask(question, schema, **more)

        client = httpx2.AsyncClient(base_url=await serve(nexus), timeout=20)
        clients.append(client)
        platform = Platform(nexus, client)
        return platform

    return start


@pytest.fixture
async def platform(links):
    found = await links()
    yield found
    await found.client.aclose()


async def test_a_boolean_is_two_buttons(platform):
    run, path = await platform.ask(bool, details={"order": 17, "to": "Bremen", "lines": [1, 2]}, timeout=3600)
    page = await platform.page(path)
    buttons = [(each["name"], each["value"]) for each in page.of("button")]
    assert buttons == [("answer", "true"), ("answer", "false")]
    for part in ("The workflow asks asks:", "Ship it?", "order 17", "to Bremen", "until 20", run.id):
        assert part in page.text
    assert [form.get("action") for form in page.of("form")] == [None]
    reply = await platform.send(path, {"answer": "true"})
    assert (reply.status_code, "Thank you" in Page(reply.text).text) == (200, True)
    assert (await run.outcome()).value is True


async def test_to_look_at_a_link_answers_nothing(platform):
    run, path = await platform.ask(bool)
    for method in ("GET", "HEAD"):
        for query in ("", "?answer=true"):
            assert (await platform.client.request(method, path + query, headers=HTML)).status_code == 200
    assert run.status == "waiting"
    assert (await platform.client.put(path, json={"answer": True})).status_code == 405


async def test_the_headers_of_every_reply(platform):
    _, path = await platform.ask(bool)
    client = platform.client
    replies = [
        await client.get(path, headers=HTML), await client.get(path, headers=JSON),
        await client.get(path + "x", headers=HTML), await client.get(path + "x", headers=JSON),
        await platform.send(path, {"answer": "x"}), await platform.send(path, {"answer": "true"}),
        await platform.send(path, {"answer": "true"}),
    ]  # fmt: skip
    assert [reply.status_code for reply in replies] == [200, 200, 404, 404, 422, 200, 409]
    for reply in replies:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "script" not in policy
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"


async def test_the_style_is_the_one_that_the_policy_allows(platform):
    import base64
    import hashlib

    _, path = await platform.ask(bool)
    reply = await platform.client.get(path, headers=HTML)
    style = re.search(r"<style>(.*)</style>", reply.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in reply.headers["content-security-policy"]
    assert "<script" not in reply.text
    assert " style=" not in reply.text


async def test_programs_use_json(platform):
    run, path = await platform.ask(int, "How many?")
    shown = await platform.client.get(path, headers=JSON)
    assert (shown.status_code, shown.json()["question"], shown.json()["status"]) == (200, "How many?", "open")
    assert "secret" not in shown.text
    wrong = await platform.client.post(path, json={"answer": "x"})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert wrong.json()["errors"][0]["pointer"] == "/answer"
    assert (await platform.client.post(path, json={"value": 1})).status_code == 400
    reply = await platform.client.post(path, json={"answer": 3})
    assert (reply.status_code, reply.json()["answered_by"]) == (200, "link")
    assert (await run.outcome()).value == 3
    again = await platform.client.post(path, json={"answer": 4})
    assert (again.status_code, again.json()["code"], again.json()["question_status"]) == (
        409, "question_closed", "answered",
    )  # fmt: skip
    assert (await platform.client.get(path, headers=JSON)).status_code == 409


@pytest.mark.parametrize(
    ("schema", "sent", "value"),
    [
        (Literal["red", "blue"], '"blue"', "blue"),
        (Literal["red", "blue"], "blue", "blue"),
        ({"enum": ["1", 1, None, {"a": [2]}]}, "1", 1),
        ({"enum": ["1", 1, None, {"a": [2]}]}, '"1"', "1"),
        ({"enum": ["1", 1, None, {"a": [2]}]}, '{"a":[2]}', {"a": [2]}),
        ({"enum": list(range(20))}, "13", 13),
        (str, " two\r\nlines ", " two\nlines "),
        (str, "", ""),
        (int, "9007199254740993", 9007199254740993),
        (float, "1.5e3", 1500.0),
        (int | None, "", None),
        (int | None, "4", 4),
        (bool | None, "false", False),
        (list[int], "[1, 2]", [1, 2]),
        ({}, '{"free": true}', {"free": True}),
    ],
)
async def test_values_of_one_field(platform, schema, sent, value):
    run, path = await platform.ask(schema)
    assert (await platform.send(path, {"answer": sent})).status_code == 200
    assert (await run.outcome()).value == value


async def test_which_fields_a_schema_has(platform):
    async def controls(schema):
        _, path = await platform.ask(schema)
        page = await platform.page(path)
        return [(tag, each.get("type")) for tag, each in page.tags if tag in ("input", "select", "textarea")]

    assert await controls(Literal["a", "b"]) == [("input", "radio")] * 2
    assert await controls({"enum": list(range(20))}) == [("select", None)]
    assert await controls(str) == [("input", "text")]
    assert await controls({"type": "string", "format": "date"}) == [("input", "date")]
    assert await controls({"type": "string", "maxLength": 1000}) == [("textarea", None)]
    assert await controls(int) == [("input", "number")]
    assert await controls(list[int]) == [("textarea", None)]
    assert await controls(dict[str, int]) == [("textarea", None)]
    assert await controls(Parcel) == [
        ("input", "radio"), ("input", "radio"), ("input", "number"), ("input", "text"),
        ("input", "radio"), ("input", "radio"),
    ]  # fmt: skip


async def test_an_object_has_a_field_for_each_member(platform):
    run, path = await platform.ask(Parcel)
    fields = {"answer.size": '"large"', "answer.count": "2", "answer.note": "", "answer.insured": "true"}
    assert (await platform.send(path, fields)).status_code == 200
    assert (await run.outcome()).value == {"size": "large", "count": 2, "note": None, "insured": True}


async def test_errors_are_next_to_the_fields_with_what_was_typed(platform):
    run, path = await platform.ask({
        "type": "object",
        "properties": {"size": {"enum": ["small", "large"]}, "count": {"type": "integer", "minimum": 2}},
        "required": ["size", "count"],
    })  # fmt: skip
    reply = await platform.send(path, {"answer.size": '"large"', "answer.count": "1"})
    assert reply.status_code == 422
    page = Page(reply.text)
    assert [each["value"] for each in page.of("input") if "checked" in each] == ['"large"']
    assert [each["value"] for each in page.of("input") if each["type"] == "number"] == ["1"]
    assert reply.text.count('class="error"') == 1
    reply = await platform.send(path, {"answer.count": "two"})
    assert reply.text.count('class="error"') == 2
    assert "missing" in Page(reply.text).text
    assert "expected integer" in Page(reply.text).text
    assert run.status == "waiting"
    assert (await platform.send(path, {"answer.size": "small", "answer.count": "2"})).status_code == 200


async def test_json_that_is_none_is_shown_again(platform):
    _, path = await platform.ask(list[int])
    reply = await platform.send(path, {"answer": "[1, </textarea><script>"})
    assert (reply.status_code, "not valid JSON" in reply.text, "<script" in reply.text) == (422, True, False)
    reply = await platform.send(path, {"answer": '[1, "x"]'})
    assert "/answer/1: expected integer" in Page(reply.text).text


async def test_texts_of_workflows_and_callers_are_no_markup(platform):
    schema = {
        "type": "object", "title": EVIL, "required": [EVIL],
        "properties": {
            EVIL: {"enum": [EVIL, "b"], "title": EVIL, "description": EVIL},
            "long": {"enum": [*range(20), EVIL], "default": EVIL},
            "text": {"type": "string", "default": EVIL, "title": EVIL},
            "area": {"type": "string", "default": "</textarea>" + EVIL, "maxLength": 900},
        },
    }  # fmt: skip
    _, path = await platform.ask(schema, EVIL, details={EVIL: EVIL, "deep": {EVIL: [EVIL]}, "eye": "a\u202eb"})
    replies = [
        await platform.client.get(path, headers=HTML),
        await platform.send(path, {"answer.text": EVIL, f"answer.{EVIL}": EVIL, "answer.long": EVIL, EVIL: EVIL}),
    ]
    for reply in replies:
        page = Page(reply.text)
        assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img"})
        assert not [each for _, each in page.tags if any(name.startswith("on") for name in each)]
        assert reply.text.count("alert(1)") == reply.text.count("&lt;script&gt;alert(1)")
        assert "alert(1)" in page.text
        assert "\u202e" not in reply.text
    _, path = await platform.ask({"type": "array", "items": {"enum": [EVIL]}}, EVIL)
    reply = await platform.send(path, {"answer": '["</textarea><script>x</script>"]'})
    assert (reply.status_code, "<script" in reply.text) == (422, False)


@pytest.mark.parametrize("token", ["x", "a.1.b", "..", ".1.", "%00.1.x", "a.99999999999.b", "%3Cscript%3E", "\u00e9"])
async def test_links_that_nobody_has_made(platform, token):
    page = await platform.client.get(f"/api/answers/{token}" if token != ".." else "/api/answers/a..b", headers=HTML)
    assert (page.status_code, "<script" in page.text, "not valid" in page.text) == (404, False, True)
    problem = await platform.client.post(f"/api/answers/{token}x", json={"answer": True})
    assert (problem.status_code, problem.json()["code"]) == (404, "question_not_found")


async def test_another_secret_is_not_valid(platform):
    run, path = await platform.ask(bool)
    assert (await platform.send(path[:-1] + ("A" if path[-1] != "A" else "B"), {"answer": "true"})).status_code == 404
    assert (await platform.send(path.rpartition(".")[0] + ".", {"answer": "true"})).status_code == 404
    assert run.status == "waiting"


async def test_links_of_closed_questions(platform):
    run, used = await platform.ask(bool)
    await platform.send(used, {"answer": "false"})
    await run.outcome()
    assert "answered before" in (await platform.page(used, 409)).text
    assert (await platform.send(used, {"answer": "true"})).status_code == 409
    run, late = await platform.ask(bool, timeout=0.01, default=False)
    await run.outcome()
    assert "expired" in (await platform.page(late, 409)).text
    run, left = await platform.ask(bool)
    run.cancel()
    await run.wait(10)
    assert "no longer asked" in (await platform.page(left, 409)).text


async def test_a_link_counts_once(platform):
    run, path = await platform.ask(int)
    replies = await asyncio.gather(*(platform.send(path, {"answer": str(each)}) for each in range(6)))
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409, 409, 409, 409]
    assert (await run.outcome()).value == [reply.status_code for reply in replies].index(200)


async def test_link_and_caller_answer_the_same_question(platform):
    run, path = await platform.ask(bool)
    view = await platform.nexus.view(Caller())
    await view.questions.answer(run.id, 1, True)
    assert (await platform.send(path, {"answer": "false"})).status_code == 409


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"answer=true", "text/plain"),
        (b"answer=true&answer=false", FORM["content-type"]),
        (b"answer=%ff", FORM["content-type"]),
        (b"answer=\xff", FORM["content-type"]),
        (b"&".join(b"f%d=1" % each for each in range(1000)), FORM["content-type"]),
        (b'--x\r\nContent-Disposition: form-data; name="answer"\r\n\r\ntrue\r\n--x--\r\n', "multipart/form-data"),
        (b"[true]", "application/json"),
        (b"{", "application/json"),
    ],
)
async def test_bodies_that_are_no_answer(platform, body, kind):
    run, path = await platform.ask(bool)
    reply = await platform.client.post(path, content=body, headers=HTML | {"content-type": kind})
    assert (reply.status_code, reply.headers["content-type"]) == (400, "text/html; charset=utf-8")
    assert run.status == "waiting"


async def test_bodies_are_limited(links):
    platform = await links(max_body_bytes=200_000)
    run, path = await platform.ask(str)
    reply = await platform.send(path, {"answer": "x" * 300_000})
    assert reply.status_code == 413
    reply = await platform.send(path, {"answer": "x" * 100_000})
    assert (reply.status_code, "at most 65536" in reply.text) == (422, True)
    assert (await platform.client.post(path, json={"answer": "x" * 100_000})).status_code == 413
    assert run.status == "waiting"
    await platform.client.aclose()


async def test_no_credential_is_asked_for_and_none_is_read(links):
    platform = await links(asking.Users())
    run, path = await platform.ask(bool, to="user:bob")
    assert (await platform.client.get("/api/questions")).status_code == 401
    await platform.page(path)
    reply = await platform.send(path, {"answer": "true"}, authorization="Bearer mallory")
    assert reply.status_code == 200
    assert (await run.outcome()).value is True
    await platform.client.aclose()


@pytest.mark.parametrize("origin", ["null", "https://evil.example", "https://nexus.example.com"])
async def test_forms_are_taken_behind_a_prefix_whatever_page_they_are_from(links, origin):
    platform = await links(public_url="https://nexus.example.com/tools")
    run, path = await platform.ask(bool, prefix="/tools")
    assert (await platform.page(path)).of("form")[0].get("action") is None
    reply = await platform.send(path, {"answer": "true"}, origin=origin, **{"sec-fetch-site": "cross-site"})
    assert reply.status_code == 200
    assert (await run.outcome()).value is True
    for other in ("/tools/api/workflows/asks/execute", "/tools/api/sessions", "/tools/api/answers"):
        refused = await platform.client.post(other, json={}, headers={"origin": "null"})
        assert refused.status_code == 403
    await platform.client.aclose()


async def test_a_name_of_another_site_is_refused(platform):
    _, path = await platform.ask(bool)
    assert (await platform.client.get(path, headers={"host": "evil.example"})).status_code == 421


async def test_no_log_has_the_token(links, caplog):
    caplog.set_level(logging.DEBUG)
    platform = await links(api_middleware=["logging"])
    _, path = await platform.ask(bool)
    await platform.page(path)
    await platform.send(path, {"answer": "x"})
    await platform.client.aclose()
    own = [each.getMessage() for each in caplog.records if not each.name.startswith("http")]
    assert any("/api/answers/***" in each for each in own)
    assert not [each for each in own if path.rpartition(".")[2] in each]


async def test_a_page_is_quick(platform):
    _, path = await platform.ask({"enum": [f"choice {number}" for number in range(3000)]})
    begin = time.perf_counter()
    await platform.page(path)
    await platform.send(path, {"answer": "x"})
    assert time.perf_counter() - begin < 2


@pytest.mark.timeout(90)
async def test_a_browser_sends_the_forms(platform):
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not os.path.exists(CHROMIUM):
        pytest.skip("chromium is not installed")
    url = str(platform.client.base_url).rstrip("/")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        refused, sent = [], []
        page.on("console", lambda each: refused.append(each.text) if "Security Policy" in each.text else None)
        page.on("request", lambda each: sent.append((each.method, each.headers.get("origin"))))
        run, path = await platform.ask(bool, EVIL)
        await page.goto(url + path)
        assert EVIL in await page.inner_text("h1")
        await page.get_by_role("button", name="Yes").click()
        assert (await run.outcome()).value is True
        run, path = await platform.ask(Parcel)
        await page.goto(url + path)
        await page.get_by_label("large").check()
        await page.get_by_label("Count").fill("2")
        await page.get_by_role("button", name="Send").click()
        assert (await run.outcome()).value == {"size": "large", "count": 2, "note": None, "insured": False}
        run, path = await platform.ask(list[int])
        await page.goto(url + path)
        await page.get_by_label("Answer (JSON)").fill('[1, "x"]')
        await page.get_by_role("button", name="Send").click()
        await page.get_by_text("/answer/1: expected integer").wait_for()
        await page.get_by_label("Answer (JSON)").fill("[1, 2]")
        await page.get_by_role("button", name="Send").click()
        assert (await run.outcome()).value == [1, 2]
        await page.get_by_text("Thank you").first.wait_for()
        await browser.close()
    assert not refused  # the page keeps to its own policy
    assert {origin for method, origin in sent if method == "POST"} == {"null"}
