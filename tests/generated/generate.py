"""Write the files, or the parts of files, that follow from other files: `make generate`.

Each module beside this one that has ``FILES`` takes part: it maps a path below the repository's root to a function that
takes the text the file has now, or ``""``, and returns the text it must have. Several modules may own parts of one
file. ``--check`` writes nothing: it prints what would change, and exits with 1 if anything would.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
Generator = Callable[[str], str]


def generators() -> list[tuple[str, Generator]]:
    """Return each generated path with what generates it, by module and path."""
    found = []
    for module in sorted(each.name for each in pkgutil.iter_modules([str(Path(__file__).parent)])):
        if module != Path(__file__).stem and not module.startswith("test_"):
            found += sorted(importlib.import_module(module).FILES.items(), key=lambda each: each[0])
    return found


def stale(root: Path, generators: Iterable[tuple[str, Generator]]) -> dict[Path, tuple[str, str]]:
    """Return the files that differ from what is generated: their present text, and the one they must have."""
    texts: dict[Path, tuple[str, str]] = {}
    for name, generate in generators:
        path = root / name
        if path not in texts:
            present = path.read_text(encoding="utf-8") if path.exists() else ""
            texts[path] = (present, present)
        present, text = texts[path]
        texts[path] = (present, generate(text))
    return {path: pair for path, pair in texts.items() if pair[0] != pair[1]}


def difference(name: str, present: str, text: str) -> str:
    """Return what would change in a file, as a unified diff."""
    lines = [each.splitlines(keepends=True) for each in (present, text)]
    return "".join(difflib.unified_diff(*lines, fromfile=name, tofile=f"{name} (generated)"))


def main(arguments: Sequence[str], root: Path = ROOT, found: Iterable[tuple[str, Generator]] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write the generated files.")
    parser.add_argument("--check", action="store_true", help="only compare; exit with 1 if a file is out of date")
    check = parser.parse_args(arguments).check
    changes = stale(root, generators() if found is None else found)
    for path, (present, text) in changes.items():
        name = path.relative_to(root).as_posix()
        if check:
            print(difference(name, present, text))
            print(f"{name} is out of date: run make generate")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{name} written")
    return int(check and bool(changes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
