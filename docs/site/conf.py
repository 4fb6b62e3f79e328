"""How the pages become a site: `make docs`. They are written for reading as they are, so everything else is here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
START = "docs/index"

NAVIGATION = {
    "Start": ["docs/start/*", "docs/examples/quickstart/README"],
    "How to": ["docs/how-to/*"],
    "Reference": ["docs/reference/*", "docs/reference/hooks/*"],
    "Plugins": ["plugins/*/README"],
    "Understand": ["docs/architecture", "docs/understand/*"],
    "Nexus": ["README", "CHANGELOG"],
}
"""Every page, under its heading. With an asterisk: all that there are."""

project = "Nexus"
html_title = "Nexus"
extensions = ["myst_parser"]
root_doc = START
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md", "plugins/*/README.md"]
exclude_patterns = [
    ".*",
    "bench-results",
    "build",
    "dist",
    "docs/site",
    "nexus_core",
    "plugins/*/nexus_*",
    "plugins/*/tests",
    "site",
    "tests",
]  # fmt: skip
myst_heading_anchors = 3
highlight_language = "text"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["nexus.css"]
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False
smartquotes = False
html_theme_options = {"sidebar_hide_name": False}


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the navigation at the end of the start page, where the readers of the source do not stumble over it."""
    if page == START:
        for caption, pages in NAVIGATION.items():
            there = [each for each in pages if "*" in each or ROOT.joinpath(f"{each}.md").exists()]
            lines = [
                "```{toctree}",
                ":hidden:",
                ":titlesonly:",
                ":glob:",
                f":caption: {caption}",
                "",
                *(f"/{each}" for each in there),
            ]
            source[0] += "\n\n" + "\n".join([*lines, "```"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    return {"parallel_read_safe": True}
