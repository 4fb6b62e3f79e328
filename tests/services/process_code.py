"""Programs that own their process: what they begin with, and a line that they are waited for to print."""

from __future__ import annotations

from typing import Any

PREAMBLE = """
import asyncio, threading, time
from nexus_core import Nexus, Server, hookimpl

class Ready:
    '''A server that says when it would listen, and opens nothing.'''
    name = "ready"
    async def serve(self, listeners, started, stop):
        for listener in listeners:
            for each in listener.sockets:
                each.close()
        started.set()
        print("ready", flush=True)
        await stop.wait()

class Plugin:
    @hookimpl
    def nexus_register_servers(self):
        return [Ready()]

def make(*plugins, **options):
    return Nexus(discover=False, plugins=[Plugin(), *plugins], **options)
"""

CALLS_AT_START = """
    class Calls:
        @hookimpl
        def nexus_register_event_handlers(self):
            return [self.tell]
        async def tell(self, event):
            if event.type == "workflow.started":
                print("working", flush=True)
    nexus = make(Calls(), shutdown_grace=0.2)
    serve = Ready.serve
    async def submit_and_serve(*args):
        nexus.submit(Invocation("work", {}))
        await serve(*args)
    Ready.serve = submit_and_serve
"""


def until(process: Any, line: str) -> None:
    for each in process.stdout:
        if line in each:  # threads that print at the same time may share a line
            return
    raise AssertionError(process.stderr.read())
