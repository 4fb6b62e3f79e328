"""What a person sees, on a real pseudo-terminal."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest


def test_tables_and_colours_are_for_terminals(terminal):
    shown = terminal("list")
    assert shown.end() == 0
    assert "WORKFLOW" in shown.text
    assert "Add two numbers." in shown.text
    assert "\x1b[" in shown.raw
    plain = terminal("list", env={"NO_COLOR": "1"})
    assert plain.end() == 0
    assert "\x1b[3" not in plain.raw


def test_a_result_is_indented_json(terminal):
    shown = terminal("execute", "echo", "--text", "é", env={"NO_COLOR": "1"})
    assert shown.end() == 0
    assert '  "text": "é",\n' in shown.text


def test_json_on_a_terminal_is_one_line(terminal):
    shown = terminal("--json", "execute", "add", "--a", "1")
    assert shown.end() == 0
    assert shown.raw.startswith('{"result":2,"run_id":"')


def test_progress_is_a_bar_that_goes_away(terminal):
    shown = terminal("execute", "slow", "--steps", "20")
    shown.expect(r"\d/20")
    assert shown.end() == 0
    assert "step 2" in shown.text
    assert shown.raw.rindex('"done"') > shown.raw.rindex("20/20")


def test_streamed_items_come_as_they_are_made(terminal):
    shown = terminal("execute", "stream", env={"NO_COLOR": "1"})
    assert shown.end() == 0
    assert '{"i": 0}\n{"i": 1}\n{"i": 2}\n' in shown.text
    assert shown.text.count('"i"') == 3


@pytest.mark.parametrize("way", ["in process", "connected"])
def test_nothing_of_a_long_stream_is_lost(terminal, request, way):
    items = 12_000  # more than a run keeps for who is slow
    stream = ("execute", "stream", "--n", str(items), "--pause", "0")
    words = stream if way == "in process" else ("--connect", request.getfixturevalue("server"), *stream)
    shown = terminal(*words, env={"NO_COLOR": "1"}, app=way == "in process")
    assert shown.end(timeout=60) == 0
    numbers = [int(number) for number in re.findall(r'"i": (\d+)', shown.raw)]
    whole = shown.raw.find("here are all")
    if whole < 0:
        assert numbers == list(range(items))
    else:  # it could not keep up: then the result follows
        assert numbers[-items:] == list(range(items))


def test_ctrl_c_cancels_and_exits_130(terminal):
    shown = terminal("execute", "slow")
    shown.expect("step 3")
    shown.send("\x03")
    assert shown.end(timeout=10) == 130
    assert "Traceback" not in shown.text


def test_ctrl_c_leaves_a_workflow_that_hangs_in_a_thread(terminal, server, tmp_path):
    for number, options in enumerate(((), ("--connect", server))):
        began = tmp_path / f"began{number}"
        shown = terminal(*options, "execute", "hang", "--path", str(began))
        deadline = time.monotonic() + 15
        while not began.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shown.send("\x03")
        assert shown.end(timeout=10) == 130
        assert "Traceback" not in shown.text


def test_what_a_terminal_would_obey_is_escaped(terminal):
    for words in (("execute", "evil"), ("--json", "execute", "evil")):
        shown = terminal(*words)
        assert shown.end() == 0
        assert "\x1b]" not in shown.raw
        assert "\x9b" not in shown.raw
        assert "\u202e" not in shown.raw
        assert r"\u001b]0;title\u0007 \u009b31m \u202e" in shown.raw


def test_each_wrong_field_has_a_line(terminal):
    shown = terminal("execute", "add", "--a", "x", "--c", "1")
    assert shown.end() == 2
    assert "nexus: Invalid parameters:\n  --a: expected integer, got string\n  --c: unknown name" in shown.text


def test_a_failure_names_its_run_and_how_to_see_the_log(terminal):
    shown = terminal("execute", "crash")
    assert shown.end() == 1
    assert "--debug" in shown.text
    assert "the secret" not in shown.text
    debug = terminal("--debug", "execute", "crash")
    assert debug.end() == 1
    assert "the secret" in debug.text


def test_help_is_for_people(terminal):
    shown = terminal("--help")
    assert shown.end() == 0
    assert "plugins" in shown.text
    assert "╭" in shown.text


def test_the_shell_completes_runs_and_remembers(terminal, clean_env):
    shell = terminal("shell")
    shell.expect("nexus>")
    shell.send("exe\t")
    shell.expect("execute")
    shell.send(" add --a 4\r")
    shell.expect(r"\n\r?5")
    shell.expect("nexus>")
    shell.send("execute ec\t")
    shell.expect("echo")
    shell.send(" --ki\t")
    shell.expect("--kind")
    shell.send(" large\r")
    shell.expect("large.*[^}]*}")
    shell.expect("nexus>")
    for secret in ("--token sesame", "--header X-Key:sesame"):
        shell.send(f"lst {secret}\r")
        shell.expect("Did you mean 'list'")
        shell.expect("nexus>")
    shell.send("execute slow\r")
    shell.expect("step 2")
    shell.send("\x03")
    shell.expect("Interrupted")
    shell.expect("nexus>")
    shell.send("exit\r")
    assert shell.end() == 130
    history = Path(clean_env["XDG_STATE_HOME"], "nexus", "history")
    assert "+execute add --a 4" in history.read_text()
    assert "sesame" not in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_the_shell_works_on_a_full_disk(terminal, tmp_path):
    folder = tmp_path / "nexus"
    shell = terminal("shell", env={"XDG_STATE_HOME": str(tmp_path)})
    shell.expect("nexus>")
    shell.send("execute add --a 1\r")  # by its end, the history has been read
    shell.expect(r"\n\r?2")
    shell.expect("nexus>")
    folder.joinpath("history").unlink()
    folder.joinpath("history").symlink_to("/dev/full")
    for number in ("4", "7"):
        shell.send(f"execute add --a {number}\r")
        shell.expect(rf"\n\r?{int(number) + 1}")
        shell.expect("nexus>")
    shell.send("\x04")
    assert shell.end() == 0
    assert shell.text.count("The history can't be stored: No space left on device.") == 1


def test_the_shell_ends_with_ctrl_d(terminal):
    shell = terminal("shell")
    shell.expect("nexus>")
    shell.send("\x04")
    assert shell.end() == 0
