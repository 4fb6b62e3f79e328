"""Every command but `execute`, piped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

APP_FILE = Path(__file__).with_name("app_for_tests.py")
SCRIPTS = str(Path(sys.executable).parent)
OWN_COMMAND = Path(__file__).with_name("own_command_app.py").read_text()


def test_list_and_describe_are_equal_both_ways(nexus, server):
    for words in (("list",), ("describe", "echo")):
        local, remote = nexus.forked(*words), nexus.forked("--connect", server, *words, app=False)
        assert (local.code, local.out) == (0, remote.out)
    assert {"name": "add", "description": "Add two numbers."} in nexus.forked("list").json["workflows"]
    assert nexus.forked("describe", "echo").json["input_schema"]["properties"]["kind"]["enum"] == ["small", "large"]


def test_common_options_stand_before_or_after(nexus, server):
    assert (
        nexus.forked("list", "--connect", server, app=False).out
        == nexus.forked(f"--connect={server}", "list", app=False).out
    )
    assert nexus.forked("list", env={"NEXUS_CONNECT": server}, app=False).code == 0


def test_a_detached_run_is_followed_shown_and_cancelled(nexus, server):
    def connected(*words):
        return nexus.forked("--connect", server, *words, app=False)

    handle = connected("execute", "slow", "--steps", "10", "--wait", "0").json
    assert handle["status"] in ("pending", "running")
    followed = connected("runs", "follow", handle["run_id"])
    *events, reply = [json.loads(line) for line in followed.out.splitlines()]
    assert [event["data"]["done"] for event in events if event["type"] == "workflow.progress"] == [*range(1, 11)]
    assert reply == {"result": "done", "run_id": handle["run_id"]}
    assert connected("runs", "show", handle["run_id"]).json["status"] == "completed"
    run_id = connected("execute", "slow", "--wait", "0.1").json["run_id"]
    assert connected("runs", "cancel", run_id).json["cancelled"] is True
    assert connected("runs", "follow", run_id).code == 130
    found = connected("runs", "list", "--workflow", "slow", "--status", "cancelled", "--limit", "1").json["runs"]
    assert [run["run_id"] for run in found] == [run_id]
    assert connected("runs").json["runs"]
    assert connected("runs", "show", "nope").code == 66
    assert connected("runs", "list", "--status", "odd").code == 2
    assert connected("execute", "add", "--a", "1", "--wait", "10").json["result"] == 2


def test_waiting_needs_a_server(nexus):
    assert nexus.forked("execute", "add", "--wait", "1").code == 2


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://127.0.0.1:{free}", 75, "NEXUS_CONNECT"),
        ("nonsense", 2, "not a URL"),
        ("http://127.0.0.1:99999", 2, "not a URL"),
        ("http://a\nb", 2, "not a URL"),
        ("{server}/elsewhere", 75, "not a Nexus command-line port"),
    ],
)
def test_a_wrong_url_is_one_clear_line(nexus, server, free_port, url, code, message):
    done = nexus.forked("--connect", url.format(free=free_port, server=server), "list", app=False)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("nexus: ")
    assert done.err.count("\n") == 1
    assert message in done.err


def test_something_else_on_the_port_is_named_as_such(nexus):
    import http.server
    import threading

    class Page(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as page:
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        done = nexus("--connect", f"http://127.0.0.1:{page.server_port}", "list", app=False)
        page.shutdown()
        thread.join()
    assert done.code == 75
    assert "is not a Nexus command-line port: it answered 200" in done.err


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("missing:nexus", "ModuleNotFoundError"),
        ("missing.py", "there is no file"),
        ("broken.py", "SyntaxError"),
        ("exits.py", "SystemExit"),
        ("empty.py", "has no attribute nexus or app"),
        ("empty.py:other", "has no attribute other"),
        ("wrong.py", "is a int, not a Nexus"),
        ("a b", "names no application"),
        ("misconfigured.py", "misconfigured.py: argument cach_ttl: there is no option"),
    ],
)
def test_an_application_that_cannot_be_loaded_is_one_clear_line(nexus, app, message):
    files = {
        "broken.py": "def", "empty.py": "", "exits.py": "raise SystemExit(3)", "wrong.py": "nexus = 3",
        "misconfigured.py": "from nexus_core import Nexus\nnexus = Nexus(cach_ttl=1)",
    }  # fmt: skip
    for name, text in files.items():
        (nexus.cwd / name).write_text(text)
    done = nexus.forked("--app", app, "list", app=False)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert message in done.err
    if "Error" in message:
        assert "Traceback" in nexus.forked("--debug", "--app", app, "list", app=False).err


def test_no_application_is_a_usage_error(nexus):
    done = nexus.forked("list", app=False)
    assert done.code == 2
    assert "--app" in done.err
    assert "--connect" in done.err


def test_an_application_is_a_module_a_file_or_in_the_configuration(nexus):
    source = (
        "from nexus_core import Nexus\napp = Nexus()\nother = Nexus()\n@app.workflow\ndef mine() -> int: return 1\n"
    )
    (nexus.cwd / "mine.py").write_text(source)
    (nexus.cwd / "nexus.yaml").write_text("app: mine:app\n")
    for app in ("mine", "mine:app", "mine.py", "./mine.py:app", str(nexus.cwd / "mine.py")):
        assert nexus.forked("--app", app, "execute", "mine", app=False).json["result"] == 1
    assert nexus.forked("execute", "mine", app=False, env={"NEXUS_CONFIG_FILE": "nexus.yaml"}).json["result"] == 1
    assert nexus.forked("--app", "mine:other", "execute", "mine", app=False).code == 66


def test_nothing_in_the_working_directory_runs_unnamed(nexus):
    for name in ("app", "nexus", "conftest", "plugins"):
        (nexus.cwd / f"{name}.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    script = shutil.which("nexus", path=SCRIPTS)
    for words in (["--help"], ["version"], ["list"], ["nonsense"]):
        subprocess.run([script, *words], cwd=nexus.cwd, env=nexus.env, capture_output=True, timeout=30)
    assert not (nexus.cwd / "ran").exists()


def test_usage_errors_are_one_line_and_exit_2(nexus):
    for words, message in (
        (["lst"], "Did you mean 'list'?"),
        (["list", "--nope"], "--nope"),
        (["describe"], "'name'"),
        (["execute"], "No workflow is named"),
        (["list", "--app"], "--app needs a value"),
        (["--app", "x", "--connect", "http://x", "list"], "exclude each other"),
        (["completion", "tcsh"], "bash, zsh, fish"),
    ):
        done = nexus.forked(*words, app=False)
        assert (done.code, done.out) == (2, ""), words
        assert message in done.err
        assert done.err.count("\n") == 1


def test_help_lists_the_commands_and_the_cores(nexus):
    text = nexus("--help", app=False).out
    for command in ("serve", "execute", "list", "describe", "runs", "shell", "plugins", "mcp-config", "version",
                    "doctor", "keys", "login", "logout", "why"):  # fmt: skip
        assert f"\n  {command} " in text
    assert "NEXUS_CONNECT" in text
    assert nexus("--json", "plugins", "list", app=False).json


def test_help_imports_nothing_heavy(nexus):
    program = (
        "import sys; from nexus_core.__main__ import main; main(['--help']); "
        "print([m for m in ('asyncio', 'pydantic', 'msgspec', 'rich', 'prompt_toolkit', 'nexus_core.app.nexus') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=nexus.env, timeout=30)
    assert done.stdout.splitlines()[-1] == "[]"


def test_mcp_config_starts_this_application(nexus):
    (nexus.cwd / "mine.py").write_text("")
    servers = nexus.forked("mcp-config", "--app", "mine.py:nexus", "--name", "tools", app=False).json["mcpServers"]
    assert servers["tools"]["args"][-3:] == ["serve", "--stdio", f"{nexus.cwd}/mine.py:nexus"]
    assert servers["tools-http"] == {"type": "http", "url": "http://127.0.0.1:3001/mcp"}
    assert nexus.forked("mcp-config", app=False).code == 2


def test_version(nexus):
    assert set(nexus.forked("version", app=False).json) == {"nexus", "cli", "python"}
    assert nexus.forked("--version", app=False).json == nexus.forked("version", app=False).json


def test_the_shell_reads_lines_from_a_pipe(nexus):
    lines = 'nexus execute add --a 2\n# a remark\n\nexecute add --a x\nexecute "\nserve\nlist --json\nversion --app x\n'
    done = nexus.forked("shell", stdin=lines)
    assert json.loads(done.out.splitlines()[0])["result"] == 3
    assert '"workflows"' in done.out.splitlines()[1]
    assert done.code == 2
    assert [line.split(":")[1].split()[0] for line in done.err.splitlines()] == ["--a", "No", "serve", "The"]
    assert nexus.forked("shell", stdin="execute told\nexit\nlist\n").code == 1


def test_the_shell_keeps_one_application(nexus):
    (nexus.cwd / "counter.py").write_text(
        textwrap.dedent("""
        from nexus_core import Nexus
        nexus = Nexus()
        calls = []
        @nexus.workflow
        def count() -> int:
            calls.append(1)
            return len(calls)
        """)
    )
    done = nexus.forked("--app", "counter.py", "shell", stdin="execute count\nexecute count\n", app=False)
    assert [json.loads(line)["result"] for line in done.out.splitlines()] == [1, 2]


def test_plugins_add_commands(nexus):
    (nexus.cwd / "extended.py").write_text(
        textwrap.dedent("""
        from types import SimpleNamespace
        import typer
        from nexus_core import Command, Nexus, hookimpl

        boxes = typer.Typer()

        @boxes.command("add")
        def add(name: str): print("added", name)

        @boxes.command("drop")
        def drop(name: str): print("dropped", name)

        async def hello(name: str = "you"): print("hello", name)

        class Plugin:
            @hookimpl
            def nexus_register_commands(self, nexus):
                return [Command("boxes", boxes, "Manage boxes"), Command("hello", hello, "Greet")]

        class Other:
            @hookimpl
            def nexus_register_commands(self, nexus):
                return [Command("twice", hello), Command("once", hello)]

        class Another:
            @hookimpl
            def nexus_register_commands(self, nexus):
                return [Command("twice", hello)]

        nexus = Nexus(plugins=[Plugin(), Other(), Another()])
        """)
    )
    assert nexus.forked("--app", "extended.py", "hello", "--name", "Ada", app=False).out == "hello Ada\n"
    assert nexus.forked("--app", "extended.py", "boxes", "drop", "k", app=False).out == "dropped k\n"
    assert "Did you mean 'hello'?" in nexus.forked("--app", "extended.py", "helo", app=False).err
    assert nexus.forked("--app", "extended.py", "once", app=False).out == "hello you\n"
    both = nexus.forked("--app", "extended.py", "twice", app=False)
    assert (both.code, both.out) == (1, "")
    assert "'twice' is registered by both extended:Another and extended:Other" in both.err


def test_a_port_in_use_is_said_and_exits_1(nexus):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = nexus("serve", env={"NEXUS_CLI_PORT": port, **other_ports()})
    assert done.code == 1
    assert f"cli_port {port}" in done.err


def other_ports():
    from importlib.metadata import entry_points

    installed = {each.name for each in entry_points(group="nexus.plugins")}
    return {f"NEXUS_{name.upper()}_PORT": "0" for name in ("api", "mcp") if name in installed}


def test_stdio_hands_stdin_and_stdout_to_the_mcp_channel(nexus):
    (nexus.cwd / "stdio.py").write_text(
        textwrap.dedent("""
        import sys
        from nexus_core import Channel, Nexus, hookimpl
        print("printed while loading")

        class Mcp(Channel):
            name = "mcp"
            async def serve_stdio(self):
                sys.stdout.write(sys.stdin.readline().upper())

        class Plugin:
            @hookimpl
            def nexus_register_channels(self, nexus):
                return [Mcp()]

        nexus = Nexus(plugins=[Plugin()], disabled_plugins=["mcp"])
        """)
    )
    done = nexus("serve", "--stdio", "stdio.py", stdin="ping\n", app=False)
    assert (done.code, done.out) == (0, "PING\n")
    assert "printed while loading" in done.err
    without = nexus("serve", "--stdio", env={"NEXUS_DISABLED_PLUGINS": "mcp"})
    assert without.code == 1
    assert "it is installed, but not active: disabled by configuration" in without.err


def test_help_lists_the_commands_of_a_named_application(nexus):
    (nexus.cwd / "mine.py").write_text(OWN_COMMAND)
    shown = nexus.forked("--app", "mine.py", "--help", app=False)
    assert (shown.code, shown.err) == (0, "")
    assert "List what is in stock." in shown.out
    broken = nexus.forked("--app", "missing.py", "--help", app=False)
    assert broken.code == 0
    assert "doctor" in broken.out


def test_a_command_of_a_plugin_that_is_not_loaded_names_the_plugin(nexus):
    done = nexus.forked("doctor", app=False, env={"NEXUS_DISABLED_PLUGINS": "health"})
    assert done.code == 1
    assert done.err == (
        "nexus: The command 'doctor' belongs to the plugin \"health\", which is not loaded: disabled by configuration\n"
    )
    assert "doctor" not in nexus.forked("--help", app=False, env={"NEXUS_DISABLED_PLUGINS": "health"}).out


@pytest.mark.parametrize("words", [[], ["sessions"], ["keys"]])
def test_a_command_line_without_a_command_is_answered_with_help(nexus, words):
    done = nexus.forked(*words, app=False)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Usage: nexus")
    assert "\nCommands:\n" in done.out
