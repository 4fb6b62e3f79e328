"""The command-line port, over real sockets, as strangers meet it."""

from __future__ import annotations

import http.client
import json
import socket
import time
from urllib.parse import urlsplit

import pytest

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def ask(server):
    def ask(body, headers=JSON, method="POST", path="/cli"):
        connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=20)
        connection.request(method, path, json.dumps(body) if isinstance(body, dict | list) else body, headers)
        response = connection.getresponse()
        lines = response.read().splitlines()
        connection.close()
        return response.status, [json.loads(line) for line in lines]

    return ask


def test_events_come_before_the_reply(ask):
    status, lines = ask({"command": "execute", "workflow": "stream", "params": {"n": 2}, "events": True})
    assert status == 200
    assert [line["event"]["type"] for line in lines[:-1]] == ["workflow.started", "workflow.output", "workflow.output"]
    assert lines[-1]["reply"]["result"] == [{"i": 0}, {"i": 1}]
    assert lines[-2]["event"]["channel"] == "cli"


def test_an_error_after_the_start_is_the_last_line(ask):
    status, lines = ask({"command": "execute", "workflow": "told", "events": True})
    assert (status, lines[-1]["error"]["code"]) == (200, "workflow_error")


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("{", 400, "not valid JSON"),
        ("[]", 400, "must be a JSON object, not array"),
        ("", 400, "not valid JSON"),
        ('{"command": "list", "command": "list"}', 400, "twice"),
        ("[" * 100_000, 400, "nested too deeply"),
        ({"command": "rm"}, 400, "command must be one of"),
        ({}, 400, "command must be one of"),
        ({"command": ["list"]}, 400, "command must be one of"),
        ({"command": "execute"}, 400, "workflow must be a string, not missing"),
        ({"command": "execute", "workflow": 3}, 400, "workflow must be a string, not integer"),
        ({"command": "execute", "workflow": "add", "parms": {}}, 400, 'Did you mean "params"'),
        ({"command": "execute", "workflow": "add", "params": []}, 400, "must be a JSON object, not array"),
        ({"command": "execute", "workflow": "add", "params": {}}, 422, "/a: missing"),
        ({"command": "execute", "workflow": "add", "params": {}, "events": True}, 422, "/a: missing"),
        ({"command": "execute", "workflow": "add", "timeout": 0}, 400, "timeout must be"),
        ({"command": "execute", "workflow": "add", "timeout": True}, 400, "timeout must be"),
        ({"command": "execute", "workflow": "add", "wait": -1}, 400, "wait must be"),
        ({"command": "execute", "workflow": "add", "session": "s"}, 400, 'Unknown member "session"'),
        ({"command": "execute", "workflow": "add", "events": 1}, 400, "events must be"),
        ({"command": "execute", "workflow": "a/../b"}, 404, "There is no workflow"),
        ({"command": "describe", "workflow": "ad"}, 404, 'Did you mean "add"?'),
        ({"command": "runs.list", "limit": 0}, 400, "limit must be"),
        ({"command": "runs.show", "run_id": None}, 400, "run_id must be"),
        ({"command": "runs.follow", "run_id": "x"}, 404, "no run"),
    ],
)
def test_wrong_requests_name_what_is_wrong(ask, body, status, detail):
    got, lines = ask(body)
    assert (got, len(lines)) == (status, 1)
    assert detail in lines[0]["error"]["detail"]


@pytest.mark.parametrize(
    ("headers", "method", "path", "status"),
    [
        ({"Content-Type": "text/plain"}, "POST", "/cli", 400),
        ({}, "POST", "/cli", 400),
        (JSON | {"Origin": "http://127.0.0.1:8001"}, "POST", "/cli", 403),
        (JSON | {"Origin": "null"}, "POST", "/cli", 403),
        (JSON | {"X-Nexus-Session": "x" * 300}, "POST", "/cli", 400),
        (JSON | {"Idempotency-Key": "x" * 300}, "POST", "/cli", 400),
        (JSON, "GET", "/cli", 405),
        (JSON, "OPTIONS", "/cli", 405),
        (JSON, "POST", "/cli/more", 404),
    ],
)
def test_web_pages_and_strangers_get_nothing(ask, headers, method, path, status):
    got, lines = ask({"command": "list"}, headers, method, path)
    assert got == status
    assert "error" in lines[0]


def send_and_leave(server, request, until=b"\n"):
    parts = urlsplit(server)
    body = json.dumps(request).encode()
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        head = f"POST /cli HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        sock.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        received = b""
        while until not in received:
            received += sock.recv(65536)


def status_of(ask, workflow):
    return ask({"command": "runs.list", "workflow": workflow, "limit": 1})[1][0]["reply"]["runs"][0]["status"]


def test_a_caller_that_leaves_cancels_its_run_unless_it_is_detached(ask, server, tmp_path):
    mark = tmp_path / "cancelled"
    params = {"path": str(mark)}
    request = {"command": "execute", "workflow": "marks_cancel", "params": params, "events": True}
    send_and_leave(server, request, until=b"workflow.started")
    deadline = time.monotonic() + 10
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert status_of(ask, "marks_cancel") == "cancelled"
    send_and_leave(server, {"command": "execute", "workflow": "slow", "params": {"steps": 10}, "wait": 0}, b"run_id")
    deadline = time.monotonic() + 10
    while (status := status_of(ask, "slow")) == "running":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert status == "completed"


def test_who_calls_reaches_the_pipeline(nexus, free_port):
    """In process and over the port, an interceptor sees the same; over the port all headers too."""
    (nexus.cwd / "seen.py").write_text(
        "from nexus_core import Nexus, Stage, hookimpl\n"
        "seen, beside = [], []\n"
        "class Look:\n"
        "    stage = Stage.OBSERVE\n"
        "    async def __call__(self, invocation, call_next):\n"
        "        headers = invocation.headers or {}\n"
        "        other = [invocation.idempotency_key, invocation.client_address, headers.get(b'x-api-key')]\n"
        "        seen.append([invocation.channel, invocation.credentials, invocation.session_id])\n"
        "        beside.append([each.decode() if isinstance(each, bytes) else each for each in other])\n"
        "        invocation.session_id = None\n"
        "        return await call_next(invocation)\n"
        "class Plugin:\n"
        "    @hookimpl\n"
        "    def nexus_register_interceptors(self, nexus):\n"
        "        return [Look()]\n"
        "nexus = Nexus(plugins=[Plugin()])\n"
        "@nexus.workflow\n"
        "def last() -> list:\n"
        "    return seen[-1]\n"
        "@nexus.workflow\n"
        "def last_beside() -> list:\n"
        "    return beside[-1]\n"
    )
    words = ("--app", "seen.py", "--token", "sesame", "--session", "s1", "execute", "last")
    expected = ["cli", {"authorization": "Bearer sesame"}, "s1"]
    assert nexus.forked(*words, app=False).json["result"] == expected
    basic = nexus.forked("--app", "seen.py", "execute", "last", app=False, env={"NEXUS_TOKEN": "Basic eDp5"})
    assert basic.json["result"] == ["cli", {"authorization": "Basic eDp5"}, None]
    beside = ("--header", "X-API-Key:  nxk_0", "--header=x-api-KEY: nxk_1 ", "execute", "last_beside")
    assert nexus.forked("--app", "seen.py", *beside, app=False).json["result"] == [None, None, "nxk_1"]
    process = nexus.popen(
        "serve", "seen.py", env={"NEXUS_CLI_PORT": str(free_port), "NEXUS_DISABLED_PLUGINS": "api,mcp"}
    )
    try:
        deadline = time.monotonic() + 20
        url = f"http://127.0.0.1:{free_port}"
        while (done := nexus.forked("--connect", url, *words[2:], app=False)).code == 75:
            assert time.monotonic() < deadline
        assert done.json["result"] == expected
        headers = JSON | {"X-API-Key": "nxk_1", "Idempotency-Key": "k", "X-Nexus-Session": "s1"}
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        connection.request("POST", "/cli", '{"command": "execute", "workflow": "last_beside"}', headers)
        told = json.loads(connection.getresponse().read())
        connection.close()
        assert told["reply"]["result"] == ["k", "127.0.0.1", "nxk_1"]
        done = nexus.forked("--connect", url, *beside, "--idempotency-key", "l", app=False)
        assert done.json["result"] == ["l", "127.0.0.1", "nxk_1"]
    finally:
        process.terminate()
        assert process.wait(20) == 0
