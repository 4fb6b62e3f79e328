"""``nexus events follow`` and ``nexus sessions follow``: live, over restarts and cut connections, and to the end."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from nexus_cli.backends.remote import RemoteBackend
from nexus_cli.options import Options
from redis_service import RedisProxy

from nexus_core.errors import BackendUnavailable

SECONDS = 20
APP = Path(__file__).with_name("app_for_tests.py")
COMMAND = [sys.executable, "-m", "nexus_core"]


def call(url, request, **headers):
    """Send a request to a command-line port; the last line of the answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    own = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", "/cli", json.dumps(request), {"Content-Type": "application/json"} | own)
    lines = connection.getresponse().read().splitlines()
    connection.close()
    return json.loads(lines[-1])


def begin_session(url):
    return call(url, {"command": "sessions.create"})["reply"]["session_id"]


def change(url, session, **state):
    return call(url, {"command": "sessions.set", "session_id": session, "state": state})["reply"]


class Following:
    """A command that follows."""

    def __init__(self, nexus, *words, env=None):
        self._child = nexus.begin(*words, app=False, env=env)
        self.events, self._skipped, self.reply = [], 0, None

    @property
    def told(self):
        return self._child.stderr.read_text()

    def forget(self):
        self._skipped += len(self.events)
        self.events = []

    def read(self):
        lines = [json.loads(line) for line in self._child.stdout.read_text().split("\n")[:-1]]
        self.events = [line for line in lines if "type" in line][self._skipped :]
        self.reply = next((line for line in lines if "type" not in line), None)

    def until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition(self):
            assert time.monotonic() < deadline, (self.events, self.told)
            self.read()
            time.sleep(0.01)

    @property
    def done(self):
        return max((event["data"]["done"] for event in self.events if event["type"] == "workflow.progress"), default=0)

    def end(self, number=None):
        code = self._child.end(SECONDS, number).code
        self.read()
        return code


@pytest.fixture
def follow(nexus):
    return lambda url, *words: Following(nexus, "--connect", url, *words)


def began(following, url, session):
    """Wait until it follows: change the session until it has seen that."""
    deadline = time.monotonic() + SECONDS
    while not following.events:
        assert time.monotonic() < deadline, following.told
        change(url, session, n=-1)
        following.read()
        time.sleep(0.05)
    latest = change(url, session, n=0)["version"]
    following.until(lambda each: each.events[-1].get("data", {}).get("version") == latest)
    following.forget()


def test_events_come_as_they_happen_until_the_session_ends(server, follow):
    session = begin_session(server)
    one, every = follow(server, "sessions", "follow", session), follow(server, "events", "follow")
    began(one, server, session)
    every.until(lambda each: each.events or not change(server, session, n=0))
    change(server, session, n=1)
    call(server, {"command": "execute", "workflow": "add", "params": {"a": 1}})
    call(server, {"command": "sessions.revoke", "session_id": session})
    assert one.end() == 0
    assert one.reply == {"session_id": session, "ended": "removed"}
    assert [event["type"] for event in one.events[-2:]] == ["session.updated", "session.removed"]
    assert one.events[-2]["state"] == {"n": 1}
    every.until(lambda each: each.events[-1]["type"] == "session.removed")
    kinds = [event["type"] for event in every.events]
    assert kinds[-4:] == ["session.updated", "workflow.started", "workflow.completed", "session.removed"]
    assert len({event["id"] for event in every.events}) == len(every.events)
    assert every.end(signal.SIGINT) == 130

    again = follow(server, "events", "follow", "--after", every.events[-3]["id"])
    again.until(lambda each: len(each.events) >= 2)
    assert again.events[:2] == every.events[-2:]


@pytest.fixture
def proxy(server):
    """A way to the server that can be disturbed."""
    between = RedisProxy(urlsplit(server).port, server)
    yield between
    between.close()


def test_a_cut_connection_loses_and_repeats_nothing(server, proxy, follow):
    session = begin_session(server)
    following = follow(proxy.url, "sessions", "follow", session)
    began(following, server, session)
    for number in range(1, 31):
        latest = change(server, session, n=number)["version"]
        if number % 10 == 0:
            proxy.mode = "cut" if number == 20 else "refuse"
        elif number % 10 == 5:
            proxy.mode = "pass"
    proxy.mode = "pass"
    following.until(lambda each: each.events and each.events[-1]["data"]["version"] >= latest)
    assert [event["data"]["version"] for event in following.events] == [*range(latest - 29, latest + 1)]
    assert following.events[-1]["state"] == {"n": 30}
    gone = "nexus: connection to the server lost; reconnecting for up to 60 s"
    assert following.told.splitlines()[:2] == [gone, "nexus: reconnected to the server"]
    proxy.mode = "refuse"
    following.until(lambda each: each.told.endswith(f"{gone}\n"))
    change(server, session, n=31)
    call(server, {"command": "sessions.revoke", "session_id": session})
    proxy.mode = "pass"
    assert following.end() == 0
    assert [event["data"]["version"] for event in following.events[30:] if "data" in event] == [latest + 1]
    assert following.events[-1]["type"] == "session.removed"
    assert following.reply == {"session_id": session, "ended": "removed"}


def test_a_run_is_followed_over_a_cut_connection(server, proxy, follow):
    request = {"command": "execute", "workflow": "slow", "params": {"steps": 60}, "wait": 0}
    run_id = call(server, request)["reply"]["run_id"]
    following = follow(proxy.url, "runs", "follow", run_id)
    following.until(lambda each: each.done >= 5)
    proxy.mode = "refuse"
    following.until(lambda each: "reconnecting" in each.told)
    proxy.mode = "pass"
    assert following.end() == 0
    steps = [event["data"]["done"] for event in following.events if event["type"] == "workflow.progress"]
    assert steps == [*range(1, 61)]
    assert following.reply == {"result": "done", "run_id": run_id}


def test_a_server_that_says_nothing_counts_as_gone(proxy):
    def show(event):
        proxy.mode = "blackhole"

    backend = RemoteBackend(proxy.url)
    begin = time.monotonic()
    with pytest.raises(BackendUnavailable, match="timed out"):
        backend.call({"command": "events.follow"}, Options(silence=0.3), show)
    assert 0.3 <= time.monotonic() - begin < 3
    proxy.mode = "pass"
    assert b"add" in backend.call({"command": "list"}, Options())
    backend.close()


@pytest.fixture
def serve_on(server_env, free_port, tmp_path):
    """Serve on the same port each time; the server gets a signal at the end."""
    log = tmp_path / "log"

    @contextmanager
    def serve(number=signal.SIGKILL, **options):
        env = server_env | {"NEXUS_CLI_PORT": str(free_port)} | options
        with log.open("ab") as stream:
            process = subprocess.Popen([*COMMAND, "serve", str(APP)], env=env, stdout=stream, stderr=stream)
        try:
            deadline = time.monotonic() + SECONDS
            while not _answers(free_port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            yield f"http://127.0.0.1:{free_port}"
        finally:
            process.send_signal(number)
            process.wait(SECONDS)

    return serve


def _answers(port):
    try:
        return "reply" in call(f"http://127.0.0.1:{port}", {"command": "list"})
    except OSError:
        return False


def test_a_server_that_is_killed_and_comes_back(follow, serve_on):
    with serve_on() as url:
        session = begin_session(url)
        run_id = call(url, {"command": "execute", "workflow": "slow", "params": {"steps": 999}, "wait": 0})["reply"][
            "run_id"
        ]
        every, one = follow(url, "events", "follow"), follow(url, "sessions", "follow", session)
        run = follow(url, "runs", "follow", run_id)
        began(one, url, session)
        every.until(lambda each: each.events)
        run.until(lambda each: each.done)
    with serve_on() as url:
        every.until(lambda each: any(event["type"] == "events.missed" for event in each.events))
        call(url, {"command": "execute", "workflow": "add", "params": {"a": 1}})
        every.until(lambda each: each.events[-1]["type"] == "workflow.completed")
        kinds = [event["type"] for event in every.events]
        assert kinds[kinds.index("events.missed") :] == ["events.missed", "workflow.started", "workflow.completed"]
        for each, told in ((one, "There is no session with this id."), (run, "There is no run with this id")):
            assert each.end() == 66  # they were in its memory
            assert told in each.told
            assert "the server was restarted and has lost it" in each.told
        every.forget()
    # Nothing of what was missed is told again when it goes away once more.
    with serve_on() as url:
        every.until(lambda each: each.events)
        call(url, {"command": "execute", "workflow": "add", "params": {"a": 1}})
        every.until(lambda each: each.events[-1]["type"] == "workflow.completed")
        kinds = [event["type"] for event in every.events]
        assert kinds == ["events.missed", "workflow.started", "workflow.completed"]


def test_a_server_that_stops_ends_its_followers(follow, serve_on):
    patient = {"NEXUS_DRAIN_SECONDS": "60"}  # so long would the end take if followers had to be cut off
    with serve_on(signal.SIGTERM, **patient) as url:
        following = [follow(url, "events", "follow", "--retry", each) for each in ("0", "0.5")]
        following[0].until(lambda _: call(url, {"command": "execute", "workflow": "followers"})["reply"]["result"] == 2)
    assert [each.end() for each in following] == [75, 75]
    assert following[0].told.startswith("nexus: The server is stopping.")
    assert "can't be reached" in following[1].told.splitlines()[-1]


def test_a_server_that_does_not_come_back(follow, serve_on):
    with serve_on() as url:
        session = begin_session(url)
        every, at_once = [follow(url, "sessions", "follow", session, "--retry", each) for each in ("1", "0")]
        began(every, url, session)
        began(at_once, url, session)
    assert at_once.end() == 75
    assert "reconnecting" not in at_once.told
    assert every.end() == 75
    assert "reconnecting for up to 1 s" in every.told
    assert "nexus serve" in every.told.splitlines()[-1]
    never = follow(url, "events", "follow")
    assert never.end() == 75
    assert "can't be reached" in never.told


def test_who_leaves_is_forgotten_at_once(follow, server):
    def count():
        return call(server, {"command": "execute", "workflow": "followers"})["reply"]["result"]

    session = begin_session(server)
    following = [follow(server, *words) for words in (["events", "follow"], ["sessions", "follow", session])]
    following.append(follow(server, "--session", session, "events", "follow"))
    following[0].until(lambda _: count() == 3)
    for each, number in zip(following, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL), strict=True):
        assert each.end(number) == (130 if number == signal.SIGINT else -number)
    following[0].until(lambda _: count() == 0)


def test_who_leaves_in_one_process_is_forgotten_too(terminal):
    shell = terminal("shell")
    shell.expect("nexus>")
    shell.send("sessions create\r")
    session = shell.expect(r"([0-9a-f]{48})\n")[1]
    for words in ("events follow", f"sessions follow {session}"):
        shell.expect("nexus>")
        shell.send(f"{words}\r")
        shell.expect("Following. Ctrl-C ends it.")
        shell.send("\x03")
        shell.expect("Interrupted")
    shell.expect("nexus>")
    shell.send("execute followers\r")
    shell.expect(r"\n\r?0")
    shell.expect("nexus>")
    for words, told in (
        (f"sessions set {session} a=1 b=text", '"b": "text"'), ("sessions show nothing", "There is no session"),
        (f"--session {session} sessions revoke", '"revoked": true'),
        (f"sessions follow {session}", "There is no session"),
    ):  # fmt: skip
        shell.send(f"{words}\r")
        shell.expect(told)
        shell.expect("nexus>")
    shell.send("exit\r")
    assert shell.end() == 66


def test_the_session_of_the_environment_is_meant(nexus, server):
    session = begin_session(server)
    env = {"NEXUS_SESSION": session, "NEXUS_CONNECT": server}
    following = Following(nexus, "events", "follow", env=env)
    began(following, server, session)
    call(server, {"command": "execute", "workflow": "add", "params": {"a": 1}})
    call(server, {"command": "sessions.renew", "session_id": session})
    assert following.end() == 0
    assert [event["type"] for event in following.events] == ["session.removed"]
    assert following.reply == {"session_id": session, "ended": "renewed"}


WRONG = [
    (["events", "follow", "--after", "x"], 2, "id of the last event"),
    (["events", "follow", "--after", "x" * 300], 2, "after is longer than 255"),
    (["events", "follow", "--after", b"\xff"], 2, "not valid UTF-8"),
    (["events", "follow", "--session", "nobodys"], 66, "There is no session with this id."),
    (["events", "follow", "--retry", "nan"], 2, "--retry needs a number of seconds"),
    (["events", "follow", "--retry", "-1"], 2, "--retry needs a number of seconds"),
    (["sessions", "follow", "nobodys"], 66, "There is no session with this id."),
    (["sessions", "follow"], 2, "No session is named."),
    (["sessions", "follow", "x", "--retry", "soon"], 2, "--retry needs a number of seconds"),
    (["runs", "follow", "nobodys"], 66, "There is no run with this id"),
    (["runs", "follow", "x", "--retry", "1e99"], 2, "--retry needs a number of seconds"),
]


@pytest.mark.parametrize("way", ["in process", "over the port"])
def test_what_is_wrong_is_said_at_once(nexus, server, way):
    options = {"app": False, "env": {"NEXUS_CONNECT": server}} if way == "over the port" else {}
    for (words, code, told), done in zip(WRONG, nexus.each([each[0] for each in WRONG], **options), strict=True):
        assert (done.code, done.out) == (code, ""), words
        assert told in done.err
        assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"after": "x"}, "id of the last event"), ({"after": 5}, "after must be a string"),
        ({"after": "x" * 300}, "after is longer than 255"), ({"session_id": []}, "session_id must be a string"),
        ({"more": 1}, 'Unknown member "more"'),
    ],
)  # fmt: skip
def test_wrong_requests(server, request_, told):
    assert told in call(server, {"command": "events.follow"} | request_)["error"]["detail"]


def test_people_see_lines(terminal, server):
    session = begin_session(server)
    screen = terminal("--connect", server, "sessions", "follow", session, app=False)
    deadline = time.monotonic() + SECONDS
    while "session.updated" not in screen.text:
        assert time.monotonic() < deadline
        change(server, session, greeting="\x1b[31mred")
        screen._read(time.monotonic() + 0.1)
    screen.expect(r'\d\d:\d\d:\d\d session.updated [\w-]+ \{"greeting":"\\\\?u001b\[31mred"\}')
    call(server, {"command": "sessions.revoke", "session_id": session})
    screen.expect("session.removed")
    screen.expect("The session has ended: removed")
    assert screen.end() == 0
    screen = terminal("--connect", server, "events", "follow", "--after", "another-5", app=False)
    screen.expect("Following. Ctrl-C ends it.")
    screen.expect(r"\d\d events.missed events may have been missed")
    screen.send("\x03")
    assert screen.end() == 130
