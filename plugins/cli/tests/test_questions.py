"""``nexus questions``: list, show and answer, over a port with and without authentication."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path

import pytest

APP = Path(__file__).with_name("asking_app.py")


@pytest.fixture
def ask(nexus, asking):
    return lambda *words, **options: nexus.forked("--connect", asking, *words, app=False, **options)


def begin(ask, workflow, *words):
    """Start a run that asks, and return its id."""
    run = ask("execute", workflow, *words, "--wait", "20").json
    assert run["status"] == "waiting"
    return run["run_id"]


def test_questions_are_listed_shown_and_answered(ask):
    run_id = begin(ask, "confirm")
    assert run_id in [each["run_id"] for each in ask("questions").json["questions"]]
    assert run_id in [each["run_id"] for each in ask("questions", "list", "--caller", "*").json["questions"]]
    page = ask("questions", "list", "--limit", "1").json
    assert len(page["questions"]) == 1
    (shown,) = ask("questions", "show", run_id).json["questions"]
    assert shown == ask("questions", "show", run_id, "1").json
    assert (shown["question"], shown["status"], shown["may_answer"]) == ("Are you sure?", "open", True)
    waiting = ask("runs", "list", "--status", "waiting").json["runs"]
    assert run_id in [each["run_id"] for each in waiting]
    (asked,) = ask("runs", "show", run_id).json["questions"]
    assert asked["question"] == "Are you sure?"

    answered = ask("questions", "answer", run_id, "--answer", "true")
    assert (answered.code, answered.json["status"], answered.json["answer"]) == (0, "answered", True)
    assert ask("runs", "follow", run_id).code == 0
    run = ask("runs", "show", run_id).json
    assert (run["result"], "questions" in run) == ("yes", False)
    again = ask("--json", "questions", "answer", run_id, "1", "--answer", "false")
    assert (again.code, json.loads(again.err)["question_status"]) == (65, "answered")
    assert ask("questions", "answer", run_id, "--answer", "false").code == 66
    assert ask("questions", "show", run_id, "1").json["answer"] is True


def test_further_pages(ask):
    runs = [begin(ask, "name") for _ in range(3)]
    found, words = [], []
    while True:
        page = ask("questions", "list", "--limit", "2", *words).json
        found += [each["run_id"] for each in page["questions"]]
        if "next" not in page:
            break
        words = ["--after", page["next"]]
    assert [each for each in found if each in runs] == runs
    assert ask("questions", "list", "--after", "nonsense").code == 2
    assert ask("questions", "list", "--limit", "0").code == 2
    assert ask("questions", "list", "--caller", "bob").code == 2


@pytest.mark.parametrize("words", [("questions", "show"), ("questions", "answer", "--answer", "1")])
def test_what_does_not_exist(ask, words):
    command, rest = words[:2], words[2:]
    assert ask(*command, "nothing", *rest).code == 66
    assert ask(*command, "nothing", "1", *rest).code == 66
    assert ask(*command, "nothing", "0", *rest).code == 2
    assert ask(*command, begin(ask, "name"), "2", *rest).code == 66


@pytest.mark.parametrize(
    ("workflow", "words", "result"),
    [
        ("name", ["--answer", "Ada"], "Ada"),
        ("name", ["--answer", "42"], "42"),
        ("name", ["--answer", '"42"'], "42"),
        ("name", ["--answer", "-"], "from stdin"),
        ("amount", ["--answer", "2.5"], 2.5),
        ("colour", ["--answer", "red"], "red"),
        ("colour", ["--answer", "3"], 3),
        ("weights", ["--answer", '{"a": 1}'], {"a": 1}),
        ("weights", ["--field", "a=1", "--field", "b=2"], {"a": 1, "b": 2}),
        ("ship", ["--field", "agreed=true", "--field=days=2", "--field", "tags=x", "--field", "tags=y=z"],
         {"agreed": True, "speed": "slow", "days": 2, "note": "", "tags": ["x", "y=z"]}),
    ],
)  # fmt: skip
def test_answers_are_read_by_their_schema(ask, workflow, words, result):
    run_id = begin(ask, workflow, *(["--order", "A-7"] if workflow == "ship" else []))
    answered = ask("questions", "answer", run_id, *words, stdin="from stdin\n")
    assert (answered.code, answered.err) == (0, "")
    assert ask("runs", "follow", run_id).code == 0
    assert ask("runs", "show", run_id).json["result"] == result


def test_wrong_answers_name_their_option_and_leave_the_question_open(ask):
    run_id = begin(ask, "ship", "--order", "A-7")

    def wrong(*words):
        done = ask("questions", "answer", run_id, *words)
        assert (done.code, done.out) == (2, "")
        return done.err

    assert "--field agreed: expected boolean" in (told := wrong("--field", "agreed=maybe", "--field", "days=10"))
    assert "--field days: expected at most 9" in told
    assert "--answer.tags[1]: expected string" in wrong("--answer", '{"agreed": true, "days": 1, "tags": ["", 1]}')
    assert "--answer: expected object" in wrong("--answer", "3")
    assert "value of --answer is not valid JSON" in wrong("--answer", "{")
    assert "--answer and --field exclude each other" in wrong("--answer", "{}", "--field", "a=1")
    for field in ("agreed", "=true"):
        assert "is not NAME=VALUE" in wrong("--field", field)
    assert "add --answer JSON, or --field NAME=VALUE" in wrong()
    refused = ask("--json", "questions", "answer", run_id, "--field", "agreed=maybe", "--field", "days=1")
    assert json.loads(refused.err)["errors"][0]["pointer"] == "/answer/agreed"
    (question,) = ask("questions", "show", run_id).json["questions"]
    assert question["status"] == "open"
    plain = ask("questions", "answer", begin(ask, "confirm"), "--field", "a=1")
    assert (plain.code, "this is boolean: use --answer" in plain.err) == (2, True)


def test_of_several_questions_the_number_is_needed(ask):
    run_id = begin(ask, "both")
    refused = ask("questions", "answer", run_id, "--answer", "1")
    assert (refused.code, "add the NUMBER of one, 1, 2" in refused.err) == (2, True)
    assert ask("questions", "answer", run_id, "2", "--answer", "20").code == 0
    assert ask("questions", "answer", run_id, "--answer", "10").code == 0
    assert ask("runs", "follow", run_id).code == 0
    assert sorted(ask("runs", "show", run_id).json["result"]) == [10, 20]


def test_an_expired_question_is_closed(ask):
    run_id = ask("execute", "brief").json["run_id"]
    refused = ask("--json", "questions", "answer", run_id, "1", "--answer", "x")
    assert (refused.code, json.loads(refused.err)["question_status"]) == (65, "expired")


# Callers


@pytest.fixture
def as_(nexus, guarded_asking):
    """Return a function that runs commands as a caller."""

    def as_(who):
        token = [] if who is None else ["--token", who]
        return lambda *words: nexus.forked("--connect", guarded_asking, "--json", *token, *words, app=False)

    return as_


def test_who_may_not_answer_is_refused(as_):
    alice, bob = as_("alice"), as_("bob")
    run_id = begin(bob, "release")
    assert run_id not in [each["run_id"] for each in bob("questions").json["questions"]]
    assert run_id in [each["run_id"] for each in alice("questions").json["questions"]]
    assert bob("questions", "list", "--caller", "*").code == 77
    (seen,) = bob("questions", "show", run_id).json["questions"]
    assert (seen["to"], seen["may_answer"]) == ("permission:data.read", False)
    refused = bob("questions", "answer", run_id, "--answer", "true")
    assert (refused.code, json.loads(refused.err)["code"]) == (77, "permission_denied")

    # The one who is asked sees the question, though not the run.
    assert alice("runs", "show", run_id).code == 66
    (asked,) = alice("questions", "show", run_id).json["questions"]
    assert asked["may_answer"] is True
    assert alice("questions", "answer", run_id, "--answer", "true").json["answered_by"] == "alice"
    assert bob("runs", "follow", run_id).code == 0
    assert bob("runs", "show", run_id).json["result"] == "released"


def test_questions_of_others_are_not_there(as_):
    alice, bob = as_("alice"), as_("bob")
    run_id = begin(alice, "confirm")
    for words in (["show", run_id], ["show", run_id, "1"], ["answer", run_id, "1", "--answer", "true"],
                  ["answer", run_id, "--answer", "true"]):  # fmt: skip
        hidden, missing = bob("questions", *words), bob("questions", words[0], "nothing", *words[2:])
        assert hidden.code == missing.code == 66
        assert hidden.err.replace(run_id, "nothing") == missing.err
        assert as_(None)("questions", *words).code == as_("mallory")("questions", *words).code == 77
    assert alice("questions", "answer", run_id, "--answer", "true").code == 0


# Followers


def test_what_a_followed_run_asks_is_on_stderr(nexus, asking, ask):
    where = ["--connect", asking]
    for words in (["execute", "confirm"], ["--json", "execute", "confirm"]):
        following = nexus.begin(*where, *words, app=False)
        run_id = waiting_of(following)
        told = following.stderr.read_text()
        if "--json" in words:
            assert [json.loads(told)[each] for each in ("type", "run_id")] == ["workflow.question", run_id]
        else:
            assert told == (
                "nexus: confirm waits for an answer by caller: Are you sure? "
                f"Answer with: nexus --connect {asking} questions answer {run_id} 1\n"
            )
        assert ask("questions", "answer", run_id, "--answer", "true").code == 0
        done = following.end()
        assert (done.code, done.json) == (0, {"result": "yes", "run_id": run_id})


def waiting_line(following):
    """Return what a command says about the question of the run that it follows, once it does."""
    deadline = time.monotonic() + 20
    while not (told := following.stderr.read_text()).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return told


def waiting_of(following):
    """Return the run that a command follows, once it has shown what that asks."""
    return re.search(r"\b[0-9a-f]{32}\b", waiting_line(following))[0]


def test_completion_knows_runs_and_questions(nexus, asking, ask):
    def candidates(*words):
        lines = nexus.forked("__complete", "--connect", asking, *words, app=False).out.splitlines()
        return dict(line.split("\t") for line in lines)

    run_id = begin(ask, "both")
    assert candidates("quest").keys() == {"questions"}
    assert candidates("questions", "a").keys() == {"answer"}
    assert candidates("questions", "answer", run_id[:28])[run_id] in ("both: Left?", "both: Right?")
    assert candidates("questions", "show", run_id, "") == {"1": "Left?", "2": "Right?"}
    assert candidates("questions", "answer", run_id, "1", "") == candidates("questions", "list", "") == {}
    assert "--field" in candidates("questions", "answer", run_id, "--")
    for command in ("show", "steps", "cancel", "follow"):
        assert candidates("runs", command, run_id) == {run_id: "both, waiting"}
    assert candidates("runs", "show", run_id, "") == candidates("runs", "list", "") == {}


def test_a_run_of_this_process_alone_says_so(nexus):
    child = nexus.begin("execute", "confirm", app=False, env={"NEXUS_APP": str(APP)})
    told = waiting_line(child)
    assert "It can be answered in this process alone, on a terminal: set run_store, or use --connect." in told
    assert child.end(number=signal.SIGINT).code == 130


def test_with_a_run_store_another_process_answers(nexus, tmp_path):
    env = {"NEXUS_APP": str(APP), "NEXUS_RUN_STORE": "sqlite", "NEXUS_RUNS_SQLITE_PATH": str(tmp_path / "runs.db")}
    child = nexus.begin("execute", "confirm", app=False, env=env)
    command = waiting_line(child).rpartition("Answer with: nexus ")[2].split()
    assert nexus.forked(*command, "--answer", "true", app=False, env=env).code == 0
    assert child.end().json["result"] == "yes"
