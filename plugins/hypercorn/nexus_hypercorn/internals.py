"""Makes sure that hypercorn, h11 and wsproto are built inside as `connection`, `http11` and `websocket` expect.

hypercorn gives no public handle on its connections, so these modules replace some of its methods. A release that is
built otherwise must prevent the start: what is replaced would come back, and with it what is wrong there.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import requires, version

from nexus_core import ConfigurationError

PARTS = {
    "hypercorn.asyncio.task_group.TaskGroup": ("spawn_app(self,app,config,scope,send)", "spawn(self,func,args)"),
    "hypercorn.asyncio.tcp_server.TCPServer": (
        "__init__(self,app,loop,config,context,state,reader,writer)", "run(self)", "protocol_send(self,event)",
    ),
    "hypercorn.asyncio.worker_context.WorkerContext": ("__init__(self,max_requests)",),
    "hypercorn.protocol.h11.H11Protocol": (
        "__init__(self,app,config,context,task_group,connection_state,ssl,client,server,send)", "handle(self,event)",
        "_handle_events(self)", "_create_stream(self,request)", "_send_error_response(self,status_code)",
        "_send_h11_event(self,event)", "_maybe_recycle(self)", "_close_stream(self)", "stream_send(self,event)",
    ),
    "hypercorn.protocol.h11.H11WSConnection": ("__init__(self,h11_connection)",),
    "hypercorn.protocol.http_stream.HTTPStream": (
        "__init__(self,app,config,context,task_group,ssl,client,server,send,stream_id)", "handle(self,event)",
    ),
    "hypercorn.protocol.ws_stream.WSStream": (
        "__init__(self,app,config,context,task_group,ssl,client,server,send,stream_id)", "handle(self,event)",
        "app_send(self,message)", "_handle_events(self)", "_accept(self,message)", "_send_pings(self)",
        "_send_wsproto_event(self,event)", "_send_error_response(self,status_code)",
    ),
    "h11._receivebuffer.ReceiveBuffer": ("maybe_extract_at_most(self,count)",),
    "wsproto.extensions.PerMessageDeflate": (
        "accept(self,offer)", "frame_inbound_header(self,proto,opcode,rsv,payload_length)",
        "frame_inbound_payload_data(self,proto,data)", "frame_inbound_complete(self,proto,fin)",
        "frame_outbound(self,proto,opcode,rsv,data,fin)",
    ),
}  # fmt: skip
"""Classes, and the methods that are replaced or called, with their parameters."""


def check() -> None:
    """Make sure that the parts are there.

    Raises:
        ConfigurationError: One is not; the message names the versions of hypercorn that have it.
    """
    missing = [f"{name}.{method}" for name, methods in PARTS.items() for method in methods if not _has(name, method)]
    if missing:
        needs = [each for each in requires("nexus-hub-hypercorn") or () if each.startswith("hypercorn")]
        raise ConfigurationError(
            f"hypercorn {version('hypercorn')} is built otherwise than the plugin hypercorn expects "
            f"({missing[0]}): install {needs[0]}."
        )


def _has(name: str, method: str) -> bool:
    module, _, part = name.rpartition(".")
    try:
        code = getattr(getattr(import_module(module), part), method.partition("(")[0]).__code__
    except (ImportError, AttributeError):
        return False
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 0x04)  # *args
    return f"{code.co_name}({','.join(code.co_varnames[:count])})" == method
