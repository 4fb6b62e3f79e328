"""`nexus plugins` as a process, among plugins that are broken in every way."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from nexus_core.plugins import commands

GOOD = "@hookimpl\ndef nexus_startup(nexus): ..."
BROKEN = {
    "raises": "raise ValueError('out of order')",
    "exits": "import os; os._exit(7)",
    "hangs": "import threading; threading.Event().wait()",
    "unknown-hook": "@hookimpl\ndef nexus_no_such_hook(): ...",
}
WITHOUT = """
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ["nexus", *{arguments!r}]
runpy.run_module("nexus_core", run_name="__main__")
"""


def nexus(site: Any, *arguments: str, **options: Any) -> Any:
    return site.python("-m", "nexus_core", "plugins", *arguments, **options)


@pytest.fixture(name="others_off", autouse=True)
def others_off_fixture(monkeypatch: pytest.MonkeyPatch, installed: list[str]) -> None:
    monkeypatch.setenv("NEXUS_DISABLED_PLUGINS", ",".join(installed))


@pytest.fixture(name="environment")
def environment_fixture(tmp_path: Path, site: Any) -> Any:
    """Return a Python environment of its own, which sees what is installed here."""
    folder = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    libraries = next(folder.glob("lib/python*/site-packages"))
    (libraries / "here.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")
    return lambda *arguments, **options: nexus(site, *arguments, python=str(folder / "bin" / "python"), **options)


def test_list_imports_no_plugin_and_no_library(site: Any) -> None:
    modules = [site.add("good", GOOD), *(site.add(name, code) for name, code in BROKEN.items())]
    done = site.python("-X", "importtime", "-m", "nexus_core", "plugins", "list")
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "nexus_core.plugins.discovery" in imported
    assert not imported & {"pydantic", "pluggy", "msgspec", "yaml", "asyncio", *modules}
    records = {record["name"]: record for record in json.loads(done.stdout)}
    assert {records[name]["status"] for name in ("good", *BROKEN)} == {"available"}


def test_list_says_what_keeps_a_plugin_from_being_loaded(site: Any) -> None:
    site.add("future", GOOD, requires="nexus-hub-core>=7")
    site.add("twin", GOOD, distribution="nexus-one")
    site.add("twin", GOOD, distribution="nexus-two")
    site.add("off", GOOD)
    found = site.records("list", NEXUS_DISABLED_PLUGINS="off")
    assert (found["off"]["status"], found["off"]["reason"]) == ("disabled", "disabled by configuration")
    assert found["future"]["status"] == "incompatible"
    assert "nexus-hub-core>=7" in found["future"]["reason"]
    assert (found["twin"]["status"], found["twin"]["reason"]) == (
        "duplicate",
        "nexus-one and nexus-two both provide 'twin'",
    )


def on_a_terminal(site: Any, *arguments: str) -> str:
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "nexus_core", "plugins", *arguments],
        stdout=inner, env={**os.environ, "PYTHONPATH": str(site.folder)},
    )  # fmt: skip
    os.close(inner)
    shown = b""
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(outer)
    assert process.wait(30) == 0
    return shown.decode()


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["table", "json"])
def test_list_on_a_terminal(site: Any, options: tuple[str, ...]) -> None:
    site.add("good", GOOD)
    text = on_a_terminal(site, "list", *options)
    if options:
        assert "good" in {record["name"] for record in json.loads(text)}
    else:
        head, *rows = text.splitlines()
        assert head.split() == ["NAME", "VERSION", "STATUS", "DISTRIBUTION", "REASON"]
        assert ["good", "1.0", "available", "nexus-good"] in [row.split() for row in rows]
        assert (
            len({row.index(cell) for row, cell in [(head, "VERSION"), *((r, "1.0") for r in rows if "good" in r)]}) == 1
        )


def test_check_exits_with_1_when_one_plugin_fails(site: Any) -> None:
    site.add("good", GOOD)
    assert nexus(site, "check").returncode == 0
    for name, code in BROKEN.items():
        site.add(name, code)
    assert nexus(site, "check", "good").returncode == 0
    done = nexus(site, "check")
    assert done.returncode == 1
    found = {record["name"]: record for record in json.loads(done.stdout)}
    assert found["good"]["status"] == "active"
    assert found["good"]["hooks"] == ["nexus_startup"]
    assert found["good"]["import_ms"] >= 0
    assert {found[name]["status"] for name in BROKEN} == {"failed"}
    assert "out of order" in found["raises"]["reason"]
    assert "ended the interpreter (7)" in found["exits"]["reason"]
    assert "did not end within 10 s" in found["hangs"]["reason"]
    assert "no such hook: nexus_no_such_hook" in found["unknown-hook"]["reason"]


@pytest.mark.parametrize("required", [{"requires": "nexus-hub-core>=7"}, {"twin": True}], ids=["version", "twin"])
def test_check_counts_what_can_not_be_loaded(site: Any, required: dict[str, Any]) -> None:
    if required.pop("twin", False):
        site.add("wrong", GOOD, distribution="nexus-twin")
    site.add("wrong", GOOD, **required)
    assert nexus(site, "check", "wrong").returncode == 1


@pytest.mark.parametrize("command", ["check", "info", "disable", "enable"])
def test_an_unknown_name(site: Any, command: str) -> None:
    site.add("good", GOOD)
    done = nexus(site, command, "god")
    assert done.returncode == 66
    assert "no plugin 'god' is installed" in done.stderr
    assert "good" in done.stderr
    assert done.stdout == ""


def test_a_reader_that_leaves_ends_it_quietly(site: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "nexus_core", "plugins", "list"], stdout=writer, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(site.folder)}, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_wrong_usage(site: Any) -> None:
    assert nexus(site).returncode == 2
    assert nexus(site, "lost").returncode == 2
    assert nexus(site, "--help").returncode == 0


def test_info_of_a_good_and_of_a_broken_plugin(site: Any) -> None:
    site.add("good", GOOD)
    site.add("raises", BROKEN["raises"])
    good, raises = site.records("info", "good")["good"], site.records("info", "raises")["raises"]
    assert (good["status"], good["version"], good["distribution"]) == ("active", "1.0", "nexus-good")
    assert raises["status"] == "failed"
    assert "out of order" in raises["reason"]


OPTIONS = """
from pydantic import Field, SecretStr
from nexus_core import Plugin, PluginSettings

class SampleSettings(PluginSettings):
    sample_names: list[str] = Field([], description="Names,  one or more.")
    sample_limit: int | None = Field(5, ge=1, description="A limit.")
    sample_url: str = Field(description="An address.", json_schema_extra={"environment": "SAMPLE_URL"})
    sample_key: SecretStr | None = Field(None, description="A key.")

class SamplePlugin(Plugin[SampleSettings]):
    pass
"""


def described(name: str, kind: str, default: Any, text: str, *more: str) -> dict[str, Any]:
    variables = [f"NEXUS_{name.upper()}", *more]
    return {"name": name, "variables": variables, "type": kind, "description": text, "default": default}


def test_info_describes_the_options(site: Any) -> None:
    site.add("sample", OPTIONS, attribute="SamplePlugin")
    expected = [
        described("sample_names", "list[str]", [], "Names, one or more."),
        described("sample_limit", "int | None", 5, "A limit."),
        {"name": "sample_url", "variables": ["NEXUS_SAMPLE_URL", "SAMPLE_URL"], "type": "str",
         "description": "An address."},
        described("sample_key", "secret | None", None, "A key."),
    ]  # fmt: skip
    complete = {"SAMPLE_URL": "x:", "NEXUS_SAMPLE_KEY": "not to be shown"}
    for environment, status in [
        (complete, "active"),
        (complete | {"NEXUS_SAMPLE_LIMIT": "none"}, "active"),  # a wrong value is a complaint of `check`
        ({}, "failed"),
    ]:
        found = site.records("info", "sample", **environment)["sample"]
        assert (found["status"], found["options"]) == (status, expected), found["reason"]
    assert "options" not in site.records("list")["sample"]  # it imports nothing


def test_info_on_a_terminal(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_URL", "x:")
    site.add("sample", OPTIONS, attribute="SamplePlugin")
    about, table = on_a_terminal(site, "info", "sample").replace("\r", "").split("\n\n")
    assert "status        active\n" in about
    assert [line.split(maxsplit=3) for line in table.splitlines()[:3]] == [
        ["OPTION", "VARIABLE", "TYPE", "DEFAULT      DESCRIPTION"],
        ["sample_names", "NEXUS_SAMPLE_NAMES", "list[str]", "none         Names, one or more."],
        ["sample_limit", "NEXUS_SAMPLE_LIMIT", "int", "| None     5            A limit."],
    ]
    assert "NEXUS_SAMPLE_URL SAMPLE_URL  str            must be set  An address." in table


def test_info_of_a_plugin_without_options(site: Any) -> None:
    site.add("good", GOOD)
    assert site.records("info", "good")["good"]["options"] == []
    assert "OPTION" not in on_a_terminal(site, "info", "good")


def test_disable_and_enable(site: Any, environment: Any) -> None:
    for name, code in BROKEN.items():
        site.add(name, code)

    def status() -> str:
        records = json.loads(environment("list").stdout)
        return next(record["status"] for record in records if record["name"] == "raises")

    assert status() == "available"
    done = environment("disable", "raises")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("raises is disabled")
    assert status() == "disabled"
    assert environment("check", "raises").returncode == 0
    assert environment("disable", "raises").returncode == 0
    assert environment("disable", "exits").returncode == 0
    assert environment("enable", "raises").returncode == 0
    assert status() == "available"
    assert "exits" in {r["name"] for r in json.loads(environment("list").stdout) if r["status"] == "disabled"}
    assert environment("check", "raises").returncode == 1


def test_a_list_that_can_not_be_written(site: Any, environment: Any, tmp_path: Path) -> None:
    site.add("good", GOOD)
    (tmp_path / "environment" / "etc").write_text("a file where a directory should be")
    done = environment("disable", "good")
    assert done.returncode == 1
    assert "NEXUS_DISABLED_PLUGINS=good" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["list", "disable", "enable", "info"])
def test_it_works_without_the_libraries_of_the_core(site: Any, command: str, tmp_path: Path) -> None:
    site.add("good", GOOD)
    arguments = ["plugins", command] + ([] if command == "list" else ["good"])
    missing = {"pluggy", "pydantic", "pydantic_settings", "msgspec", "jsonschema_rs", "docstring_parser", "yaml"}
    code = f"import sys; sys.prefix = {str(tmp_path)!r}\n" + WITHOUT.format(missing=missing, arguments=arguments)
    done = site.python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "good" in done.stdout


def test_a_first_party_command_says_which_distribution_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "installed", lambda _group: iter(()))
    with pytest.raises(SystemExit):
        commands.run(["--help"])
    assert "new       not installed: pip install nexus-hub-scaffold" in capsys.readouterr().out
    for words in (["new"], ["new", "prices", "--kind", "channel"], ["new", "--kind", "channel", "prices"]):
        assert commands.run(words) == 1
        assert "'new' is not installed: pip install nexus-hub-scaffold" in capsys.readouterr().err


def add_command(site: Any, name: str, code: str, distribution: str) -> None:
    """Install a distribution that adds a command to ``nexus plugins``."""
    package = distribution.replace("-", "_")
    (site.folder / f"{package}.py").write_text(code)
    info = site.folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[nexus.plugin_commands]\n{name} = {package}:add\n")


HELLO = "def add(commands):\n    commands.add_parser('hello').set_defaults(run=lambda options: print('Hello.'))\n"


@pytest.fixture(name="plugins")
def plugins_fixture(site: Any) -> Any:
    return lambda *arguments: site.python("-m", "nexus_core", "plugins", *arguments)


def test_a_distribution_may_add_a_command(site: Any, plugins: Any) -> None:
    add_command(site, "hello", HELLO, "greeter")
    done = plugins("hello")
    assert (done.returncode, done.stdout) == (0, "Hello.\n")
    assert "Added by greeter." in plugins("--help").stdout


@pytest.mark.parametrize("command", ["list", "disable"])
def test_no_distribution_takes_a_command_of_the_core(site: Any, plugins: Any, command: str) -> None:
    add_command(site, command, "raise SystemExit('it was imported')", "taker")
    done = plugins(*{"list": ["list"], "disable": ["disable", "nowhere"]}[command])
    assert done.returncode == {"list": 0, "disable": 66}[command]
    assert "it was imported" not in done.stderr
    assert "taker" not in plugins("--help").stdout


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('no disk')", "OSError: no disk"),
        ("def add(commands): ...", "it adds no command of that name"),
        ("def add(commands): commands.add_parser('list')", "conflicting subparser: list"),
    ],
)
def test_a_command_that_can_not_be_added_names_its_distribution(
    site: Any, plugins: Any, code: str, reason: str
) -> None:
    add_command(site, "hello", code, "greeter")
    done = plugins("hello")
    assert done.returncode == 1
    assert "the command 'hello' of greeter can't be used: " in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_two_distributions_with_one_command_are_named(site: Any, plugins: Any) -> None:
    add_command(site, "hello", HELLO, "greeter")
    add_command(site, "hello", HELLO, "another")
    done = plugins("hello")
    assert done.returncode == 1
    assert "of another and greeter can't be used: both have it" in done.stderr
    assert plugins("list").returncode == 0


ODD = ["\x1b[2Jerase", "a b", "a,b", "\N{CYRILLIC SMALL LETTER A}uth", "-x"]


@pytest.mark.parametrize("name", ODD)
def test_a_name_that_is_taken_for_another_is_not_loaded(site: Any, platform: Any, name: str) -> None:
    module = site.add(name, GOOD, distribution="nexus-odd")
    nexus = platform()
    assert module not in sys.modules
    assert nexus.plugins.inactive()[name].startswith("its name has other characters than ASCII letters")


def test_the_list_obeys_no_control_character(site: Any) -> None:
    site.add("\x1b[2Jerase", GOOD, distribution="nexus-odd")
    code = "import sys; sys.stdout.isatty = lambda: True\nfrom nexus_core.plugins.commands import run; run(['list'])"
    shown = site.python("-c", code).stdout
    assert "\x1b" not in shown
    assert "\\u001b[2Jerase" in shown


def test_names_that_differ_in_case_or_punctuation_are_one(site: Any, platform: Any) -> None:
    site.add("corp-access", GOOD, distribution="nexus-one")
    site.add("Corp_Access", GOOD, distribution="nexus-two")
    reason = "nexus-one and nexus-two both provide 'Corp_Access' or 'corp-access'"
    assert platform().plugins.inactive() == {"corp-access": reason, "Corp_Access": reason}
    assert platform(disabled=("Corp_Access",)).plugins.active() == ["corp-access"]
