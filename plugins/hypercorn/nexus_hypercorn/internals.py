"""All that the plugin knows of hypercorn's inside (0.18). It gives no public handle on its connections and their tasks.

`check` makes a hypercorn that is built otherwise prevent the start: without these, connections would stay for ever.
"""

from __future__ import annotations

import asyncio
from importlib.metadata import requires, version
from typing import TYPE_CHECKING, Any

from nexus_core import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nexus_core.channel import ASGIApp, Send

_PINGS = "WSStream._send_pings"
_CONNECTION = "worker_serve.<locals>._server_callback"


def check() -> None:
    """Make sure that what this module looks for is there. Call it on an event loop.

    Raises:
        ConfigurationError: It is not; the message names the versions of hypercorn that have it.
    """
    try:
        missing = [name for name, is_there in _parts() if not is_there]
    except (ImportError, AttributeError, TypeError) as exc:
        missing = [str(exc)]
    if missing:
        needs = [each for each in requires("nexus-hub-hypercorn") or () if each.startswith("hypercorn")]
        raise ConfigurationError(
            f"hypercorn {version('hypercorn')} is built otherwise than the plugin hypercorn expects "
            f"({missing[0]}): install {needs[0]}."
        )


def _parts() -> Iterator[tuple[str, bool]]:
    from hypercorn.app_wrappers import ASGIWrapper
    from hypercorn.asyncio.run import worker_serve
    from hypercorn.asyncio.task_group import TaskGroup
    from hypercorn.protocol.ws_stream import WSStream

    group = TaskGroup(asyncio.get_running_loop())
    yield "TaskGroup._task_group", hasattr(getattr(group, "_task_group", None), "_tasks")
    yield "WSStream.task_group", "task_group" in WSStream.__init__.__code__.co_names
    yield _PINGS, getattr(getattr(WSStream, "_send_pings", None), "__qualname__", "") == _PINGS
    yield "WSStream.app_send", hasattr(WSStream, "app_send")
    yield "ASGIWrapper.app", getattr(ASGIWrapper(check), "app", None) is check  # type: ignore[arg-type]
    inner = {code.co_qualname: code for code in worker_serve.__code__.co_consts if hasattr(code, "co_qualname")}
    connection = inner.get(_CONNECTION)
    yield (
        _CONNECTION,
        connection is not None and {"app", "writer"} <= {*connection.co_freevars, *connection.co_varnames},
    )


def end_pings(send: Send) -> None:
    """End the task that pings a WebSocket: it sleeps on when that has closed, and holds its connection.

    Args:
        send: hypercorn's own, a method of the WebSocket's stream. The task is in the connection's task group.
    """
    stream = getattr(send, "__self__", None)
    group = getattr(getattr(stream, "task_group", None), "_task_group", None)
    for task in list(getattr(group, "_tasks", ())):
        if _locals(task, _PINGS).get("self", task) is stream:
            task.cancel()


def abort_connections(app: ASGIApp) -> None:
    """Cut an application's connections that are still there: hypercorn waits for each until its last byte is read."""
    for task in asyncio.all_tasks():
        names = _locals(task, _CONNECTION)
        if getattr(names.get("app"), "app", None) is app:
            names["writer"].transport.abort()


def _locals(task: asyncio.Task[Any], qualname: str) -> dict[str, Any]:
    """Return the variables of a task that runs a certain function, or none."""
    work: Any = task.get_coro()
    frame = getattr(work, "cr_frame", None) if getattr(work, "__qualname__", "") == qualname else None
    return {} if frame is None else frame.f_locals
