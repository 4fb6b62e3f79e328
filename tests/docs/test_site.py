"""The site that `make docs` builds: it has every page, its links lead somewhere, and it needs no network."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from doc_pages import DOCS, ROOT, environment

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "/usr/bin/chromium"
START = "docs/index"

TOO_WIDE = """() => [...document.querySelectorAll("article *")]
  .filter(element => element.getBoundingClientRect().right > window.innerWidth)
  .filter(element => !element.parentElement.closest(".table-wrapper, .highlight"))
  .map(element => element.outerHTML.slice(0, 100))"""
"""What stands out of a page, and can't be scrolled to by itself."""

PAGES = {
    "README", "CHANGELOG",
    *(page.removesuffix(".md") for page in DOCS),
    *(path.relative_to(ROOT).as_posix().removesuffix(".md") for path in ROOT.glob("plugins/*/README.md")),
}  # fmt: skip


def build(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as the Makefile does."""
    recipe = re.search(r"-m sphinx (.*?)\\\n(.*?) \. site$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    options = f"{recipe[1]} {recipe[2]}".replace("docs/site", str(ROOT / "docs" / "site"))
    options = options.replace(".cache/doctrees", str(target.parent / "doctrees"))
    command = [sys.executable, "-m", "sphinx", *options.split(), str(source), str(target)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=source, env=environment())


@pytest.fixture(scope="module", name="site")
def site_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "html"
    done = build(ROOT, target)
    assert done.returncode == 0, done.stderr
    return target


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def addresses(self, *names: str) -> list[tuple[str, str]]:
        """Return what the attributes of these names say, each with its element's name."""
        return [(tag, members[name] or "") for tag, members in self.found for name in names if name in members]


@functools.cache
def elements(page: Path) -> Elements:
    return Elements(page)


def pages_of(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def target_of(page: Path, address: str) -> Path:
    return Path(os.path.normpath(page.parent / unquote(urlsplit(address).path))) if urlsplit(address).path else page


def is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc) or urlsplit(address).scheme not in ("", "file")


@pytest.mark.timeout(300)
def test_every_page_is_in_the_navigation(site: Path) -> None:
    start = site / f"{START}.html"
    navigation = re.search(r'<div class="sidebar-tree">.*?</div>', start.read_text(encoding="utf-8"), re.DOTALL)
    assert navigation
    linked = [target_of(start, address) for address in re.findall(r'href="([^"#]+)"', navigation[0])]
    assert sorted({*linked, start}) == sorted(site / f"{page}.html" for page in PAGES)
    assert len(linked) == len(set(linked))


@pytest.mark.timeout(300)
def test_the_first_page_leads_to_the_start(site: Path) -> None:
    assert [target_of(site / "index.html", a) for _, a in elements(site / "index.html").addresses("href")] == [
        site / f"{START}.html"
    ]


@pytest.mark.timeout(300)
def test_no_page_needs_the_network(site: Path) -> None:
    assert len(pages_of(site)) > 40
    for page in pages_of(site):
        for tag, address in elements(page).addresses("src", "href", "srcset", "data", "action", "poster"):
            assert tag == "a" or not is_elsewhere(address) or address.startswith("data:"), f"{page}: {tag} {address}"
    for sheet in site.rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import\s+)[\"']?([^\"')\s]+)", sheet.read_text(encoding="utf-8")):
            assert not is_elsewhere(address) or address.startswith("data:"), f"{sheet}: {address}"


@pytest.mark.timeout(300)
def test_every_link_leads_somewhere(site: Path) -> None:
    identifiers = {
        page: {members["id"] for _, members in elements(page).found if "id" in members} for page in pages_of(site)
    }
    for page in identifiers:
        for tag, address in elements(page).addresses("src", "href"):
            if is_elsewhere(address):
                continue
            target, fragment = target_of(page, address), urlsplit(address).fragment
            assert target.is_file(), f"{page.relative_to(site)}: {tag} {address}"
            if fragment and target in identifiers:
                assert fragment in identifiers[target], f"{page.relative_to(site)}: {tag} {address}"


@pytest.mark.timeout(300)
def test_what_is_wrong_with_a_page_is_an_error(tmp_path: Path) -> None:
    pages = {"docs/index.md": "# Start\n\n[gone](gone.md)\n", "docs/lost/lost.md": "# Lost\n"}
    for name, content in pages.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    done = build(tmp_path / "source", tmp_path / "html")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "lost.md: WARNING: document isn't included in any toctree" in done.stderr


@pytest.fixture(name="browser")
def browser_fixture():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not os.path.exists(CHROMIUM):
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(name="served")
def served_fixture(site: Path) -> Iterator[str]:
    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Be silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.timeout(300)
def test_in_a_browser_pages_fit_a_phone_and_can_be_searched(site: Path, served: str, browser) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.set_default_timeout(60_000)
    asked, problems = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    for name in (
        START,
        "docs/reference/options",
        "docs/reference/errors",
        "docs/reference/hooks/register_servers",
        "plugins/cli/README",
    ):
        page.goto(f"{served}/{name}.html")
        assert page.evaluate(TOO_WIDE) == [], f"{name} is too wide"
    result = page.locator("#search-results li a", has_text="nexus_renew_login").first
    page.goto(f"{served}/search.html?q=nexus_renew_login")
    result.wait_for()
    assert problems == []
    page.goto((site / "search.html").as_uri() + "?q=nexus_renew_login")  # from a disk
    result.wait_for()
    addresses = [address for address in asked if not address.startswith(f"{served}/")]
    assert {urlsplit(address).scheme for address in addresses} <= {"file", "data"}
