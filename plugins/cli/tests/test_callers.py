"""What callers see who are asked who they are, in process and over the port; keys for repeats; budgets; logins."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nexus_toolkit.login_file import Logins

GUARDED = Path(__file__).with_name("guarded_app.py")


@pytest.fixture(params=["in process", "over the port"])
def ask(request, nexus):
    """Run a command as somebody, both ways."""
    if request.param == "in process":
        where = ["--app", str(GUARDED)]
    else:
        where = ["--connect", request.getfixturevalue("guarded")]

    def ask(*words, token=None, **options):
        who = [] if token is None else ["--token", token]
        return nexus.forked(*where, "--json", *who, *words, app=False, **options)

    ask.where, ask.nexus = where, nexus
    return ask


@pytest.fixture
def post(guarded):
    """Send a request as it is; the status, the headers and the lines of the answer."""

    def post(request, **headers):
        connection = http.client.HTTPConnection(urlsplit(guarded).netloc, timeout=20)
        own = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", "/cli", json.dumps(request), {"Content-Type": "application/json"} | own)
        response = connection.getresponse()
        lines = [json.loads(line) for line in response.read().splitlines()]
        connection.close()
        return response.status, response.headers, lines

    return post


@pytest.mark.parametrize("token", [None, "mallory"])
def test_nobody_learns_anything(ask, token):
    commands = ["list", "describe open_to_all", "runs", "runs show x", "runs cancel x", "runs follow x",
                "execute open_to_all", "execute open_to_all --value 1"]  # fmt: skip
    done = ask("shell", token=token, stdin="\n".join(commands))
    assert (done.code, done.out) == (77, "")
    told = [json.loads(line)["code"] for line in done.err.splitlines()]
    assert told == ["authentication_failed"] * len(commands)


def test_strangers_are_told_how_to_log_in(post, guarded):
    requests = [{"command": "list"}] + [
        {"command": "execute", "workflow": "open_to_all"} | more for more in ({}, {"events": True}, {"wait": 0})
    ]
    for request in requests:
        status, headers, lines = post(request)
        assert (status, lines[0]["error"]["code"]) == (401, "authentication_failed")
        assert headers["WWW-Authenticate"] == f'Bearer realm="test", origin="{guarded}"'


def test_who_may_not_run_a_workflow_does_not_see_it(ask):
    seen = {token: {each["name"] for each in ask("list", token=token).json["workflows"]} for token in ("alice", "bob")}
    assert seen["alice"] - seen["bob"] == {"read_data"}
    assert ask("describe", "read_data", token="alice").code == 0
    hidden, unknown = ask("describe", "read_data", token="bob"), ask("describe", "read_dat", token="bob")
    assert hidden.code == unknown.code == 66
    assert "Did you mean" not in hidden.err + unknown.err


def test_who_may_not_run_a_workflow_is_refused(ask):
    assert ask("execute", "read_data", "--value", "3", token="alice").json["result"] == 3
    for words in (["read_data"], ["read_data", "--value", "3"], ["read_data", "--data", '{"value": "x"}']):
        refused = ask("execute", *words, token="bob")
        assert refused.code == 77
        assert json.loads(refused.err)["missing_permissions"] == ["data.read"]
    assert ask("execute", "read_data", "--help", token="bob").code == 66


def test_completion_knows_what_its_caller_may_run(ask):
    def complete(token, *words):
        return ask.nexus.forked("__complete", *ask.where, "--token", token, *words, app=False).out

    assert complete("alice", "execute", "read") == "read_data\t\n"
    assert complete("bob", "execute", "read") == complete("mallory", "execute", "read") == ""
    assert "--value" in complete("alice", "execute", "read_data", "--v")
    assert "--value" not in complete("bob", "execute", "read_data", "--v")


def test_another_callers_run_is_not_there(nexus, guarded):
    def ask(token, *words):
        return nexus.forked("--connect", guarded, "--json", "--token", token, *words, app=False)

    runs = {token: ask(token, "execute", "open_to_all").json["run_id"] for token in ("alice", "bob")}
    listed = {run["run_id"] for run in ask("alice", "runs").json["runs"]}
    assert runs["alice"] in listed
    assert runs["bob"] not in listed
    for command in ("show", "cancel", "follow"):
        assert ask("bob", "runs", command, runs["bob"]).code == 0
        answers = [ask("alice", "runs", command, run_id) for run_id in (runs["bob"], "nothing")]
        assert [answer.code for answer in answers] == [66, 66]
        assert answers[0].err == answers[1].err


def test_a_repeat_with_its_key_is_answered_as_before(nexus, guarded):
    def ask(*words):
        return nexus.forked("--connect", guarded, "--token", "alice", "execute", "counted", *words, app=False)

    first, again = ask("--idempotency-key", "a"), ask("--idempotency-key=a")
    assert again.json == first.json | {"replayed": True}
    assert ask("--idempotency-key", "b").json["result"] == first.json["result"] + 1
    other = ask("--idempotency-key", "a", "--seconds", "0.1")
    assert other.code == 2
    assert "idempotency key was used before" in other.err
    for wrong in (["--idempotency-key", "x" * 256], ["--idempotency-key"], ["--idempotency-key="],
                  ["--idempotency-key", "ä"], ["--idempotency-key", "a b"]):  # fmt: skip
        refused = ask(*wrong)
        assert (refused.code, refused.out) == (2, "")
        assert "--idempotency-key needs" in refused.err


def test_keys_in_one_process_and_in_a_header(nexus, post):
    line = "execute counted --idempotency-key k\n"
    done = nexus.forked("--app", str(GUARDED), "--token", "alice", "shell", app=False, stdin=line * 2 + line[:15])
    first, again, other = (json.loads(each) for each in done.out.splitlines())
    assert again == first | {"replayed": True}
    assert (first["result"], other["result"]) == (1, 2)
    request = {"command": "execute", "workflow": "counted"}
    told = [post(request, Authorization="Bearer alice", Idempotency_Key="h")[2][0]["reply"] for _ in range(2)]
    assert told[1] == told[0] | {"replayed": True}


def test_leaving_does_not_end_a_call_with_a_key(nexus, guarded, terminal):
    where = ["--connect", guarded, "--token", "alice"]
    words = ["execute", "counted", "--seconds", "1.5", "--idempotency-key", "leaving"]
    session = terminal(*where, *words, app=False)
    deadline = time.monotonic() + 15
    while not (runs := nexus.forked(*where, "runs", "list", "--status", "running", app=False).json["runs"]):
        assert time.monotonic() < deadline
    session.send("\x03")
    assert session.end() == 130
    assert nexus.forked(*where, "runs", "follow", runs[0]["run_id"], app=False).code == 0
    done = nexus.forked(*where, *words, app=False)
    assert done.json["replayed"] is True
    assert done.json["run_id"] == runs[0]["run_id"]
    session = terminal(*where, *words, app=False)
    session.expect(r"run \w+ \([0-9.]+ s, replayed\)")
    assert session.end() == 0


def test_what_is_left_of_a_budget(ask, terminal):
    refused = ask("execute", "limited", token="alice")
    assert refused.code == 75
    problem = json.loads(refused.err)
    assert (problem["retry_after"], problem["limit"], problem["remaining"]) == (12.5, 9, 0)
    session = terminal(*ask.where, "--token", "alice", "--debug", "execute", "open_to_all", app=False)
    session.expect("4 of 9 calls in 60 s are left, more in 13 s")
    assert session.end() == 0
    session = terminal(*ask.where, "--token", "alice", "execute", "limited", app=False)
    session.expect("nexus: 9 calls in 60 s are allowed. Try again in 13 s.")
    assert session.end() == 75


def test_what_is_left_of_a_budget_in_headers(post):
    requests = [{"command": "list"}] + [
        {"command": "execute", "workflow": "open_to_all"} | more for more in ({}, {"events": True}, {"wait": 0})
    ]
    for request in requests:
        status, headers, _ = post(request, Authorization="Bearer alice")
        left = '"default";q=9;w=60', '"default";r=4;t=13'
        assert (status, headers["RateLimit-Policy"], headers["RateLimit"]) == (200, *left)
    for more in ({}, {"events": True}):
        asked = {"command": "execute", "workflow": "limited"} | more
        status, headers, lines = post(asked, Authorization="Bearer alice")
        assert (status, headers["Retry-After"], headers["RateLimit"]) == (429, "13", '"default";r=0;t=13')
        assert lines[-1]["error"]["code"] == "rate_limited"


# Logins


def login(guarded, tmp_path, **members):
    Logins(tmp_path / "nexus" / "logins.json").set(guarded, {"access_token": "alice", "expires_at": None} | members)
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_the_token_of_a_login_is_used_for_its_server_alone(nexus, guarded, server, tmp_path):
    env = login(guarded, tmp_path)
    assert nexus.forked("--connect", guarded, "execute", "read_data", app=False, env=env).json["result"] == 1
    as_bob = nexus.forked("--connect", guarded, "--token", "bob", "execute", "read_data", app=False, env=env)
    assert as_bob.code == 77
    elsewhere = ["--connect", guarded.replace("127.0.0.1", "localhost"), "--json"]
    moved = nexus.forked(*elsewhere, "execute", "read_data", app=False, env=env)
    assert json.loads(moved.err)["code"] == "authentication_failed"


def test_an_expired_login_says_what_to_do(nexus, guarded, tmp_path):
    env = login(guarded, tmp_path, expires_at=1.0)
    done = nexus.forked("--connect", guarded, "list", app=False, env=env)
    assert done.code == 77
    assert f"nexus --connect {guarded} login" in done.err


def test_a_file_of_logins_that_others_can_read_is_refused(nexus, guarded, tmp_path):
    env = login(guarded, tmp_path)
    (tmp_path / "nexus" / "logins.json").chmod(0o644)
    done = nexus.forked("--connect", guarded, "list", app=False, env=env)
    assert done.code == 1
    assert "chmod 600" in done.err


RENEWS = """
from nexus_core import BackendUnavailable, hookimpl
@hookimpl
def nexus_renew_login(login):
    if login.get("by") == "raises":
        raise OSError("no network")
    if login.get("by") == "away":
        raise BackendUnavailable("The issuer does not answer.")
    return None if "secret" not in login else login | {"access_token": "alice", "expires_at": None}
"""


@pytest.fixture
def renewer(nexus, guarded, tmp_path):
    """Install a plugin that renews logins; a function that expires the login and runs a command."""
    info = tmp_path / "site" / "renewer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: renewer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nexus.plugins]\nrenewer = renewer_plugin\n")
    (info / "RECORD").write_text("")
    (tmp_path / "site" / "renewer_plugin.py").write_text(RENEWS)

    def run(*words, **members):
        env = login(guarded, tmp_path, expires_at=1.0, access_token="old", **members)
        env |= {"PYTHONPATH": str(tmp_path / "site"), "NEXUS_CONNECT": guarded}
        return nexus(*words, app=False, env=env)

    return run


def test_a_plugin_renews_an_expired_login(renewer, guarded, tmp_path):
    assert renewer("execute", "read_data", secret="s").json["result"] == 1
    assert Logins(tmp_path / "nexus" / "logins.json").get(guarded)["access_token"] == "alice"


@pytest.mark.parametrize(
    ("by", "code", "said"), [("raises", 77, "has expired"), ("away", 75, "The issuer does not answer.")]
)
def test_a_login_that_can_not_be_renewed_stays(renewer, guarded, tmp_path, by, code, said):
    done = renewer("execute", "read_data", by=by)
    assert (done.code, said in done.err) == (code, True), done.err
    assert Logins(tmp_path / "nexus" / "logins.json").get(guarded)["access_token"] == "old"


def test_completion_renews_no_login(renewer, guarded, tmp_path):
    assert renewer("__complete", "execute", "", secret="s").out == ""
    assert Logins(tmp_path / "nexus" / "logins.json").get(guarded)["access_token"] == "old"
    assert "read_data" in renewer("__complete", "--token", "alice", "execute", "", secret="s").out
