"""All use of internals of hypercorn 0.18, h11 0.14 to 0.16 and wsproto 1.2 to 1.3.

hypercorn has no public interface for its connections, so `connection`, `http11` and `websocket` subclass its classes
and override methods, each with the reason in its docstring. A release with other internals must prevent the start: the
overrides would have no effect, and the faults that they correct would be back.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import requires, version
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError

if TYPE_CHECKING:
    import asyncio

    import h11
    from hypercorn.asyncio.task_group import TaskGroup

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
"""Classes, and the methods that are overridden or called, with their parameters."""


def check() -> None:
    """Check that every class and method of `PARTS` exists.

    Raises:
        ConfigurationError: One does not; the message names the versions of hypercorn that have it.
    """
    missing = [f"{name}.{method}" for name, methods in PARTS.items() for method in methods if not _has(name, method)]
    if missing:
        needs = [each for each in requires("nexus-hub-hypercorn") or () if each.startswith("hypercorn")]
        raise ConfigurationError(
            f"hypercorn {version('hypercorn')} does not have what the plugin hypercorn expects "
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


def skip_empty_line(connection: h11.Connection) -> None:
    """Drop an empty line in front of a request: h11 does, but only if nothing else is in its buffer."""
    buffer: Any = connection._receive_buffer
    if buffer._data[:2] == b"\r\n":
        buffer.maybe_extract_at_most(2)


def request_method(connection: h11.Connection) -> bytes | None:
    """Return the method of the current request, which h11 keeps for itself."""
    return connection._request_method


def task_group_of(tasks: TaskGroup) -> asyncio.TaskGroup:
    """Return asyncio's own group: `TaskGroup.spawn` does not return the task, which must be cancelled."""
    group: asyncio.TaskGroup = tasks._task_group
    return group
