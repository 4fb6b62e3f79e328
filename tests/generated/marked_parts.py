"""Parts of pages that are generated: what stands between two comments is replaced.

<!-- generated: NAME -->
...
<!-- end of NAME -->
"""

from __future__ import annotations

import re

FILES: dict[str, object] = {}


def replaced(page: str, name: str, part: str) -> str:
    """Return a page with another part.

    Args:
        page: The page.
        name: The part's name in the comments.
        part: What stands there now.

    Raises:
        ValueError: The page does not have the part exactly once.
    """
    start, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
    if page.count(start) != 1 or page.count(end) != 1:
        raise ValueError(f"there must be one pair of comments {start} and {end}")
    before, _, rest = page.partition(start)
    return f"{before}{start}\n\n{part.strip()}\n\n{end}{rest.partition(end)[2]}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown; a bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    text = "\n".join(f"| {' | '.join(line)} |".replace("| --- ", "|---").replace("--- |", "---|") for line in lines)
    return re.sub(r"\|  (?=\|)", "| ", text)
