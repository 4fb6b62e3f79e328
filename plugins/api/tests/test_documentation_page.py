"""The documentation page in a real browser, cut off from every other address."""

from __future__ import annotations

import os
import shutil

import callers
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"


@pytest.fixture
async def page():
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if not os.path.exists(CHROMIUM):
        pytest.skip("chromium is not installed")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page()
        page.problems, page.foreign = [], []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.foreign.append(request.url) if "127.0.0.1" not in request.url else None)
        yield page
        await browser.close()


@pytest.mark.timeout(90)
async def test_the_page_shows_and_calls_workflows(client, page):
    await page.goto(str(client.base_url) + "/docs")
    operation = page.locator("#operations-workflows-execute_add")
    await operation.wait_for(timeout=30_000)
    await operation.locator(".opblock-summary-control").click()
    body = operation.locator("textarea.body-param__text")
    await body.fill('{"a": 40, "b": 2}')
    await operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table .response-col_description pre").first
    await answer.wait_for(timeout=15_000)
    assert '"result": 42' in await answer.inner_text()
    if path := os.environ.get("SCREENSHOT"):
        await page.screenshot(path=path)
    assert page.problems == []
    assert [url for url in page.foreign if not url.startswith(("data:", "blob:"))] == []


@pytest.mark.timeout(90)
async def test_the_page_asks_for_a_token_where_callers_are_asked_who_they_are(make_nexus, serve, page):
    nexus = make_nexus(callers.Callers())
    callers.register(nexus)
    await page.goto(await serve(nexus) + "/docs")
    await page.get_by_text("Who are you?").wait_for(timeout=30_000)
    await page.get_by_label("Token or API key").fill("alice")
    await page.get_by_role("button", name="Show the API").click()
    operation = page.locator("#operations-workflows-execute_read_data")
    await operation.wait_for(timeout=30_000)
    await operation.locator(".opblock-summary-control").click()
    await operation.locator("textarea.body-param__text").fill('{"value": 42}')
    await operation.locator("button.execute").click()
    answer = operation.locator(".live-responses-table .response-col_description pre").first
    await answer.wait_for(timeout=15_000)
    assert '"result": 42' in await answer.inner_text()
    if path := os.environ.get("SCREENSHOT"):
        await page.screenshot(path=path)
    assert len(page.problems) == 2  # the document was refused, and nobody can log in here
    assert ["401" in problem or "404" in problem for problem in page.problems] == [True, True]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_has_the_apis_name_and_the_readers_colours(make_nexus, serve, page, scheme):
    await page.emulate_media(color_scheme=scheme)
    await page.goto(await serve(make_nexus(api_name="Shop & <Co>")) + "/")
    await page.locator("#operations-workflows-execute_add").wait_for(timeout=30_000)
    assert page.url.endswith("/docs")
    assert await page.title() == "Shop & <Co>"
    assert await page.locator(".errors-wrapper").count() == 0
    background = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    channels = [int(each) for each in background[background.index("(") + 1 : -1].split(",")[:3]]
    is_dark = background != "rgba(0, 0, 0, 0)" and sum(channels) < 3 * 128
    assert is_dark == (scheme == "dark")
    for tag in ("Catalog", "Runs", "Sessions", "Events"):
        assert await page.locator(f"#operations-tag-{tag}").count() == 1
    assert await page.locator("#operations-tag-default").count() == 0
    if path := os.environ.get("SCREENSHOT"):
        await page.screenshot(path=path.replace(".png", f"-{scheme}.png"))
    assert page.problems == []
