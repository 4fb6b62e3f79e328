"""One trace from the caller through each channel to nodes of Kailash and a call to another program."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from served_process import ServedProcess

for name in ("api", "cli", "mcp", "kailash", "hypercorn"):
    pytest.importorskip(f"nexus_{name}.plugin")
pytest.importorskip("opentelemetry.instrumentation.requests")
httpx2 = pytest.importorskip("httpx2")

APP = """
import os
import requests
from kailash.workflow.builder import WorkflowBuilder
from nexus_core import Nexus

nexus = Nexus(disabled_plugins=["auth", "cache", "metrics", "health", "logs"])

@nexus.workflow
def fetch() -> int:
    return requests.get(os.environ["OTHER_PROGRAM"], timeout=10).status_code

builder = WorkflowBuilder()
builder.add_node("PythonCodeNode", "first", {"code": "result = 20"})
builder.add_node("PythonCodeNode", "second", {"code": "result = value + 1"})
builder.add_connection("first", "result", "second", "value")
nexus.register("chain", builder.build())
"""
PARENT = "00f067aa0ba902b7"


@pytest.fixture(name="other", scope="module")
def other_fixture():
    """Another program: gives its address, and keeps the headers of what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()
    server.server_close()


class Served(ServedProcess):
    def __init__(self, folder, options):
        super().__init__(folder, ("api", "cli", "mcp"), options=options)
        self._folder = folder

    def nexus(self, *arguments, **environment):
        ended = subprocess.run(
            [sys.executable, "-m", "nexus_core", *arguments], cwd=self._folder, env=self.environment | environment,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(name="receiver", scope="module")
def receiver_fixture():
    import otlp_receiver

    receiver = otlp_receiver.OtlpReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(name="served", scope="module")
def served_fixture(tmp_path_factory, other, receiver):
    folder: Path = tmp_path_factory.mktemp("served")
    folder.joinpath("app.py").write_text(APP)
    options = {
        "NEXUS_ENABLE_TRACING": "true", "NEXUS_TRACING_ENDPOINT": receiver.url, "NEXUS_TRACING_PUSH_INTERVAL": "0.1",
        "NEXUS_TRACING_SAMPLE_RATIO": "0", "NEXUS_TRACING_INSTRUMENT": "requests", "OTHER_PROGRAM": other[0],
    }  # fmt: skip
    served = Served(folder, options)
    yield served
    assert served.end() == 0


class Trace:
    """What the collector got of one trace."""

    def __init__(self, receiver, number):
        self._receiver = receiver
        self.id = f"{number:032x}"
        self.parent = f"00-{self.id}-{PARENT}-01"

    def spans(self):
        return {each.span_id: each for each in self._receiver.spans() if each.trace_id.hex() == self.id}

    def wait_for_root(self):
        self._receiver.wait_for(lambda: [s for s in self.spans().values() if s.parent_span_id.hex() == PARENT])

    def path(self, span):
        """Return the names from the root to a span."""
        spans, names = self.spans(), [span.name]
        while (above := spans.get(span.parent_span_id)) is not None:
            span = above
            names.insert(0, span.name)
        assert span.parent_span_id.hex() == PARENT
        return names

    def check(self, asked):
        """The call to another program, and the nodes, are part of it."""
        self.wait_for_root()
        paths = [self.path(span) for span in self.spans().values()]
        assert ["workflow fetch", "execute", "GET"] in paths
        (call,) = [span for span in self.spans().values() if span.name == "GET"]
        assert f"00-{self.id}-{call.span_id.hex()}-01" in [headers.get("traceparent") for headers in asked]


def test_rest(served, receiver, other):
    trace = Trace(receiver, 1)
    url = f"http://127.0.0.1:{served.ports['api']}/api/workflows/fetch/execute"
    answer = httpx2.post(url, json={}, headers={"traceparent": trace.parent}, timeout=30)
    assert answer.json()["result"] == 204
    trace.check(other[1])


async def test_websocket(served, receiver, other):
    websockets = pytest.importorskip("websockets")
    trace = Trace(receiver, 9)
    url = f"ws://127.0.0.1:{served.ports['api']}/api/ws"
    async with websockets.connect(url, additional_headers={"traceparent": trace.parent}) as connection:
        await connection.send(json.dumps({"type": "execute", "id": 1, "workflow": "fetch", "params": {}}))
        while (message := json.loads(await connection.recv()))["type"] == "event":
            pass
        assert message["type"] == "result"
    trace.check(other[1])


def test_command_line_over_the_port(served, receiver, other):
    trace = Trace(receiver, 2)
    url = f"http://127.0.0.1:{served.ports['cli']}"
    assert served.nexus("--connect", url, "execute", "fetch", TRACEPARENT=trace.parent)["result"] == 204
    trace.check(other[1])


def test_command_line_in_process(served, receiver, other):
    trace = Trace(receiver, 3)
    assert served.nexus("--app", "app:nexus", "execute", "fetch", TRACEPARENT=trace.parent)["result"] == 204
    trace.check(other[1])


@pytest.mark.parametrize("era", ["session", "request"])
async def test_mcp(served, receiver, other, era):
    trace = Trace(receiver, 4 if era == "session" else 5)
    url = f"http://127.0.0.1:{served.ports['mcp']}/mcp"
    meta = {"traceparent": trace.parent}
    if era == "session":
        from mcp.client import Client

        async with Client(url) as client:
            result = await client.call_tool("fetch", {}, meta=meta)
        assert result.structured_content["result"] == 204
    else:
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
        body["params"] = {"name": "fetch", "arguments": {}, "_meta": meta}
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
        async with httpx2.AsyncClient(timeout=30) as client:
            hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize"}
            hello["params"] = {
                "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"},
            }  # fmt: skip
            answer = await client.post(url, json=hello, headers=headers)
            headers["mcp-session-id"] = answer.headers["mcp-session-id"]
            await client.post(url, json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
            assert '"result":204' in (await client.post(url, json=body, headers=headers)).text.replace(" ", "")
    trace.check(other[1])


def test_kailash_nodes(served, receiver):
    trace = Trace(receiver, 6)
    url = f"http://127.0.0.1:{served.ports['api']}/api/workflows/chain/execute"
    answer = httpx2.post(url, json={}, headers={"traceparent": trace.parent}, timeout=30)
    assert answer.status_code == 200
    trace.wait_for_root()
    nodes = [span for span in trace.spans().values() if span.name == "node"]
    found = sorted({each.key: each.value.string_value for each in span.attributes}["kailash.node"] for span in nodes)
    assert found == ["first", "second"]
    assert all(trace.path(span) == ["workflow chain", "execute", "node"] for span in nodes)


def test_a_trace_that_is_not_kept_is_handed_on(served, receiver, other):
    trace = Trace(receiver, 7)
    url = f"http://127.0.0.1:{served.ports['api']}/api/workflows/fetch/execute"
    passed = trace.parent[:-2] + "00"
    httpx2.post(url, json={}, headers={"traceparent": passed}, timeout=30)
    handed_on = other[1][-1]["traceparent"].split("-")
    assert (handed_on[1], handed_on[3]) == (trace.id, "00")
    later = Trace(receiver, 8)
    httpx2.post(url, json={}, headers={"traceparent": later.parent}, timeout=30)
    later.check(other[1])
    assert not trace.spans()
