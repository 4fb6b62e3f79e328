"""Serves a bare application by hypercorn with the settings that the plugin hypercorn gives it."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any


def serve(app: Any, port: int) -> None:
    """Serve on 127.0.0.1 until SIGTERM."""
    from hypercorn.asyncio import serve as hypercorn
    from hypercorn.config import Config

    config = Config.from_mapping(
        bind=[f"127.0.0.1:{port}"], accesslog=None, errorlog=logging.getLogger("server"), backlog=1024,
        include_server_header=False, keep_alive_timeout=5.0, websocket_ping_interval=20.0,
        websocket_max_message_size=4 * 1024 * 1024, graceful_timeout=1.0,
    )  # fmt: skip

    async def main() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

        async def stopped() -> None:
            await stop.wait()

        await hypercorn(app, config, shutdown_trigger=stopped)

    asyncio.run(main())
