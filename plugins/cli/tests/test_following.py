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
from redis_service import RedisProxy

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
    """A command that follows, its output in files."""

    def __init__(self, nexus, *words):
        self._files = [nexus.cwd / f"{len(list(nexus.cwd.iterdir()))} {name}" for name in ("out", "err")]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self.process = subprocess.Popen([*COMMAND, *words], env=nexus.env, cwd=nexus.cwd, stdout=out, stderr=err)
        self.events, self._skipped, self.reply = [], 0, None

    @property
    def told(self):
        return self._files[1].read_text()

    def forget(self):
        self._skipped += len(self.events)
        self.events = []

    def read(self):
        lines = [json.loads(line) for line in self._files[0].read_text().split("\n")[:-1]]
        self.events = [line for line in lines if "type" in line][self._skipped :]
        self.reply = next((line for line in lines if "type" not in line), None)

    def until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition(self):
            assert time.monotonic() < deadline, (self.events, self.told)
            self.read()
            time.sleep(0.01)

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self.read()
        return code


@pytest.fixture
def follow(nexus):
    begun = []

    def begin(url, *words):
        begun.append(Following(nexus, "--connect", url, *words))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.wait()


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
    assert all(event["id"].endswith(f"-{event['number']}") for event in every.events)
    assert every.end(signal.SIGINT) == 130

    again = follow(server, "events", "follow", "--after", every.events[-3]["id"])
    again.until(lambda each: len(each.events) >= 2)
    assert again.events[:2] == every.events[-2:]


def test_a_cut_connection_loses_and_repeats_nothing(server, follow):
    proxy = RedisProxy(urlsplit(server).port, server)
    try:
        session = begin_session(server)
        following = follow(proxy.url, "sessions", "follow", session)
        began(following, server, session)
        for number in range(1, 31):
            latest = change(server, session, n=number)["version"]
            if number % 10 == 0:
                proxy.mode = "refuse"
            elif number % 10 == 5:
                proxy.mode = "pass"
        proxy.mode = "pass"
        following.until(lambda each: each.events and each.events[-1]["data"]["version"] >= latest)
        assert [event["data"]["version"] for event in following.events] == [*range(latest - 29, latest + 1)]
        assert following.events[-1]["state"] == {"n": 30}
        assert following.told.splitlines()[:2] == [
            "nexus: the server has gone; waiting for it up to 60 s", "nexus: the server is back",
        ]  # fmt: skip
    finally:
        proxy.close()


@contextmanager
def server_on(port, nexus, tmp_path):
    """A server of its own, which is killed at the end."""
    log = tmp_path / "log"
    env = nexus.env | {"NEXUS_CLI_PORT": str(port), "NEXUS_API_PORT": "0", "NEXUS_MCP_PORT": "0"}
    with log.open("ab") as stream:
        process = subprocess.Popen([*COMMAND, "serve", str(APP)], env=env, stdout=stream, stderr=stream)
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _answers(port):
    try:
        return "reply" in call(f"http://127.0.0.1:{port}", {"command": "list"})
    except OSError:
        return False


def test_a_server_that_is_killed_and_comes_back(nexus, follow, free_port, tmp_path):
    with server_on(free_port, nexus, tmp_path) as url:
        session = begin_session(url)
        every, one = follow(url, "events", "follow"), follow(url, "sessions", "follow", session)
        began(one, url, session)
        every.until(lambda each: each.events)
    with server_on(free_port, nexus, tmp_path) as url:
        every.until(lambda each: any(event["type"] == "events.missed" for event in each.events))
        call(url, {"command": "execute", "workflow": "add", "params": {"a": 1}})
        every.until(lambda each: each.events[-1]["type"] == "workflow.completed")
        assert one.end() == 66  # sessions were in its memory
        assert "There is no session of that id." in one.told


def test_a_server_that_does_not_come_back(nexus, follow, free_port, tmp_path):
    with server_on(free_port, nexus, tmp_path) as url:
        session = begin_session(url)
        every, at_once = [follow(url, "sessions", "follow", session, "--retry", each) for each in ("1", "0")]
        began(every, url, session)
        began(at_once, url, session)
    assert at_once.end() == 75
    assert "waiting" not in at_once.told
    assert every.end() == 75
    assert "waiting for it up to 1 s" in every.told
    assert "nexus serve" in every.told.splitlines()[-1]
    never = follow(url, "events", "follow")
    assert never.end() == 75
    assert "can't be reached" in never.told


def test_who_leaves_is_forgotten_at_once(follow, serve_app, tmp_path):
    app = tmp_path / "app.py"
    app.write_text("""
from nexus_core import Nexus
nexus = Nexus()
@nexus.workflow
async def followers() -> int:
    return len(nexus.event_log._followers)
""")
    with serve_app(app) as url:

        def count():
            return call(url, {"command": "execute", "workflow": "followers"})["reply"]["result"]

        following = [follow(url, "events", "follow") for _ in range(3)]
        following[0].until(lambda _: count() == 3)
        for each, number in zip(following, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL), strict=True):
            each.end(number)
        following[0].until(lambda _: count() == 0)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"after": "x"}, "id of the last event"), ({"after": 5}, "after must be a string"),
        ({"after": "x" * 300}, "after is longer than 255"), ({"session_id": []}, "session_id must be a string"),
        ({"more": 1}, 'has no member "more"'),
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


REWORDING = """
import sys
sys.path.insert(0, {folder!r})
from app_for_tests import nexus
from nexus_core import EventHandler
class Handler(EventHandler):
    def handle_error(self, event):
        assert event.channel == "cli"
        return {{"told": 42, "crash": {{"error": "reworded"}}, "not_json": 300}}.get(event.workflow_name)
nexus.register_event_handler(Handler())
"""


@pytest.mark.parametrize("where", ["in process", "over the port"])
def test_an_event_handler_rewords_errors(nexus, where, tmp_path, serve_app):
    app = tmp_path / "rewording.py"
    app.write_text(REWORDING.format(folder=str(APP.parent)))

    def check(*where):
        told, crash, other, refused = (
            nexus(*where, "execute", name, app=False) for name in ("told", "crash", "not_json", "nothing")
        )
        assert (told.code, "no luck" in told.err) == (42, True)
        assert (crash.code, crash.err.splitlines()[-1]) == (1, '{"error":"reworded"}')
        assert (other.code, other.err.splitlines()[-1]) == (1, "300")  # no exit code
        assert (refused.code, "nothing" in refused.err) == (66, True)

    if where == "in process":
        check("--app", str(app))
    else:
        with serve_app(app) as url:
            check("--connect", url)
