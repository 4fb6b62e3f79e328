"""A collector that takes what is sent by OTLP over HTTP, and keeps it decoded."""

from __future__ import annotations

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PATHS = ("/v1/traces", "/v1/metrics")


class OtlpReceiver:
    """Listens on a free port of 127.0.0.1.

    Attributes:
        requests: What was sent: path, headers, message.
        status: What it answers with.
        pause: Seconds that it waits before it answers.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.status = 200
        self.pause = 0.0
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.requests.append((self.path, headers, decoded(self.path, body)))
                receiver._ended.wait(receiver.pause)
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def metrics(self) -> list[Any]:
        """Return every metric that was sent, in the order of the requests."""
        return [
            metric
            for path, _, message in list(self.requests)
            if path.endswith("/v1/metrics")
            for resource in message.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]

    def spans(self) -> list[Any]:
        """Return every span that was sent."""
        return [
            span
            for path, _, message in list(self.requests)
            if path.endswith("/v1/traces")
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait_for(self, condition: Any, seconds: float = 20.0) -> Any:
        """Wait until a condition holds, and return what it gives."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "what was waited for did not come"
            time.sleep(0.01)
        return found

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


def decoded(path: str, body: bytes) -> Any:
    """Return the message that a body holds."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    message = ExportTraceServiceRequest() if path.endswith("/v1/traces") else ExportMetricsServiceRequest()
    message.ParseFromString(body)
    return message


@pytest.fixture
def otlp_receiver() -> Any:
    receiver = OtlpReceiver()
    yield receiver
    receiver.close()
