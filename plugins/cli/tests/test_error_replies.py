"""What an event handler returns for an error: the exit code, or what is written instead."""

from __future__ import annotations

from pathlib import Path

import pytest

APP = Path(__file__).with_name("app_for_tests.py")

REWORDING = """
import sys
sys.path.insert(0, {folder!r})
from app_for_tests import nexus
from nexus_core import EventHandler
REPLIES = {{
    "told": 42, "crash": {{"error": "re\\x1bworded"}}, "not_json": 300, "evil_error": 0, "add": "a text", "huge": False,
}}
class Handler(EventHandler):
    def handle_error(self, event):
        assert event.channel == "cli"
        return REPLIES.get(event.workflow_name)
nexus.register_event_handler(Handler())
"""


@pytest.mark.parametrize("where", ["in process", "over the port"])
def test_an_event_handler_rewords_errors(nexus, where, tmp_path, serve_app):
    app = tmp_path / "rewording.py"
    app.write_text(REWORDING.format(folder=str(APP.parent)))

    def check(*where):
        lines = ["told", "crash", "not_json", "evil_error", "add", "huge", "nothing", "crash --json", "told --json"]
        told = nexus.forked(*where, "shell", stdin="".join(f"execute {line}\n" for line in lines), app=False)
        assert told.out == ""
        assert [line.partition(" (run")[0] for line in told.err.splitlines()[:8]] == [
            "nexus: no luck\\u001b[31m\\u000d\\u000atoday",
            '{"error":"re\\u001bworded"}',
            "300",
            'nexus: There is no workflow "evil_error".',
            '"a text"',
            "false",
            'nexus: There is no workflow "nothing".',
            '{"error":"re\\u001bworded"}',
        ]
        assert '"code":"workflow_error"' in told.err.splitlines()[8]
        assert told.code == 42
        codes = {"told": 42, "crash": 1, "not_json": 1, "evil_error": 0, "add": 2, "nothing": 66}
        for name, code in codes.items():
            assert nexus.forked(*where, "execute", name, app=False).code == code, name

    if where == "in process":
        check("--app", str(app))
    else:
        with serve_app(app) as url:
            check("--connect", url)
            run = nexus.forked("--connect", url, "runs", "list", "--workflow", "told", "--limit", "1", app=False).json
            followed = nexus.forked("--connect", url, "runs", "follow", run["runs"][0]["run_id"], app=False)
            assert followed.code == 42
