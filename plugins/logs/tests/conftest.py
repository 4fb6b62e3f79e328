from __future__ import annotations

import io
import json
import logging
import os

import pytest
from nexus_logs.formatting import make_formatter
from nexus_logs.plugin import LogsPlugin
from nexus_toolkit.redaction import Redactor

from nexus_core.testing import isolated_nexus


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [each for each in os.environ if each.startswith("NEXUS_")]:
        monkeypatch.delenv(name)


@pytest.fixture(name="make")
def make_fixture():
    """Make a platform with the plugin and nothing else."""
    return lambda *plugins, **options: isolated_nexus(LogsPlugin, *plugins, **options)


class Lines:
    """The root logger's lines while a test runs."""

    def __init__(self) -> None:
        self._stream = io.StringIO()

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def all(self) -> list[dict]:
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, logger: str) -> list[dict]:
        return [line for line in self.all if line["logger"] == logger]

    def handler(self, log_format: str, names: tuple[str, ...] = ()) -> logging.Handler:
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(make_formatter(log_format, Redactor(names)))
        return handler


@pytest.fixture(name="lines", params=["json"])
def lines_fixture(request):
    """Give what is logged, in the format of the test's parameter."""
    lines, root = Lines(), logging.getLogger()
    handler, level = lines.handler(request.param), root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(name="entries")
def entries_fixture():
    """Return what an audit file has of how calls ended; with ``begun`` of how they began, too."""

    def read(path, *, begun=False):
        found = [json.loads(line) for line in path.read_text().splitlines()]
        return [entry for entry in found if begun or entry["verdict"] != "started"]

    return read
