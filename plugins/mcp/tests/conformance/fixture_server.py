"""A Nexus with what the public conformance suite expects a server to have: its tools, prompts and resources.

Everything runs on the plugin's own channel and server classes. What workflows can express is a workflow; the rest
(images, sampling, elicitation, prompts) are fixtures that `FixtureServer` adds to `McpServer`.

    python fixture_server.py      prints the address and serves until it is terminated
"""

from __future__ import annotations

import asyncio
import json
import re
import signal

from fixture_tools import PNG, PROMPTS, TOOLS, input_required_prompt
from fixture_workflows import register_workflows
from mcp import types
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import PromptsListChanged
from nexus_mcp.channel import McpChannel
from nexus_mcp.server import McpServer
from nexus_mcp.settings import McpSettings

from nexus_core import Nexus, Plugin


def resource(uri, mime_type, **content):
    return {"contents": [{"uri": uri, "mimeType": mime_type, **content}], "resultType": "complete"}


class FixtureServer(McpServer):
    def _add_handlers(self):
        super()._add_handlers()
        add = self.add_request_handler
        add("prompts/list", types.PaginatedRequestParams, self.list_prompts)
        add("prompts/get", types.GetPromptRequestParams, self.get_prompt)
        add("completion/complete", types.CompleteRequestParams, self.complete)
        add("logging/setLevel", types.SetLevelRequestParams, self.set_level)

    async def list_tools(self, ctx, params):
        page = await super().list_tools(ctx, params)
        fixtures = [{"name": n, "description": n, "inputSchema": schema} for n, (schema, _) in TOOLS.items()]
        return page | {"tools": page["tools"] + fixtures}

    async def call_tool(self, ctx, params):
        if params.name == "test_trigger_prompt_change":
            self.announcements.listeners.tell(PromptsListChanged())
            return {"content": [], "resultType": "complete"}
        if params.name not in TOOLS:
            return await super().call_tool(ctx, params)
        return await TOOLS[params.name][1](ctx, params)

    async def list_resources(self, ctx, params):
        page = await super().list_resources(ctx, params)
        names = ("static-text", "static-binary", "watched-resource")
        fixtures = [{"uri": f"test://{n}", "name": n, "description": n, "mimeType": "text/plain"} for n in names]
        return page | {"resources": page["resources"] + fixtures}

    async def list_templates(self, ctx, params):
        page = await super().list_templates(ctx, params)
        template = {"uriTemplate": "test://template/{id}/data", "name": "template", "description": "A template"}
        return page | {"resourceTemplates": [*page["resourceTemplates"], template]}

    async def read_resource(self, ctx, params):
        uri = str(params.uri)
        if uri == "test://static-text":
            return resource(uri, "text/plain", text="This is the content of the static text resource.")
        if uri == "test://static-binary":
            return resource(uri, "image/png", blob=PNG)
        if uri == "test://watched-resource":
            return resource(uri, "text/plain", text="Watched.")
        if match := re.fullmatch("test://template/([^/]+)/data", uri):
            text = json.dumps({"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"})
            return resource(uri, "application/json", text=text)
        return await super().read_resource(ctx, params)

    async def check_seen(self, view, uri):
        if not uri.startswith("test://"):
            await super().check_seen(view, uri)

    async def list_prompts(self, ctx, params):
        prompts = [
            {"name": n, "description": n, "arguments": [{"name": a, "required": True} for a in arguments]}
            for n, (arguments, _) in PROMPTS.items()
        ]
        return {"prompts": prompts, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}

    async def get_prompt(self, ctx, params):
        if params.name == "test_input_required_result_prompt":
            return input_required_prompt(ctx, params)
        messages = PROMPTS[params.name][1](params.arguments or {})
        return {"messages": [{"role": "user", "content": each} for each in messages], "resultType": "complete"}

    async def complete(self, ctx, params):
        return {"completion": {"values": ["paris", "park"], "total": 2, "hasMore": False}, "resultType": "complete"}

    async def set_level(self, ctx, params):
        return {}


class MemoryEvents(EventStore):
    """Keeps events so that a client can take up a stream again."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        number = int(last_event_id)
        stream_id = self.events[number - 1][0]
        for index, (stream, message) in enumerate(self.events[number:], number + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(index)))
        return stream_id


class FixtureChannel(McpChannel):
    def build_server(self):
        server = FixtureServer(self.platform, self.settings)
        server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=None))
        return server

    def transport_options(self):
        return {"event_store": MemoryEvents(), "retry_interval": 100}


class FixturePlugin(Plugin[McpSettings]):
    def nexus_register_channels(self):
        return [FixtureChannel(self.platform, self.settings)]


async def main():
    from nexus_hypercorn.plugin import HypercornPlugin

    nexus = Nexus(discover=False, plugins=[FixturePlugin, HypercornPlugin], mcp_port=0)
    register_workflows(nexus)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with nexus.serving() as listeners:
        print(listeners[0].url.replace("127.0.0.1", "localhost") + "/mcp", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())
