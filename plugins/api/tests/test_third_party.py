"""Third-party stages that end the process elsewhere: a served platform answers on, and tells the caller nothing."""

from __future__ import annotations

import httpx2
import pytest
from served_process import ServedProcess

APP = """
import asyncio, os, sys
from nexus_core import EventHandler, Nexus, Stage, hookimpl

class Exits:
    stage = Stage.OBSERVE
    async def __call__(self, invocation, call_next):
        if invocation.params.get("how") == "exit":
            sys.exit(3)
        if invocation.params.get("how") == "interrupt":
            raise KeyboardInterrupt
        if invocation.params.get("how") == "hang":
            await asyncio.Event().wait()
        if invocation.params.get("how") == "forget":
            await call_next(invocation)
            return None
        return await call_next(invocation)

class Tells(EventHandler):
    def method_for(self, event):
        sys.exit(4)

def middleware(app):
    async def answer(scope, receive, send):
        if scope["type"] == "http" and scope["path"].startswith("/exit"):
            sys.exit(5)
        await app(scope, receive, send)
    return answer

class Plugin:
    @hookimpl
    def nexus_register_interceptors(self):
        return [Exits()]
    @hookimpl
    def nexus_register_event_handlers(self):
        return [Tells()]
    @hookimpl
    def nexus_register_middleware(self):
        return [middleware]

nexus = Nexus(plugins=[Plugin()], workflow_timeout=0.5)

@nexus.workflow
def work(how: str = "") -> int:
    return 1
"""


@pytest.mark.timeout(120)
def test_a_served_platform_answers_on(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    with (tmp_path / "log").open("wb") as output:
        served = ServedProcess(tmp_path, output=output)
        try:
            with httpx2.Client(base_url=served.url(), timeout=60) as client:

                def call(how):
                    return client.post("/api/workflows/work/execute", json={"how": how})

                for how, status in (("exit", 500), ("interrupt", 500), ("forget", 500), ("hang", 504)):
                    assert call(how).status_code == status
                assert client.get("/exit").status_code == 500
                answer = call("")
                assert (answer.status_code, answer.json()["result"]) == (200, 1)
        finally:
            assert served.end() == 0
    log = (tmp_path / "log").read_text()
    for words in (
        'The interceptor Exits of the plugin "Plugin" raised: SystemExit: 3',
        'The interceptor Exits of the plugin "Plugin" returned None: `return` is missing',
        'The interceptor Exits of the plugin "Plugin" did not end within 0.5 s',
        "Tells raised in method_for: SystemExit: 4",
    ):
        assert words in log
