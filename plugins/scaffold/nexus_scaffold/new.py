"""Writes a plugin of one kind, with tests that pass. Standard library only."""

from __future__ import annotations

import keyword
import re
import shutil
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from tempfile import mkdtemp

KINDS = Path(__file__).parent / "kinds"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
LONGEST = 40

_SECTION = re.compile(r"(?m)^# (settings|tests)(?:: (.*))?\n")
_REQUIRES = re.compile(r"\A# requires: (.*)\n")
_DECLARES = re.compile(r"(?m)^# declares (\S+): (.*)\n")


class NewPluginError(Exception):
    """The plugin can't be written; the message says why."""


@dataclass(frozen=True)
class PluginKind:
    """The template of one kind of plugin.

    Attributes:
        files: The text of each module of the package, and of the tests, by its path, with placeholders for names.
        requires: Requirements besides the core.
        tests_require: Further requirements of the tests.
        declares: Further entry points, by their group.
    """

    files: dict[str, str]
    requires: list[str]
    tests_require: list[str]
    declares: dict[str, str]


def kinds() -> list[str]:
    """Return the names of the kinds."""
    return sorted(path.stem for path in KINDS.glob("*.txt"))


def read_kind(name: str) -> PluginKind:
    """Return a kind by its name.

    Raises:
        NewPluginError: The kind does not exist.
    """
    known = kinds()
    if name not in known:
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}."
        raise NewPluginError(f"unknown kind {name!r}; {hint}")
    text = (KINDS / f"{name}.txt").read_text(encoding="utf-8")
    declares = dict(_DECLARES.findall(text))
    text = _DECLARES.sub("", text)
    found = _REQUIRES.match(text)
    plugin, *sections = _SECTION.split(text[found.end() :] if found else text)
    files, needed = {"plugin.py": plugin}, ""
    for section, more, body in zip(sections[::3], sections[1::3], sections[2::3], strict=True):
        files["settings.py" if section == "settings" else "tests"] = body
        needed = more or needed
    return PluginKind(files, _list(found[1] if found else ""), _list(needed), declares)


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def write(name: str, kind: str, directory: Path, taken: set[str], version: str) -> Path:
    """Write a distribution and return its folder. An error leaves no files behind.

    Args:
        name: The plugin's name, as in ``nexus plugins list``.
        kind: Its kind, one of `kinds`.
        directory: The parent of the new folder.
        taken: Names of other plugins.
        version: The core's version, which becomes a requirement.

    Raises:
        NewPluginError: The name is not valid, the kind is unknown, or the folder can't be written.
    """
    check_name(name, taken)
    found = read_kind(kind)
    folder = directory / f"nexus-plugin-{name.replace('_', '-')}"
    if folder.exists():
        raise NewPluginError(f"{folder} exists already.")
    try:
        made = Path(mkdtemp(prefix=f".{folder.name}-", dir=directory))
    except OSError as exc:
        raise NewPluginError(f"{directory} can't be written to: {exc.strerror}.") from None
    try:
        for path, text in files(name, kind, found, version).items():
            target = made / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        made.chmod(0o755)
        made.rename(folder)
    except BaseException as exc:
        shutil.rmtree(made, ignore_errors=True)
        if not isinstance(exc, OSError):
            raise
        raise NewPluginError(f"{folder} can't be written: {exc.strerror}.") from None
    return folder


def check_name(name: str, taken: set[str]) -> None:
    """Check the name of a new plugin.

    Raises:
        NewPluginError: The name is not valid, or in use.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise NewPluginError(
            f"{name[: LONGEST + 1]!a} is not a valid name: use lowercase letters, digits and single underscores, "
            f"starting with a letter, at most {LONGEST} characters."
        )
    if keyword.iskeyword(name):
        raise NewPluginError(f"{name!r} is a keyword of Python.")
    if name == "core":
        raise NewPluginError("'core' is reserved for the core's options.")
    if name in taken:
        raise NewPluginError(f"the plugin {name!r} exists already.")


def files(name: str, kind: str, found: PluginKind, version: str) -> dict[str, str]:
    """Return every file of a distribution by its path."""
    package = f"nexus_plugin_{name}"
    distribution = package.replace("_", "-")
    hook = next(iter(re.findall(r"def (nexus_\w+)", found.files["plugin.py"])), "nexus_register_settings")
    low, high = _versions(version)
    of_class = "".join(word.capitalize() for word in name.split("_"))
    names = {"__PACKAGE__": package, "__NAME__": name, "__CLASS__": of_class, "__UPPER__": name.upper()}
    modules = {f"{package}/{path}": text for path, text in found.files.items() if path != "tests"}
    docstring = f'"""The plugin {name}: {kind}."""\n\nfrom __future__ import annotations\n\n'
    texts = {
        **{path: docstring + text for path, text in modules.items()},
        "tests/test_plugin.py": found.files["tests"],
        "tests/test_contract.py": _CONTRACT,
        "pyproject.toml": _PROJECT.format(
            distribution=distribution, name=name, package=package, of_class=of_class, kind=kind,
            requires=_quoted([f"nexus-hub-core>={low},<{high}", *found.requires]),
            tests=_quoted(["pytest", "pytest-asyncio", *found.tests_require]),
            more="".join(f'[project.entry-points."{group}"]\n{each}\n\n' for group, each in found.declares.items()),
        ),
        "README.md": _README.format(distribution=distribution, name=name, package=package, kind=kind, hook=hook),
        f"{package}/__init__.py": f'"""The package of the Nexus plugin {name}."""\n',
        str(Path(package, "py.typed")): "",
        ".gitignore": "__pycache__/\n*.egg-info/\ndist/\n.pytest_cache/\n.venv/\n",
    }  # fmt: skip
    return {path: _filled(text, names) for path, text in texts.items()}


def _filled(text: str, names: dict[str, str]) -> str:
    for placeholder, value in names.items():
        text = text.replace(placeholder, value)
    return text


def _versions(version: str) -> tuple[str, str]:
    major, minor = (int(part) for part in [*version.split("."), "0"][:2])
    return f"{major}.{minor}", f"{major}.{minor + 1}" if major == 0 else f"{major + 1}"


def _quoted(items: list[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


_PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "0.1.0"
description = "A plugin for Nexus: {kind}."
readme = "README.md"
requires-python = ">=3.11"
dependencies = [{requires}]

[project.optional-dependencies]
test = [{tests}]

[project.entry-points."nexus.plugins"]
{name} = "{package}.plugin:{of_class}Plugin"

{more}[tool.hatch.build.targets.wheel]
packages = ["{package}"]

[tool.pytest.ini_options]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
testpaths = ["tests"]
"""

_README = """\
# {distribution}

The plugin `{name}` for Nexus ({kind}). It implements the hook `{hook}`; Nexus' documentation has a page about that.

    pip install -e '.[test]'
    nexus plugins check {name}
    pytest

Choose a licence before you publish it.
"""

_CONTRACT = '''\
"""The tests that every plugin must pass."""

from nexus_core.testing import PluginContract


class TestContract(PluginContract):
    plugin = "__NAME__"
'''
