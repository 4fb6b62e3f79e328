"""A hypercorn that is built otherwise than the plugin expects prevents the start."""

from __future__ import annotations

import hypercorn.app_wrappers
import hypercorn.asyncio.run
import hypercorn.asyncio.task_group
import hypercorn.protocol.ws_stream
import pytest

from nexus_core import ConfigurationError

WEBSOCKET = hypercorn.protocol.ws_stream.WSStream


class Empty:
    def __init__(self, *args):
        pass


async def worker_serve():
    async def _server_callback(reader, transport):
        pass


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (hypercorn.asyncio.task_group, "TaskGroup", Empty),
        (hypercorn.app_wrappers, "ASGIWrapper", Empty),
        (hypercorn.asyncio.run, "worker_serve", worker_serve),
        (hypercorn.asyncio.run, "worker_serve", None),
        (hypercorn.protocol.ws_stream, "WSStream", Empty),
        (WEBSOCKET, "_send_pings", None),
        (WEBSOCKET, "__init__", Empty.__init__),
    ],
)
async def test_what_is_not_there_is_named_with_the_versions_that_have_it(serve, monkeypatch, module, name, value):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, value)
        with pytest.raises(ConfigurationError, match=r"hypercorn 0\.\d+.* expects .*: install hypercorn"):
            await serve()
    await serve()


async def test_a_module_that_is_not_there(serve, monkeypatch):
    monkeypatch.delattr(hypercorn.protocol.ws_stream, "WSStream")
    with pytest.raises(ConfigurationError, match="WSStream"):
        await serve()
