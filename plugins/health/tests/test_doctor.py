"""``nexus doctor`` as a process: what it finds, what it advises, what it hides."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import textwrap
from importlib.metadata import PathDistribution

import pytest
from health_helpers import COMMAND
from nexus_health.doctor.environment import clock, packages
from nexus_health.doctor.files import file
from nexus_health.doctor.findings import Level

from nexus_core.__main__ import main

pytest.importorskip("nexus_cli")
for needed in ("nexus_api", "nexus_hypercorn"):
    pytest.importorskip(needed)

APP = """
import time
from nexus_core import Nexus
from nexus_health import HealthChecker

class Shop(HealthChecker):
    def check_stock(self):
        print("what a check prints")
        return {"status": "healthy"}

nexus = Nexus(api_port=0, cli_port=0, mcp_port=0)
nexus.register_health_checker(Shop())
print("what an application prints", flush=True)
"""


@pytest.fixture(name="app")
def app_fixture(tmp_path):
    def write(source=APP, name="shop.py"):
        (tmp_path / name).write_text(textwrap.dedent(source))
        return f"{tmp_path / name}:nexus"

    return write


@pytest.fixture(name="quick_doctor")
def quick_doctor_fixture(tmp_path, monkeypatch, capfd):
    """Run ``nexus doctor`` in this process: many small cases."""
    monkeypatch.chdir(tmp_path)

    def run(*words, code=0, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        ended = main([*words, "doctor"])
        out, err = capfd.readouterr()
        assert ended == code, f"{out}\n{err}"
        return subprocess.CompletedProcess(words, ended, out, err)

    return run


def report(done):
    """What the JSON says, and each finding by section and subject. It is the last line: the application prints, too."""
    value = json.loads(done.stdout.splitlines()[-1])
    return value, {(each["section"], each["subject"]): each for each in value["findings"]}


def test_all_is_well(doctor, app):
    done = doctor("--app", app())
    assert done.stdout.endswith("no problems, no warnings\n"), done.stdout
    assert "\x1b" not in done.stdout
    for line in (
        "ok       api_port: any free port",
        "ok       stock: healthy in",
        "ok       127.0.0.1: reachable from this machine only",
    ):
        assert line in done.stdout
    assert "what a check prints" not in done.stdout


def test_json(doctor, app):
    value, found = report(doctor("--json", "--app", app(), NEXUS_API_PORT="0"))
    assert (value["healthy"], value["problems"], value["warnings"]) == (True, 0, 0)
    sections = ["python", "packages", "limits", "clock", "files", "application", "plugins", "options", "exposure",
                "ports", "checks"]  # fmt: skip
    assert list(dict.fromkeys(section for section, _ in found)) == sections
    assert found["python", "version"]["text"].startswith(sys.version.split()[0])
    assert found["packages", "nexus-hub-health"]["text"] == found["packages", "nexus-hub-core"]["text"]
    assert found["packages", "pluggy"]["level"] == "ok"
    assert found["plugins", "health"]["text"].startswith("active")
    assert found["options", "api_port"]["text"] == "0 (argument api_port)"


def test_options_are_shown_with_their_source_and_without_secrets(doctor, app, tmp_path):
    (tmp_path / "nexus.yaml").write_text("workflow_timeout: 7\njwt_leeway: 3\n")
    variables = {
        "NEXUS_CONFIG_FILE": str(tmp_path / "nexus.yaml"), "NEXUS_JWT_SECRET": "hunter22-" * 5,
        "REDIS_URL": "redis://:hunter23@127.0.0.1:1/0", "NEXUS_CORS_ORIGINS": "https://a.example",
        "NEXUS_OAUTH2_CLIENT_SECRET": "hunter24hunter24",
    }  # fmt: skip
    done = doctor("--json", "--app", app(), **variables)
    _, found = report(done)
    assert "hunter" not in done.stdout + done.stderr
    assert found["options", "workflow_timeout"]["text"].startswith("7.0 (workflow_timeout in ")
    assert found["options", "jwt_secret"]["text"] == "*** (environment variable NEXUS_JWT_SECRET)"
    assert found["options", "redis_url"]["text"] == "*** (environment variable REDIS_URL)"
    assert "https://a.example" in found["options", "cors_origins"]["text"]
    assert found["checks", "redis"]["level"] == "warning", "nothing is kept there"
    assert "REDIS_URL" in found["checks", "redis"]["advice"]


def test_a_configuration_file_that_others_can_read(quick_doctor, app, tmp_path):
    config = tmp_path / "nexus.yaml"
    variables = {"NEXUS_CONFIG_FILE": str(config)}
    for mode, text, level in (
        (0o644, "api_port: 0", "ok"), (0o644, "jwt_secret: hunter22hunter22", "warning"),
        (0o600, "jwt_secret: hunter22hunter22", "ok"), (0o666, "api_port: 0", "warning"),
    ):  # fmt: skip
        config.write_text(text)
        config.chmod(mode)
        _, found = report(quick_doctor("--json", "--app", app(), **variables))
        assert found["options", "configuration file"]["level"] == level, (mode, text)


@pytest.mark.parametrize(
    ("variables", "complaint", "advice"),
    [
        ({"NEXUS_API_PORT": "abc"}, "NEXUS_API_PORT: Input should be a valid integer", "set the variable"),
        ({"NEXUS_CACHE_TLT": "3"}, "did you mean 'cache_ttl'", "set the variable"),
        ({"NEXUS_CONFIG_FILE": "/nowhere.yaml"}, "/nowhere.yaml can't be read", "set NEXUS_CONFIG_FILE to a file"),
        ({"NEXUS_APP": "nowhere.py:nexus"}, "there is no file nowhere.py", "check --app"),
        ({"NEXUS_APP": "no_such_module:nexus"}, "No module named 'no_such_module'", "pip install no_such_module"),
        (
            {"NEXUS_REQUIRED_PLUGINS": "nothing"},
            'The required plugin "nothing" is not installed',
            "nexus plugins check",
        ),
        ({"NEXUS_STORE": "nothing"}, "there is no store 'nothing'", "fix the reported cause"),
    ],
)
def test_it_runs_and_says_why_where_there_can_be_no_platform(quick_doctor, variables, complaint, advice):
    value, found = report(quick_doctor("--json", code=1, **variables))
    problems = [each for each in found.values() if each["level"] == "problem"]
    assert any(complaint in each["text"] for each in problems), problems
    assert any(advice in each["advice"] for each in problems), problems
    assert found["plugins", "health"]["text"].startswith("active")
    assert value["problems"] == len(problems) >= 1


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("raise ValueError('out of order')", "can't be imported: ValueError: out of order"),
        ("import sys; sys.exit(3)", "can't be imported: SystemExit"),
        ("import nothing_of_that_name", "No module named 'nothing_of_that_name'"),
        ("nexus = 3", "is a int, not a Nexus"),
        ("from nexus_core import Nexus\nnexus = Nexus(api_prot=3)", "did you mean 'api_port'"),
        (
            "from nexus_core import Nexus\nfrom nexus_health import HealthChecker\nnexus = Nexus()\n"
            "nexus.register_health_checker(HealthChecker)",
            "takes an object, not the class HealthChecker",
        ),
    ],
)
def test_an_application_that_can_not_be_loaded_or_started(quick_doctor, app, source, complaint):
    _, found = report(quick_doctor("--json", "--app", app(source), code=1))
    problems = [each for each in found.values() if each["level"] == "problem"]
    assert [each["section"] for each in problems] == ["application"]
    assert complaint in problems[0]["text"]
    assert problems[0]["advice"]


CHECKS = """
import threading, time
from nexus_core import Nexus
from nexus_health import HealthChecker

class Shop(HealthChecker):
    non_critical = ["suppliers"]

    def check_hanging(self):
        threading.Event().wait()

    async def check_exit(self):
        raise SystemExit(7)

    def check_suppliers(self):
        return {"ink": {"status": "unhealthy", "error": "postgres://ann:hunter22@db/shop \\x1b[2J"}}

nexus = Nexus(api_port=0, cli_port=0, mcp_port=0, health_check_timeout=0.3, enable_health_checks=False)
nexus.register_health_checker(Shop())
"""


def test_checks_are_run_once_whether_they_are_on_or_not(doctor, app):
    done = doctor("--json", "--app", app(CHECKS), code=1)
    _, found = report(done)
    assert "hunter22" not in done.stdout + done.stderr
    assert found["checks", "hanging"]["text"].startswith("unhealthy: timed out after 0.3 s")
    assert found["checks", "hanging"]["level"] == found["checks", "exit"]["level"] == "problem"
    assert found["checks", "suppliers.ink"]["level"] == "warning"
    assert found["checks", "suppliers.ink"]["text"] == r"unhealthy: postgres://***@db/shop \u001b[2J"


def test_where_this_plugin_is_switched_off_for_the_application(doctor, app):
    done = doctor("--app", app("from nexus_core import Nexus\nnexus = Nexus(disabled_plugins=['health'])"), code=1)
    assert 'belongs to the plugin "health", which is not loaded: disabled by configuration' in done.stderr


def test_in_a_shell_whose_application_is_started(app):
    done = subprocess.run(
        [*COMMAND, "--app", app(), "shell"], input="doctor\ndoctor\n", capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert done.stdout.count("no problems, no warnings\n") == 2, done.stdout
    assert done.returncode == 0


def test_problems_come_last_and_are_counted(quick_doctor, app):
    text = quick_doctor("--app", app(CHECKS), code=1, NEXUS_HOST="0.0.0.0", NEXUS_INSECURE="1").stdout
    headings = [line for line in text.splitlines() if line and not line.startswith(" ")]
    assert headings[-3:-1] == ["warnings", "problems"]
    assert re.fullmatch(r"\d problems, \d warnings", headings[-1])
    problems = text.partition("\nproblems\n")[2]
    assert "PROBLEM  checks, hanging: unhealthy" in problems
    assert problems.count("PROBLEM") == int(headings[-1][0]) == text.count("PROBLEM")


GUARDED = (
    APP
    + """
nexus.register("stock", lambda: 1, {"required_permissions": ["stock.read"], "cache": True})
"""
)


@pytest.mark.parametrize("insecure", ["1", "0"])
def test_metadata_that_nothing_enforces(quick_doctor, app, insecure):
    _, found = report(quick_doctor("--json", "--app", app(GUARDED), code=int(insecure == "0"), NEXUS_INSECURE=insecure))
    for key in ("required_permissions", "cache"):
        finding = found["workflows", key]
        assert finding["level"] == "warning"
        assert '"stock"' in finding["text"]
    problems = [each["text"] for each in found.values() if each["level"] == "problem"]
    assert len(problems) == (insecure == "0")
    assert all("are not enforced: enable_auth is off. Set enable_auth=True" in each for each in problems)


@pytest.mark.parametrize(
    ("variables", "level", "text"),
    [
        ({"NEXUS_HOST": "0.0.0.0"}, "problem", "reachable from other machines, but authentication is off"),
        ({"NEXUS_HOST": "0.0.0.0", "NEXUS_INSECURE": "1"}, "warning", "authentication is off (insecure)"),
        ({"NEXUS_HOST": "localhost"}, "ok", "reachable from this machine only"),
    ],
)
def test_who_reaches_it(quick_doctor, app, variables, level, text):
    _, found = report(quick_doctor("--json", "--app", app(), code=int(level == "problem"), **variables))
    finding = found["exposure", variables["NEXUS_HOST"]]
    assert finding["level"] == level
    assert text in finding["text"]


def test_a_port_of_another_program(quick_doctor, app):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        number = other.getsockname()[1]
        source = f"from nexus_core import Nexus\nnexus = Nexus(api_port={number}, cli_port=0, mcp_port=0)"
        _, found = report(quick_doctor("--json", "--app", app(source), code=1))
    finding = found["ports", "api_port"]
    assert f"127.0.0.1:{number} (api_port) is in use by another program: process {os.getpid()} (" in finding["text"]
    assert finding["advice"] == "set api_port (NEXUS_API_PORT) to a free port, or stop that program"


def test_ports_of_a_nexus_and_a_server_that_is_asked(quick_doctor, app, serve):
    issuer = pytest.importorskip("token_issuer")
    secret = "a secret of at least thirty-two bytes"
    served = serve(enable_auth=True, jwt_secret=secret, health_check_interval=0.2)
    ports = {name: url.rsplit(":", 1)[1] for name, url in served.listens().items()}
    variables = {f"NEXUS_{name.upper()}_PORT": port for name, port in ports.items()}
    _, found = report(
        quick_doctor("--json", "--app", app("from nexus_core import Nexus\nnexus = Nexus()"), **variables)
    )
    assert f"is in use by a running Nexus: process {served.process.pid} (" in found["ports", "api_port"]["text"]
    assert "is in use by a running Nexus: process" in found["ports", "cli_port"]["text"]
    assert "is in use by a Nexus: process" in found["ports", "mcp_port"]["text"]

    url = served.listens()["api"]
    token = issuer.secret_token(secret, permissions=["health.read"])
    for address in (url, served.listens()["cli"], f"{served.listens()['cli']}/cli"):
        _, found = report(quick_doctor("--json", "--connect", address, "--token", token))
        assert found["checks", "plugins"]["level"] == "ok"
        assert found["clock", "server"]["text"] == "the clocks of server and client agree"
    for words, advice in (
        ((url,), "--token"),
        ((url, "--token", issuer.secret_token(secret, permissions=["x.read"])), "health.read"),
        ((served.listens()["mcp"],), "is this the command-line port"),
        (("http://127.0.0.1:1",), "start nexus serve"),
        (("nonsense",), "start nexus serve"),
    ):
        _, found = report(quick_doctor("--json", "--connect", *words, code=1))
        problems = [each for each in found.values() if each["level"] == "problem"]
        assert [each["section"] for each in problems] == ["server"]
        assert advice in problems[0]["advice"]


@pytest.mark.parametrize(
    ("code", "requires", "text", "advice"),
    [
        (
            "import no_such_library",
            "nexus-hub-core",
            "No module named 'no_such_library'",
            "pip install no-such-library",
        ),
        ("raise ValueError('broken')", "nexus-hub-core", "ValueError: broken", "nexus plugins disable acme"),
        ("", "nexus-hub-core<0.1", "incompatible", "pip install --upgrade nexus-hub-core nexus-acme"),
    ],
)
def test_plugins_that_are_not_active(doctor, tmp_path, code, requires, text, advice):
    site = tmp_path / "site"
    info = site / "nexus_acme-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "acme_plugin.py").write_text(code)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: nexus-acme\nVersion: 1.0\nRequires-Dist: {requires}\n"
    )
    (info / "entry_points.txt").write_text("[nexus.plugins]\nacme = acme_plugin\n")
    path = {"PYTHONPATH": str(site), "NEXUS_DISABLED_PLUGINS": "cache", "NEXUS_API_PORT": "0", "NEXUS_CLI_PORT": "0"}
    _, found = report(doctor("--json", code=1, **path, NEXUS_MCP_PORT="0"))
    assert found["plugins", "acme"]["level"] == "problem"
    assert text in found["plugins", "acme"]["text"]
    assert advice in found["plugins", "acme"]["advice"]
    assert found["plugins", "cache"]["level"] == "ok"
    assert "nexus plugins enable cache" in found["plugins", "cache"]["advice"]


def test_on_a_terminal_it_is_coloured_and_nothing_raw_reaches_it(app):
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*COMMAND, "--app", app(CHECKS), "doctor"], stdin=slave, stdout=slave, stderr=subprocess.PIPE, env=environment
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
    os.close(master)
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1, errors
    text = shown.decode()
    assert "\x1b[1;31mPROBLEM" in text
    assert "CHECKS" in text
    assert "\x1b[2J" not in text
    assert re.search(r"-> fix what check_exit reports", text)


def test_few_open_files_are_a_warning(app, tmp_path):
    command = ["sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh", *COMMAND, "--app", app(), "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert "warning  limits, open files: 256" in done.stdout
    assert "ulimit -n" in done.stdout


def test_packages_that_do_not_fit_together(tmp_path):
    def installed(name, version, *requires):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        lines = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}")
        return PathDistribution(folder)

    required = ("pluggy>=1.6,<2", "gone>=1", "tomli; python_version<'3'")
    found = {each.subject: each for each in packages({
        "nexus-hub-core": installed("nexus-hub-core", "0.2.0", *required),
        "nexus-hub-api": installed("nexus-hub-api", "0.1.0", "pluggy"),
        "pluggy": installed("pluggy", "1.5.0"),
    })}  # fmt: skip
    assert (found["nexus-hub-api"].level, found["nexus-hub-api"].advice) == (
        Level.WARNING, "pip install nexus-hub-api==0.2.0",
    )  # fmt: skip
    assert (found["pluggy"].level, found["pluggy"].advice) == (Level.PROBLEM, "pip install 'pluggy>=1.6,<2'")
    assert found["gone"].text == "not installed, but nexus-hub-core requires gone>=1"
    assert "tomli" not in found


def test_a_clock_that_was_never_set():
    assert clock(0.0).level is Level.PROBLEM
    assert clock().level is Level.OK


def test_files(tmp_path):
    mine = tmp_path / "keys.json"
    mine.touch(0o600)
    assert file("api_key_file", mine).level is Level.OK
    mine.chmod(0o644)
    assert file("api_key_file", mine).advice == f"chmod 600 {mine}"
    assert file("api_key_file", tmp_path).text.endswith("is a directory")
    new = file("sqlite_path", tmp_path / "a" / "b" / "state.db")
    assert new.level is Level.OK
    assert "can be created" in new.text
    assert file("sqlite_path", mine / "state.db").level is Level.PROBLEM
