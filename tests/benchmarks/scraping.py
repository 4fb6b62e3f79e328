"""What reading 10,000 series costs: the time of one scrape by HTTP, and what the event loop notices of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, Self

from nexus_core import Nexus

METRICS, SERIES = 10, 1000


class Scraped:
    """A platform with 10,000 series of a user's own, served in this process."""

    async def __aenter__(self) -> Self:
        """Start it."""
        nexus = Nexus(disabled_plugins=["api", "mcp", "cli"], enable_monitoring=True, metrics_port=0, log_level="ERROR")
        collector: Any = nexus.metrics_collector
        for metric in range(METRICS):
            for series in range(SERIES):
                labels = {"customer": f"customer-{series}", "region": "eu"}
                collector.increment_counter(f"orders_{metric}", labels, series)
        self._stack = AsyncExitStack()
        listeners = await self._stack.enter_async_context(nexus.serving())
        self._port = int(next(each.url for each in listeners if "metrics" in each.channels).rsplit(":", 1)[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop it."""
        await self._stack.aclose()

    async def measure(self) -> dict[str, float]:
        """Return the milliseconds of one scrape, and the longest by which the event loop was late meanwhile."""
        done = asyncio.Event()
        lag = asyncio.create_task(_longest_lag(done))
        begin, cpu = time.perf_counter(), time.process_time()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**26)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        text = await reader.read(-1)
        elapsed, used = time.perf_counter() - begin, time.process_time() - cpu
        writer.close()
        done.set()
        if text.count(b"\norders_") != METRICS * SERIES:
            raise RuntimeError("the scrape is not complete")
        return {"value": 1000 * elapsed, "lag": 1000 * await lag, "cpu_us": 1e6 * used}


async def _longest_lag(done: asyncio.Event) -> float:
    longest = 0.0
    while not done.is_set():
        begin = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - begin - 0.001)
    return longest


class Library:
    """The same series in a registry of prometheus-client, rendered by it."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter

        self._registry = CollectorRegistry()
        for metric in range(METRICS):
            counter = Counter(f"orders_{metric}", "Orders.", ["customer", "region"], registry=self._registry)
            for series in range(SERIES):
                counter.labels(f"customer-{series}", "eu").inc(series)

    async def measure(self) -> dict[str, float]:
        """Return the milliseconds that it takes to render them."""
        from prometheus_client import generate_latest

        begin, cpu = time.perf_counter(), time.process_time()
        generate_latest(self._registry)
        return {"value": 1000 * (time.perf_counter() - begin), "cpu_us": 1e6 * (time.process_time() - cpu)}
