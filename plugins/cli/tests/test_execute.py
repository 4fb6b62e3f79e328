"""`nexus execute`, piped: exactly the API's reply on stdout, one line on stderr, the error's exit code."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(params=["in process", "connected"])
def execute(request, nexus):
    """`nexus execute` both ways: everything must be equal."""
    if request.param == "in process":
        return lambda *words, **options: nexus.forked("execute", *words, **options)
    url = request.getfixturevalue("server")
    return lambda *words, **options: nexus.forked("--connect", url, "execute", *words, app=False, **options)


def test_the_reply_is_that_of_the_api(execute):
    done = execute("add", "--a", "3", "--b", "4")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r'\{"result":7,"run_id":"[0-9a-f]{32}"\}\n', done.out)


def test_fields_are_read_by_the_schema(execute):
    done = execute(
        "echo", "--text", "3", "--number", "-1.5", "--flag", "--tags", "a", "--tags=[b", "--sizes", "1", "--sizes", "2",
        "--kind=large", "--options", '{"k": 1}', "--either", "7", "--dry-run", "--anything", "[null]",
    )  # fmt: skip
    assert done.err == ""
    assert done.json["result"] == {
        "text": "3", "number": -1.5, "flag": True, "tags": ["a", "[b"], "sizes": [1, 2], "kind": "large",
        "options": {"k": 1}, "either": 7, "dry_run": True, "anything": [None],
    }  # fmt: skip


def test_a_list_may_be_one_json_array_and_a_flag_be_denied(execute):
    done = execute("echo", "--sizes", "[1, 2]", "--no-flag", "--options", "null", "--either", "x", "--text=--flag")
    result = done.json["result"]
    assert [result[name] for name in ("sizes", "flag", "options", "either", "text")] == [
        [1, 2], False, None, "x", "--flag",
    ]  # fmt: skip


def test_data_is_a_file_stdin_or_text_and_fields_come_first(execute, tmp_path):
    (tmp_path / "in.json").write_text('{"a": 1, "b": 10}')
    assert execute("add", "--data", "@in.json").json["result"] == 11
    assert execute("add", "--data", "-", stdin='{"a": 2}').json["result"] == 3
    assert execute("add", "--data={}", "--data", '{"a": 1, "b": 1}', "--b", "5").json["result"] == 6
    assert execute("colliding", "--data", '{"timeout": 5, "data": "x"}').json["result"] == [5, "x"]


WRONG = [
    (["add", "--data", '{"a": 1'], 2, "not valid JSON"),
    (["add", "--data", '{"a": NaN}'], 2, "not valid JSON"),
    (["add", "--data", '{"a": 1, "a": 2}'], 2, 'the key "a" twice'),
    (["add", "--data", "[1]"], 2, "must be a JSON object, not array"),
    (["add", "--data", "-"], 2, "/a: missing"),
    (["add", "--data", "@missing.json"], 2, "can't be read"),
    (["add", "--a", "NaN"], 2, "--a: expected integer, got string"),
    (["add", "--a", "1", "--c", "2"], 2, "--c: unknown name"),
    (["add"], 2, "--a: missing"),
    (["add", "--a", "1", "--bb", "2"], 2, "--bb: unknown name; did you mean --b?"),
    (["echo", "--options", '{"x": "y"}'], 2, "--options.x: expected integer, got string"),
    (["echo", "--sizes", "1", "--sizes", "x"], 2, "--sizes[1]: expected integer, got string"),
    (["echo", "--flag=2", "--numbr", "x"], 2, "--flag: expected boolean, got string; --numbr: unknown name; did you"),
    (["add", "--a", "x", "--data", '{"b": "y"}'], 2, "/b: expected integer, got string; --a: expected integer"),
    (["add", "--data", '{"bb": 1}'], 2, '/bb: unknown name; did you mean "b"?'),
    (["colliding", "--data", '{"timeout": "x"}'], 2, "/timeout: expected integer"),
    (["add", "--a"], 2, "Option --a needs a value"),
    (["add", "3"], 2, "Unexpected argument '3'"),
    (["add", "--a", b"\xff"], 2, "not valid UTF-8"),
    (["echo", "--kind", "larg"], 2, 'did you mean "large"?'),
    (["nope", "--x", "1"], 66, 'There is no workflow "nope"'),
    (["../../etc/passwd"], 66, "There is no workflow"),
    (["a/b"], 66, "There is no workflow"),
    (["a\r\nX-Evil: 1"], 66, r"a\u000d\u000aX-Evil: 1"),
    ([""], 2, "No workflow is named"),
    (["told"], 1, r"no luck\u001b[31m\u000d\u000atoday"),
    (["crash"], 1, "The workflow failed"),
    (["crash"], 1, " (run 0"),
    (["told"], 1, " (run 0"),
    (["add", "--data", "hello"], 2, "The value of --data is not valid JSON"),
    (["add", "--data", "[1]"], 2, "The value of --data must be a JSON object"),
    (["add", "--a", "1", "--timeout", "nan"], 2, "--timeout needs a number of seconds"),
    (["add", "--a", "1", "--timeout", "inf"], 2, "--timeout needs a number of seconds"),
    (["add", "--a", "1", "--wait", "nan"], 2, "--wait"),
    (["add", "--a", "1", "--wait", "-1"], 2, "--wait"),
    (["not_json"], 1, "cannot be converted to JSON"),
    (["huge", "--n", "17000000"], 1, "max_result_bytes"),
    (["hang", "--timeout", "0.3"], 124, "within 0.3 seconds"),
    (["add", "--a", "1", "--session", "nobodys"], 66, "There is no session"),
    (["add", "--a", "x", "--session", "nobodys"], 66, "There is no session"),
    (["add", "--a", "1", "--timeout", "soon"], 2, "--timeout"),
]


def test_problem_details_keep_their_pointers(execute):
    done = execute("add", "--a", "x", "--json")
    problem = json.loads(done.err)
    assert (done.code, problem["errors"][0]["pointer"]) == (2, "/a")
    assert problem["detail"] == "/a: expected integer, got string"


@pytest.mark.parametrize("way", ["in process", "connected"])
def test_what_is_wrong_is_one_line_and_an_exit_code(nexus, request, way):
    connected = way == "connected" and {"app": False, "env": {"NEXUS_CONNECT": request.getfixturevalue("server")}}
    every = nexus.each([["execute", *words] for words, _, _ in WRONG], **(connected or {}))
    for (words, code, message), done in zip(WRONG, every, strict=True):
        assert (done.code, done.out) == (code, ""), words
        assert re.fullmatch(r"nexus: [^\x00-\x1f]*\n", done.err), done.err
        assert message in done.err
        assert "the secret" not in done.err


def test_json_too_deep_is_refused(execute):
    done = execute("echo", "--data", "-", stdin='{"anything":' + DEEP + "}")
    assert (done.code, done.out) == (2, "")
    assert "nested too deeply" in done.err


def test_with_json_an_error_is_the_problem_object(execute):
    done = execute("add", "--a", "x", "--json")
    problem = json.loads(done.err)
    assert (done.code, problem["code"], problem["status"]) == (2, "validation_error", 422)
    assert problem["errors"] == [{"pointer": "/a", "message": "expected integer, got string", "expected": "integer"}]


def test_a_huge_result_arrives_whole(execute):
    assert len(execute("huge", "--n", "16000000").json["result"]) == 16_000_000


def test_a_stream_is_one_array_when_piped(execute):
    assert execute("stream").json["result"] == [{"i": 0}, {"i": 1}, {"i": 2}]


def test_what_the_workflow_prints_does_not_spoil_the_reply(nexus):
    done = nexus("execute", "chatty")
    assert done.json["result"] == "result"
    assert "printed by the workflow" in done.err


def test_the_secret_is_in_the_log_with_debug(nexus):
    assert "ValueError: the secret" in nexus.forked("--debug", "execute", "crash").err


def test_help_shows_the_fields(nexus):
    done = nexus.forked("execute", "add", "--help")
    assert done.code == 0
    assert re.search(r"--a INTEGER +The first. \[required\]", done.out)
    assert re.search(r"--b INTEGER +The second. \[default: 1\]", done.out)
    assert "--kind small|large" in nexus.forked("execute", "echo", "--help").out
    assert "[set it with --data]" in nexus.forked("execute", "colliding", "--help").out


def test_a_reader_that_leaves_is_no_error(nexus):
    import subprocess

    process = nexus.popen("execute", "huge", "--n", "10000000", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(20) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize("connected", [False, True])
def test_an_interrupt_cancels_the_run(nexus, server, tmp_path, connected):
    mark = tmp_path / "cancelled"
    words = ["--connect", server] if connected else []
    process = nexus.popen(*words, "execute", "marks_cancel", "--path", str(mark))
    until(lambda: (tmp_path / "cancelled.began").exists())
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130  # a busy machine
    until(mark.exists)


def until(condition, timeout=15):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
