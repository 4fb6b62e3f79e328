"""Clients on standard input and output that leave at any time, or never read."""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

HERE = Path(__file__).parent
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def line(message):
    return json.dumps(message).encode() + b"\n"


def call(number, name, **arguments):
    params = {"name": name, "arguments": arguments}
    return line({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params})


class Server:
    """The process, and what it has answered."""

    def __init__(self, **options):
        options = {f"NEXUS_{name.upper()}": str(value) for name, value in options.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nexus_core", "serve", "--stdio", "stdio_app:nexus"],
            cwd=HERE, env=os.environ | options,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def send(self, *lines):
        self.process.stdin.write(b"".join(lines))
        self.process.stdin.flush()

    def read(self):
        return json.loads(self.process.stdout.readline())

    def end(self, how):
        """Leave; return the answers that were still to come, by id, and how long the process took to end."""
        begin = time.monotonic()
        if how == "EOF":
            out, self.errors = self.process.communicate(timeout=20)
        else:
            self.process.send_signal(how)
            out, self.errors = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, self.errors.decode()
        assert b"Traceback" not in self.errors, self.errors.decode()
        return {each["id"]: each for each in map(json.loads, out.splitlines())}, time.monotonic() - begin

    def flood(self, piece, silence=1.5):
        """Send a piece again and again until the pipe has been full for so many seconds; return how often."""
        pipe, sent = self.process.stdin.fileno(), 0
        os.set_blocking(pipe, False)
        while select.select([], [pipe], [], silence)[1]:
            try:
                sent += os.write(pipe, piece) / len(piece)
            except BlockingIOError:
                pass
            assert sent < 50_000, "it takes whatever comes"
        os.set_blocking(pipe, True)
        return sent

    def resident_megabytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@pytest.fixture
def start(kit):
    started = []

    def begin(**options):
        server = Server(**options)
        started.append(server.process)
        server.send(line(kit.initialize()), line(READY))
        assert server.read()["result"]["serverInfo"]["name"] == "nexus"
        return server

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begun(path):
    """Wait until a workflow has written its mark."""
    end = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_calls_under_way_are_answered_after_the_end_of_the_input(start):
    server = start()
    server.send(call(1, "nap", seconds=0.4), call(2, "noisy", a=1), call(3, "nothing"))
    answers, _ = server.end("EOF")
    assert answers[1]["result"]["structuredContent"]["result"] == "rested"
    assert answers[2]["result"]["structuredContent"]["result"] == 2
    assert answers[3]["error"]["code"] == -32602


def test_streams_of_changes_do_not_delay_the_end(start, kit):
    server = Server()
    listen = kit.call("x") | {"method": "subscriptions/listen"}
    listen["params"] = {"notifications": {"toolsListChanged": True}, "_meta": listen["params"]["_meta"]}
    server.send(line(listen))
    assert server.read()["method"].endswith("acknowledged")
    answers, seconds = server.end("EOF")
    assert answers.keys() == {1}
    assert seconds < 15


@pytest.mark.parametrize(
    ("how", "name"),
    [("EOF", "sleep"), ("EOF", "sync_sleep"), (signal.SIGTERM, "sleep"), (signal.SIGINT, "sync_sleep")],
)
def test_a_call_that_goes_on_is_cancelled(start, tmp_path, how, name):
    marker = tmp_path / "marker"
    server = start(shutdown_grace=0.3)
    server.send(call(1, name, marker=str(marker)))
    begun(marker)
    answers, seconds = server.end(how)
    assert "error" in answers[1]
    assert seconds < 15
    assert marker.read_text() == ("cancelled" if name == "sleep" else "started")


def test_a_cancelled_call_is_not_waited_for(start, tmp_path):
    server = start(shutdown_grace=20)
    server.send(call(1, "sleep", marker=str(tmp_path / "marker")))
    begun(tmp_path / "marker")
    server.send(line({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}))
    answers, seconds = server.end("EOF")
    assert answers == {}
    assert seconds < 15


@pytest.mark.parametrize(
    ("rest", "codes"), [(b"", []), (b'{"jsonrpc"', [-32700]), (b"x" * 6_000_000, [-32602])], ids=["", "half", "huge"]
)
def test_the_input_ends_anywhere(start, rest, codes):
    server = start()
    server.send(rest)
    answers, seconds = server.end("EOF")
    assert [answer["error"]["code"] for answer in answers.values()] == codes
    assert seconds < 15


def test_the_input_ends_before_it_begins():
    answers, _ = Server().end("EOF")
    assert answers == {}


def test_a_message_without_end_of_line(start):
    server = start()
    server.send(b'{"jsonrpc":"2.0","id":5,"method":"ping"}')
    assert server.end("EOF")[0] == {5: {"jsonrpc": "2.0", "id": 5, "result": {}}}


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
@pytest.mark.parametrize("kind", ["calls", "rubbish"])
def test_a_client_that_never_reads_fills_no_memory(start, kind):
    server = start(max_concurrent_workflows=10, max_concurrent_sessions=10)
    before = server.resident_megabytes()
    sent = server.flood(call(1, "blob", size=200_000) if kind == "calls" else b"rubbish\n" * 100)
    assert sent > 10
    assert server.resident_megabytes() - before < 100
    server.process.terminate()
    assert server.process.wait(10) == 0  # nor is anything read while it ends
    server.process.stdout.close()


@pytest.mark.parametrize("sent", [b"rubbish\n", call(1, "nap", seconds=60)], ids=["rubbish", "call"])
def test_a_client_that_reads_no_more_is_served_no_more(start, sent):
    server = start()
    server.process.stdout.close()
    server.send(sent, call(2, "noisy", a=1))
    assert server.process.wait(10) == 0
    errors = server.process.stderr.read()
    assert b"Traceback" not in errors
    assert b"never retrieved" not in errors


def test_a_client_that_reads_late_gets_every_answer(start):
    server = start(max_concurrent_workflows=5, max_concurrent_sessions=1)
    calls = [call(number, "blob", size=50_000) for number in range(100)]
    sending = threading.Thread(target=server.send, args=calls)
    sending.start()
    assert sorted(server.read()["id"] for _ in calls) == list(range(100))
    sending.join()
    server.end("EOF")


async def test_saying_again_to_be_ready_leaves_nothing_behind(build, kit):
    nexus = build()
    async with kit.serving(nexus) as address, httpx2.AsyncClient(headers=kit.accept) as http:
        opened = await http.post(address, json=kit.initialize())
        headers = {"mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        for _ in range(20):
            assert (await http.post(address, json=READY, headers=headers)).status_code == 202
        announcements = (await nexus.channel("mcp")._transport()).server.announcements
        await kit.until(lambda: announcements._connections)
        await asyncio.sleep(0)
        (connection,) = announcements._connections
        assert len(connection.exit_stack._exit_callbacks) == 1
