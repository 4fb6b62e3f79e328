"""Questions on a real pseudo-terminal: the form, and asking while a run is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

APP = Path(__file__).with_name("asking_app.py")


@pytest.fixture
def begin(nexus, asking):
    """Return a function that starts a run that asks, and returns its id."""

    def begin(workflow, *words):
        run = nexus.forked("--connect", asking, "execute", workflow, *words, "--wait", "20", app=False).json
        assert run["status"] == "waiting"
        return run["run_id"]

    return begin


@pytest.fixture
def result_of(nexus, asking):
    """Return a function that waits for the end of a run and returns its result."""

    def result_of(run_id):
        assert nexus.forked("--connect", asking, "runs", "follow", run_id, app=False).code == 0
        return nexus.forked("--connect", asking, "runs", "show", run_id, app=False).json["result"]

    return result_of


@pytest.fixture
def answer(terminal, asking):
    """Open the form for a run."""
    return lambda run_id, *words: terminal("--connect", asking, "questions", "answer", run_id, *words, app=False)


def test_a_form_asks_field_by_field(begin, answer, result_of):
    run_id = begin("ship", "--order", "A-7")
    form = answer(run_id)
    form.expect(r"Ship A-7\?\\u001b]0;title\\u0007 It is a long way")
    form.expect(rf"question 1 of run {run_id} \(ship\)")
    form.expect("to be answered by: caller")
    form.expect(r"until: .* \(in \d+ (h|min)\)")
    form.expect("order: A-7")
    form.expect(r"evil: \\u001b\[31m\\u202e")
    form.expect(r"Whether it\\u0007 may leave\.")
    form.expect(r"agreed \(yes or no\):")
    form.send("perhaps\r")
    form.expect("Answer yes or no.")
    form.expect("agreed")
    form.send("yes\r")
    form.expect(r"1\) slow\n\s*2\) fast")
    form.expect(r"speed \(1 to 2\) \[slow\]:")
    form.send("3\r")
    form.expect("Choose a number from 1 to 2.")
    form.expect("speed")
    form.send("2\r")
    form.expect(r"days \(integer\):")
    form.send("many\r")
    form.expect("expected integer, got string")
    form.send("10\r")
    form.expect("expected at most 9")
    form.send("3\r")
    form.expect(r"note \[\"\"\]:")
    form.send("mind the step\r")
    form.expect(r"tags \(JSON\) \[\[\]\]:")
    form.send("[1]\r")
    form.expect("0: expected string, got integer")
    form.send("\r")
    form.expect(f"Question 1 of run {run_id} is answered.")
    assert form.end() == 0
    assert "\x1b]0" not in form.raw
    assert "\u202e" not in form.raw
    assert result_of(run_id) == {
        "agreed": True, "speed": "fast", "days": 3, "note": "mind the step", "tags": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("workflow", "label", "wrong", "message", "typed", "result"),
    [
        ("confirm", r"Answer \(yes or no\):", "", "Answer yes or no.", "N", "no"),
        ("amount", r"Answer \(number\):", "-1", "expected more than 0", "2.5", 2.5),
        ("amount", r"Answer \(number\):", "lots", "expected number, got string", ".5", 0.5),
        ("colour", r"Answer \(1 to 3\):", "blue", "Choose a number from 1 to 3.", "green", "green"),
        ("colour", r"Answer \(1 to 3\):", "4", "Choose a number from 1 to 3.", "3", 3),
        ("weights", r"Answer \(JSON\):", "{", "is not valid JSON", '{"a": 1}', {"a": 1}),
        ("weights", r"Answer \(JSON\):", '{"a": ""}', "a: expected integer, got string", "{}", {}),
    ],
)
def test_other_answers(begin, answer, result_of, workflow, label, wrong, message, typed, result):
    run_id = begin(workflow)
    form = answer(run_id, "1")
    form.expect(label)
    form.send(f"{wrong}\r")
    form.expect(message)
    form.expect(label)
    form.send(f"{typed}\r")
    assert form.end() == 0
    assert result_of(run_id) == result


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_leaving_answers_nothing(nexus, asking, begin, answer, key):
    run_id = begin("name")
    form = answer(run_id)
    form.expect("Answer:")
    form.send(f"half{key}" if key == "\x03" else key)
    assert form.end() == 130
    assert "Traceback" not in form.text
    (question,) = nexus.forked("--connect", asking, "questions", "show", run_id, app=False).json["questions"]
    assert question["status"] == "open"


def test_a_question_that_was_closed_meanwhile(nexus, asking, begin, answer):
    run_id = begin("name")
    form = answer(run_id)
    form.expect("Answer:")
    assert nexus.forked("--connect", asking, "questions", "answer", run_id, "--answer", "Ada", app=False).code == 0
    form.send("Bob\r")
    form.expect("The question was answered before.")
    assert form.end() == 65
    again = answer(run_id, "1")
    again.expect("The question is no longer open: answered.")
    assert again.end() == 65


def test_lists_on_a_terminal(terminal, asking, begin):
    run_id = begin("ship", "--order", "A-7")
    listed = terminal("--connect", asking, "questions", app=False)
    listed.expect(r"RUN +QUESTION +TO +EXPIRES")
    listed.expect(run_id)
    assert listed.end() == 0
    assert "\x1b]0" not in listed.raw
    shown = terminal("--connect", asking, "questions", "show", run_id, app=False)
    shown.expect("to be answered by: caller")
    shown.expect(f"nexus --connect {asking} questions answer {run_id} 1")
    assert shown.end() == 0


# While a run is followed


@pytest.mark.parametrize("way", ["in process", "connected"])
def test_a_follower_is_asked_and_goes_on(terminal, asking, way):
    words = [] if way == "in process" else ["--connect", asking]
    run = terminal(*words, "execute", "twice", env={"NEXUS_APP": str(APP), "NO_COLOR": "1"}, app=False)
    run.expect(r"First\?")
    run.expect(r"Answer \(integer\):")
    run.send("one\r")
    run.expect("expected integer, got string")
    run.send("1\r")
    run.expect(r"Second\?")
    run.expect(r"Answer \(integer\):")
    run.send("2\r")
    run.expect(r"\[\s+1,\s+2\s+\]")
    assert run.end() == 0


def test_who_follows_a_run_from_later_on_is_asked_what_is_open(terminal, nexus, asking, begin):
    run_id = begin("twice")
    assert nexus.forked("--connect", asking, "questions", "answer", run_id, "--answer", "1", app=False).code == 0
    run = terminal("--connect", asking, "runs", "follow", run_id, app=False, env={"NO_COLOR": "1"})
    run.expect(r"Second\?")
    run.expect("Answer")
    assert "First?" not in run.text
    run.send("2\r")
    run.expect(r"\[\s+1,\s+2\s+\]")
    assert run.end() == 0


def test_a_question_that_another_answers_does_not_end_following(terminal, nexus, asking, begin, result_of):
    run_id = begin("name")
    run = terminal("--connect", asking, "runs", "follow", run_id, app=False)
    run.expect("Answer:")
    assert nexus.forked("--connect", asking, "questions", "answer", run_id, "--answer", "Ada", app=False).code == 0
    run.send("Bob\r")
    run.expect("The question was answered before.")
    run.expect("Ada")
    assert run.end() == 0


def test_a_follower_who_leaves_the_form(terminal, nexus, asking, begin):
    run_id = begin("name")
    run = terminal("--connect", asking, "runs", "follow", run_id, app=False)
    run.expect("Answer:")
    run.send("\x04")  # goes on following
    run.expect(f"questions answer {run_id} 1")
    assert nexus.forked("--connect", asking, "questions", "answer", run_id, "--answer", "Ada", app=False).code == 0
    assert run.end() == 0
    run_id = begin("name")
    run = terminal("--connect", asking, "runs", "follow", run_id, app=False)
    run.expect("Answer:")
    run.send("\x03")
    assert run.end() == 130
    shown = nexus.forked("--connect", asking, "runs", "show", run_id, app=False).json
    assert shown["status"] == "waiting"


def test_a_follower_who_may_not_answer_sees_how_others_do(terminal, nexus, guarded_asking):
    where = ["--connect", guarded_asking]
    run = terminal(*where, "--token", "bob", "execute", "release", app=False)
    run.expect("release waits for an answer by permission:data.read: Release it")
    run_id = run.expect(rf"Answer with: nexus --connect {guarded_asking} questions answer (\w+) 1")[1]
    words = ["questions", "answer", run_id, "--answer", "true"]
    assert nexus.forked(*where, "--token", "alice", *words, app=False).code == 0
    run.expect("released")
    assert run.end() == 0


def test_a_run_that_waits_is_said_to(terminal, asking):
    run = terminal("--connect", asking, "execute", "name", "--wait", "20", app=False)
    run.expect("waits for an answer")
    run.expect("nexus questions show")
    assert run.end() == 0
