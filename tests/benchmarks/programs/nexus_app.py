"""Nexus with every installed plugin at its defaults: REST on ``--port``, MCP on ``--mcp``."""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from common import arguments

from nexus_core import Nexus


async def add(a: int, b: int) -> dict:
    """Add two numbers."""
    return {"sum": a + b}


def register_kailash(nexus: Nexus) -> None:
    """Register the workflow that the peer serves too."""
    from kailash_workflow import build

    nexus.register("two_nodes", build())


SECRET = "the secret of the benchmarks, long enough for HS256"
GATEWAY = {
    "enable_auth": True, "jwt_secret": SECRET, "enable_rate_limiting": True, "rate_limit_per_minute": 10**9,
    "enable_circuit_breaker": True, "enable_caching": True,
}  # fmt: skip
MISSES = {"cache_max_entries": 100}
"""With more different calls than that in turn, each is a miss, and what it drives out is another that would come."""


if __name__ == "__main__":
    given = arguments(
        mcp=0, cli=0, workflows=1, kailash=0, gateway=0, hits=0, redis=0, metrics=0, logs=0, tracing=0, runs=0
    )
    ports = {"api": given.port, "cli": given.cli, "mcp": given.mcp}
    options = {f"{name}_port": port for name, port in ports.items() if find_spec(f"nexus_{name}")}
    if given.gateway:
        options |= GATEWAY if given.hits else GATEWAY | MISSES
    if given.redis:
        options |= {"redis_url": f"redis://127.0.0.1:{given.redis}", "store": "redis"}
    folder = Path(tempfile.mkdtemp(prefix="nexus-benchmark-"))
    if given.metrics:
        options |= {"enable_monitoring": True, "metrics_port": 0}
    if given.logs:
        options |= {"log_format": "json", "audit_log": str(folder / "audit.jsonl"), "audit_parameters": True}
    if given.tracing:
        options |= {"enable_tracing": True, "tracing_sample_ratio": 0.01, "tracing_endpoint": "http://127.0.0.1:9"}
    if given.runs:
        options |= {"run_store": "sqlite", "runs_sqlite_path": folder / "runs.db"}
    nexus = Nexus(log_level="INFO" if given.logs else "WARNING", **options)
    nexus.register("add", add, {"required_permissions": ["data.read"]} if given.gateway else {})
    for number in range(given.workflows - 1):
        nexus.register(f"add{number}", add)
    if given.kailash:
        register_kailash(nexus)
    nexus.start()
    shutil.rmtree(folder)
