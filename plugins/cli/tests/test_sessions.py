"""``nexus sessions``: begun, used, changed, renewed, revoked; and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GUARDED = Path(__file__).with_name("guarded_app.py")


@pytest.fixture
def ask(nexus, server):
    """Run a command on a served application."""
    return lambda *words, **options: nexus.forked("--connect", server, *words, app=False, **options)


@pytest.fixture
def session(ask):
    return ask("sessions", "create").json["session_id"]


def test_a_session_from_beginning_to_end(ask, session):
    shown = ask("sessions", "show", session).json
    assert (shown["state"], shown["active_channels"], shown["version"]) == ({}, ["cli"], 1)
    changed = ask("sessions", "set", session, "a=1", "text=some words", 'more={"b": [true]}', 'quoted="2"', "gone=")
    assert changed.json["state"] == {"a": 1, "text": "some words", "more": {"b": [True]}, "quoted": "2"}
    for named in (["--session", session], []):
        env = {} if named else {"NEXUS_SESSION": session}
        assert ask(*named, "execute", "visit", env=env).code == 0
        assert ask(*named, "sessions", "show", env=env).json["state"]["visits"] == 1 + (not named)
    less = ask("sessions", "set", session, "--data", '{"more": null, "c": 3}', "text=", "--version", "4")
    assert less.json["state"] == {"a": 1, "quoted": "2", "visits": 2, "c": 3}
    new = ask("--session", session, "sessions", "renew").json
    assert (new["state"], new["session_id"] == session) == (less.json["state"], False)
    assert ask("sessions", "show", session).code == 66
    assert ask("sessions", "revoke", new["session_id"]).json == {"session_id": new["session_id"], "revoked": True}
    for command in (["sessions", "show"], ["sessions", "revoke"], ["sessions", "renew"], ["sessions", "follow"],
                    ["sessions", "set", "a=1"], ["execute", "visit"], ["execute", "visit", "--wait", "0"],
                    ["execute", "visit", "--wait", "5"]):  # fmt: skip
        done = ask("--session", new["session_id"], "--json", *command)
        assert (done.code, json.loads(done.err)["code"]) == (66, "session_not_found")


WRONG = [
    (["show"], 2, "No session is named. Add its ID"),
    (["set", "a=1"], 2, "No session is named."),
    (["set", "SESSION"], 2, "No changes are given"),
    (["set", "SESSION", "a=1", "b"], 2, "'b' is not NAME=VALUE"),
    (["set", "SESSION", "=1"], 2, "'=1' is not NAME=VALUE"),
    (["set", "SESSION", b"a=\xff"], 2, "not valid UTF-8"),
    (["set", "SESSION", "--data", "{"], 2, "--data is not valid JSON"),
    (["set", "SESSION", "--data", "[1]"], 2, "must be a JSON object, not array"),
    (["set", "SESSION", "--data", "@nowhere"], 2, "--data: nowhere can't be read"),
    (["set", "SESSION", "a=1", "--version", "7"], 65, "has version 1, not 7"),
    (["set", "SESSION", "a=1", "--version", "-1"], 2, "version"),
    (["set", "SESSION", f"a={'x' * 70_000}"], 2, "at most 65536 bytes"),
    (["show", "x" * 300], 66, "There is no session with this id."),
    (["show", b"\xff"], 2, "not valid UTF-8"),
    (["show", ""], 2, "No session is named."),
    (["nothing"], 2, "nothing"),
]


def test_what_is_wrong_is_said(nexus, server, session):
    cases = [["sessions", *(session if word == "SESSION" else word for word in words)] for words, _, _ in WRONG]
    every = nexus.each(cases, app=False, env={"NEXUS_CONNECT": server})
    for (words, code, told), done in zip(WRONG, every, strict=True):
        assert (done.code, done.out) == (code, ""), words
        assert told in done.err
        assert len(done.err.splitlines()) == 1


def test_changes_at_the_same_time_do_not_get_lost(ask, session):
    """Each names the version that it was made for, and tries again with the one that it is told."""
    first = ask("sessions", "set", session, "a=1", "--version", "1").json["version"]
    late = ask("--json", "sessions", "set", session, "b=2", "--version", "1")
    assert (late.code, json.loads(late.err)["version"]) == (65, first)
    again = ask("sessions", "set", session, "b=2", "--version", str(first))
    assert again.json["state"] == {"a": 1, "b": 2}


def test_changes_from_stdin_and_a_file(ask, session, tmp_path):
    (tmp_path / "state.json").write_text('{"from": "file"}')
    assert ask("sessions", "set", session, "--data", "@state.json").json["state"] == {"from": "file"}
    assert ask("sessions", "set", session, "--data", "-", stdin='{"a": "in"}').json["state"] == {
        "from": "file",
        "a": "in",
    }


def test_anothers_session_is_not_there(nexus, guarded):
    def ask(token, *words):
        return nexus.forked("--connect", guarded, "--json", "--token", token, *words, app=False)

    session = ask("alice", "sessions", "create").json["session_id"]
    assert ask("alice", "sessions", "show", session).code == 0
    for command in (["show"], ["renew"], ["revoke"], ["follow"], ["set", "a=1"]):
        answers = [
            ask("bob", "sessions", command[0], each, *command[1:]) for each in (session, session[:-1] + "~", "guessed")
        ]
        assert [answer.code for answer in answers] == [66] * 3
        assert len({answer.err for answer in answers}) == 1
        assert ask("mallory", "sessions", command[0], session, *command[1:]).code == 77
    assert ask("bob", "--session", session, "execute", "open_to_all").code == 66


def test_in_one_process_a_session_lasts_as_long_as_the_shell(nexus):
    done = nexus("shell", stdin="sessions create\nsessions show nothing\nsessions --help\nevents --help\n")
    assert json.loads(done.out.splitlines()[0])["active_channels"] == ["cli"]
    assert "There is no session with this id." in done.err
    assert "renew" in done.err  # what is not a result
    assert "follow" in done.err


def test_people_see_the_id_and_how_to_use_it(terminal, server):
    screen = terminal("--connect", server, "sessions", "create", app=False)
    session = screen.expect(r"^([0-9a-f]{48})\n")[1]
    screen.expect(f"nexus --session {session} execute")
    assert screen.end() == 0


def test_completion(nexus):
    def words(*before):
        return [line.partition("\t")[0] for line in nexus.forked("__complete", *before).out.splitlines()]

    assert words("sess") == ["sessions"]
    assert words("sessions", "") == ["create", "show", "set", "renew", "revoke", "follow"]
    assert words("events", "f") == ["follow"]
    assert "--retry" in words("events", "follow", "--r")
