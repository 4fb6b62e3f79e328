"""A hypercorn with other internals than the plugin expects prevents the start."""

from __future__ import annotations

import h11._receivebuffer
import hypercorn.asyncio.tcp_server
import hypercorn.protocol.h11
import hypercorn.protocol.ws_stream
import pytest
import wsproto.extensions

from nexus_core import ConfigurationError


class Empty:
    def __init__(self, *args):
        pass

    async def _create_stream(self, request, more):
        pass


PROTOCOL = hypercorn.protocol.h11.H11Protocol


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (hypercorn.asyncio.tcp_server, "TCPServer", Empty),
        (hypercorn.protocol.ws_stream, "WSStream", Empty),
        (hypercorn.protocol.ws_stream.WSStream, "_send_pings", None),
        (PROTOCOL, "__init__", Empty.__init__),
        (PROTOCOL, "_create_stream", Empty._create_stream),
        (h11._receivebuffer, "ReceiveBuffer", Empty),
        (wsproto.extensions, "PerMessageDeflate", Empty),
    ],
)
async def test_what_is_not_there_is_named_with_the_versions_that_have_it(serve, monkeypatch, module, name, value):
    with monkeypatch.context() as patch:
        patch.setattr(module, name, value)
        with pytest.raises(ConfigurationError, match=r"hypercorn 0\.\d+.* expects .*: install hypercorn"):
            await serve()
    await serve()


async def test_a_class_that_is_not_there(serve, monkeypatch):
    monkeypatch.delattr(hypercorn.protocol.ws_stream, "WSStream")
    with pytest.raises(ConfigurationError, match="WSStream"):
        await serve()
