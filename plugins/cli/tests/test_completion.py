"""Completion of command lines, by `nexus __complete` and in a real bash."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

APP_FILE = Path(__file__).with_name("app_for_tests.py")
SCRIPTS = str(Path(sys.executable).parent)
OWN_COMMAND = Path(__file__).with_name("own_command_app.py").read_text()


def test_completion_names_every_command(nexus):
    listed = nexus("--help", app=False).out.partition("Commands:\n")[2]
    names = {line.split()[0] for line in listed.splitlines() if line[:3].strip() and line.startswith("  ")}
    completed = {line.split("\t")[0] for line in nexus("__complete", "", app=False).out.splitlines()}
    assert completed == names


def test_completion_knows_commands_workflows_fields_and_choices(nexus):
    def candidates(*words, **options):
        done = nexus.forked("__complete", *words, **options)
        assert (done.code, done.err) == (0, "")
        return [line.split("\t")[0] for line in done.out.splitlines()]

    assert "execute" in candidates("")
    assert candidates("exe") == ["execute"]
    assert candidates("execute", "ad") == ["add"]
    assert candidates("execute", "echo", "--dr") == ["--dry_run"]
    assert candidates("execute", "echo", "--kind", "") == ["small", "large"]
    assert candidates("runs", "c") == ["cancel"]
    assert "--token" in candidates("list", "--t")
    assert candidates("execute", "ad", app=False) == []
    assert candidates("--app", "missing.py", "execute", "", app=False) == []
    (nexus.cwd / "slow.py").write_text("import time; time.sleep(100)")
    assert candidates("--app", "slow.py", "execute", "", app=False, env={"NEXUS_COMPLETION_TIMEOUT": "1"}) == []


def test_completion_knows_commands_of_plugins(nexus):
    def candidates(*words):
        done = nexus.forked("__complete", *words, app=False)
        assert (done.code, done.err) == (0, "")
        return [line.split("\t")[0] for line in done.out.splitlines()]

    assert candidates("doc") == ["doctor"]
    assert candidates("keys", "") == ["create", "list", "revoke"]
    assert candidates("keys", "create", "--us") == ["--user"]
    assert "--client-credentials" in candidates("login", "--")
    assert candidates("keys", "create", "") == candidates("nonsense", "") == []
    (nexus.cwd / "mine.py").write_text(OWN_COMMAND)
    assert candidates("--app", "mine.py", "inv") == ["inventory"]
    assert candidates("--app", "mine.py", "inventory", "--pre") == ["--prefix"]


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("nexus execute ad", "add"),
        ("nexus --app APP:nexus execute ad", "add"),
        ("nexus --app=APP:nexus execute ad", "add"),
        ("nexus --timeout=5 --app APP:nexus execute echo --kind ", "small large"),
        ("nexus --app 'APP:nexus' execute 'ad", "add"),
    ],
)
def test_the_bash_script_completes(nexus, line, completed):
    program = textwrap.dedent("""
        eval "$(nexus completion bash)"
        COMP_WORDS=(nexus)
        COMP_POINT=${#COMP_LINE}
        _nexus_complete
        echo "${COMPREPLY[@]}"
    """)
    env = nexus.env | {"NEXUS_APP": str(APP_FILE), "PATH": f"{SCRIPTS}:{nexus.env['PATH']}"}
    env["COMP_LINE"] = line.replace("APP", str(APP_FILE))
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, env=env, timeout=30)
    assert (done.stdout, done.stderr) == (f"{completed}\n", "")


def test_bash_completes_after_colons_as_a_person_types(nexus):
    """A real bash on a terminal, whose word breaks are its own."""
    pid, fd = pty.fork()
    if pid == 0:
        env = nexus.env | {"NEXUS_APP": str(APP_FILE), "PATH": f"{SCRIPTS}:{nexus.env['PATH']}", "TERM": "dumb",
                           "PS1": "ready> "}  # fmt: skip
        os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], env)
    try:
        _until(fd, "ready> ")
        os.write(fd, b'eval "$(nexus completion bash)"; echo lo"ad"ed\n')
        _until(fd, "\r\nloaded")
        os.write(fd, f"nexus --app {APP_FILE}:nexus execute ad\t--a 41\n".encode())
        _until(fd, "\r\n42\r\n")
    finally:
        os.write(fd, b"\x03\nexit\n")
        os.close(fd)
        os.waitpid(pid, 0)


def _until(fd, wanted, seconds=60):
    text, end = "", time.monotonic() + seconds
    while wanted not in text:
        assert time.monotonic() < end, text
        if select.select([fd], [], [], 0.2)[0]:
            text += os.read(fd, 65536).decode(errors="replace")
