"""What is measured. Each section is a coroutine that takes the effort to spend and returns its rows."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import following
import mcp_requests
import run_steps
import scraping
import stored_runs
from environments import fastmcp_python, peer_python
from figures import Row, paired
from in_process import Invocations, Listing, signed
from load import Load
from processes import PROGRAMS, Server, free_port, run_once, serving


@dataclass(frozen=True)
class Effort:
    """How much is measured: rounds of pairs, seconds of load in each, fresh processes in each comparison.

    Many short rounds beat few long ones: what else the machine does then hits both members of a pair.
    """

    rounds: int
    seconds: float
    starts: int
    processes: int


QUICK = Effort(rounds=8, seconds=0.5, starts=3, processes=7)
FULL = Effort(rounds=30, seconds=1.0, starts=9, processes=25)

Section = Callable[[Effort], Awaitable[list[Row]]]


def rest_load(port: int, path: str = "/api/workflows/add/execute") -> Load:
    """Return calls of the typed function with varying parameters."""
    return Load(port, path, '{"a": %d, "b": 0}', '"sum":%d}')


class NexusServer(Server):
    """Nexus with every installed plugin, on free ports."""

    def __init__(self, headers: dict[str, str] | None = None, **arguments: int) -> None:
        self.headers = headers or {}
        self.mcp_port = free_port()
        numbers = {"mcp": self.mcp_port, "cli": free_port(), **arguments}
        super().__init__(
            "nexus_app.py", *[word for name, value in numbers.items() for word in (f"--{name}", str(value))]
        )

    async def settled(self) -> None:
        """Wait until MCP answers too: its library is imported in the background, after REST has begun to answer."""
        if find_spec("nexus_mcp"):
            load = mcp_requests.modern(self.mcp_port)
            await self.answers(replace(load, headers=load.headers | self.headers))


async def _throughput(row: Row, ours: tuple[Server, Load], theirs: tuple[Server, Load], effort: Effort) -> Row:
    """Compare two servers under the same load."""
    ours_load, theirs_load = (replace(load, seconds=effort.seconds) for _, load in (ours, theirs))
    for server, load in (ours, theirs):
        await server.answers(load)
        if isinstance(server, NexusServer):
            await server.settled()
    return await paired(row, lambda: ours[0].measure(ours_load), lambda: theirs[0].measure(theirs_load), effort.rounds)


async def rest_bare(effort: Effort) -> list[Row]:
    """Compare a REST call with a bare Starlette route, and look at memory."""
    title = "a. REST: a typed function"
    row = Row(title, "add(a, b)", "bare Starlette route, same server", target=0.85)
    memory = Row("g. Resident memory", "Nexus, every plugin, one function", "bare Starlette", "MB", note="REST answers")
    with_mcp = replace(memory, note="MCP answers too", ours=[], theirs=[])
    loaded = replace(memory, note="after the load of a.", ours=[], theirs=[])
    async with serving(NexusServer(), Server("starlette_app.py")) as (ours, bare):
        pairs = (ours, rest_load(ours.port)), (bare, rest_load(bare.port))
        await asyncio.gather(*(server.answers(load) for server, load in pairs))
        _note_memory(memory, ours, bare)
        await ours.settled()
        _note_memory(with_mcp, ours, bare)
        await _throughput(row, *pairs, effort)
        _note_memory(loaded, ours, bare)
    return [row, memory, with_mcp, loaded]


def _note_memory(row: Row, ours: Server, theirs: Server) -> None:
    row.ours.append({"value": ours.resident_mb()})
    row.theirs.append({"value": theirs.resident_mb()})


async def rest_peer(effort: Effort) -> list[Row]:
    """Compare a REST call with the peer product's handler for the same function."""
    title = "b. REST against kailash-nexus"
    row = Row(title, "add(a, b)", "register_handler(add)", target=1.5)
    memory = Row("g. Resident memory", "Nexus, every plugin, one function", "kailash-nexus", "MB", note="after b.")
    peer = Server("peer_app.py", "--mcp", str(free_port()), python=await peer_python())
    async with serving(NexusServer(), peer) as (ours, theirs):
        load = Load(theirs.port, "/workflows/add/execute", '{"inputs": {"a": %d, "b": 0}}', '"sum":%d}')
        await _throughput(row, (ours, rest_load(ours.port)), (theirs, load), effort)
        _note_memory(memory, ours, theirs)
    return [row, memory]


async def kailash_peer(effort: Effort) -> list[Row]:
    """Compare the same Kailash workflow on both products."""
    row = Row("c. REST: a Kailash workflow of two nodes", "two_nodes", "kailash-nexus", target=1.2)
    peer = Server("peer_app.py", "--mcp", str(free_port()), "--kailash", "1", python=await peer_python())
    async with serving(NexusServer(kailash=1), peer) as (ours, theirs):
        our_load = Load(ours.port, "/api/workflows/two_nodes/execute", '{"first": {"x": %d}}', '"z":%d}')
        their_load = Load(theirs.port, "/workflows/two_nodes/execute", '{"inputs": {"first": {"x": %d}}}', '"z":%d}')
        await _throughput(row, (ours, our_load), (theirs, their_load), effort)
    return [row]


async def mcp_bare(effort: Effort) -> list[Row]:
    """Compare an MCP tool call with the SDK's low-level server."""
    return await _mcp(effort, Server("mcp_lowlevel_app.py"), "bare SDK server, same server", 0.85)


async def mcp_fastmcp(effort: Effort) -> list[Row]:
    """Compare an MCP tool call with fastmcp on the same ASGI server, and on its own."""
    python = await fastmcp_python()
    rows = await _mcp(effort, Server("fastmcp_app.py", python=python), "fastmcp, same server", 1.3)
    own = Server("fastmcp_app.py", "--own", "1", python=python)
    return rows + await _mcp(effort, own, "fastmcp on uvicorn", None)


async def _mcp(effort: Effort, other: Server, against: str, target: float | None) -> list[Row]:
    title = "d. MCP over streamable HTTP: tools/call"
    rows = []
    async with serving(NexusServer(), other) as (ours, theirs):
        for name, kind in (
            ("2026-07-28, no session", mcp_requests.modern),
            ("2025-11-25, sessions", mcp_requests.legacy),
        ):
            loads = []
            for server, at in ((ours, ours.mcp_port), (theirs, theirs.port)):
                await server.answers(mcp_requests.modern(at))
                loads.append(await asyncio.to_thread(kind, at))
            row = Row(title, name, against, target=target)
            rows.append(await _throughput(row, (ours, loads[0]), (theirs, loads[1]), effort))
    return rows


async def start_up(effort: Effort) -> list[Row]:
    """Compare the time from the start of the process to the first right answer."""
    title = "e. Start of the process to the first answer"
    python = await peer_python()
    row = Row(title, "REST, every plugin", "kailash-nexus", "s", 1 / 3, "lower")
    bare = Row(title, "REST, every plugin", "bare Starlette", "s", better="lower")
    mcp = Row(title, "MCP, every plugin", unit="s", better="lower")
    for _ in range(effort.starts):
        row.ours.append(await _ready(NexusServer()))
        bare.ours.append(row.ours[-1])
        row.theirs.append(await _ready(Server("peer_app.py", "--mcp", str(free_port()), python=python), peer=True))
        bare.theirs.append(await _ready(Server("starlette_app.py")))
        if find_spec("nexus_mcp"):
            server = NexusServer()
            mcp.ours.append(await _ready(server, mcp_port=server.mcp_port))
    return [row, bare, *([mcp] if mcp.ours else [])]


async def _ready(server: Server, *, peer: bool = False, mcp_port: int = 0) -> dict[str, float]:
    load = rest_load(server.port)
    if peer:
        load = Load(server.port, "/workflows/add/execute", '{"inputs": {"a": %d, "b": 0}}', '"sum":%d}')
    if mcp_port:
        load = mcp_requests.modern(mcp_port)
    async with serving(server):
        return {"value": await server.answers(load), "cpu_us": 1e6 * server.cpu_seconds()}


async def imports(effort: Effort) -> list[Row]:
    """Compare the time of imports and commands, each in a fresh process."""
    title = "f. Fresh processes: imports and commands"
    script = str(Path(sys.executable).with_name("nexus"))
    python = [sys.executable, "-c"]
    settings, core = [*python, "import pydantic_settings"], [*python, "import nexus_core"]
    cases = [
        ("import nexus_core", [*python, "import nexus_core"], settings, 1.3),
        ("from nexus_core import Nexus", [*python, "from nexus_core import Nexus"], settings, 1.3),
        *([("import nexus", [*python, "import nexus"], core, 1.2)] if find_spec("nexus") else []),
        ("nexus plugins list", [script, "plugins", "list"], settings, None),
    ]
    rows = [
        await _commands(Row(title, name, " ".join(theirs[2:]), "ms", target, "lower"), ours, theirs, effort)
        for name, ours, theirs, target in cases
    ]
    if find_spec("nexus_cli"):
        typer = [sys.executable, str(PROGRAMS / "typer_app.py"), "--help"]
        row = Row(title, "nexus --help", "bare typer --help", "ms", 2.0, "lower")
        rows.append(await _commands(row, [script, "--help"], typer, effort))
    return rows


async def _commands(row: Row, ours: list[str], theirs: list[str], effort: Effort) -> Row:
    await run_once(ours)  # bytecode caches are written, files are in memory
    await run_once(theirs)
    return await paired(row, lambda: run_once(ours), lambda: run_once(theirs), effort.processes)


async def many_workflows(effort: Effort) -> list[Row]:
    """Compare a call with 10,000 registered workflows and one with 10: in process, and by REST."""
    title = "h. A call with 10,000 registered workflows / with 10"
    rows = []
    async with Invocations(10_000) as many, Invocations(10) as few:
        row = Row(title, "nexus.invoke", "with 10 workflows", "calls/s", 0.9)
        rows.append(await paired(row, many.measure, few.measure, 3 * effort.rounds))
    async with serving(NexusServer(workflows=10_000), NexusServer(workflows=10)) as (many_server, few_server):
        row = Row(title, "REST", "with 10 workflows", target=0.9)
        pairs = (many_server, rest_load(many_server.port)), (few_server, rest_load(few_server.port))
        rows.append(await _throughput(row, *pairs, effort))
        memory = Row("g. Resident memory", "10,000 workflows", "10 workflows", "MB", note="after h.")
        _note_memory(memory, many_server, few_server)
    return [*rows, memory]


async def gateway(effort: Effort) -> list[Row]:
    """Compare a REST call with every feature of the gateway on, in memory, with the same call and all off."""
    title = "i. REST: authentication, permissions, limits, breaker and cache"
    claims = {"sub": "alice", "permissions": ["data.read"], "exp": int(time.time()) + 86_400}
    headers = {"Authorization": f"Bearer {signed(claims)}"}
    rows = []
    for name, hits, target in (("all on, cache misses", 0, 0.6), ("all on, cache hits", 1, None)):
        row = Row(title, name, "all off", target=target)
        async with serving(NexusServer(headers, gateway=1, hits=hits), NexusServer()) as (on, off):
            load = replace(rest_load(on.port), headers=headers, warm_up=1000)
            rows.append(await _throughput(row, (on, load), (off, replace(rest_load(off.port), warm_up=1000)), effort))
    return rows


async def filtered_listing(effort: Effort) -> list[Row]:
    """Measure how long it takes to find out which of 1,000 workflows a caller may run."""
    row = Row("j. What a caller sees of 1,000 workflows", "CallerView.workflows()", "5 ms", "ms", 1, "lower")
    async with Listing(1000) as listing:
        for _ in range(3 * effort.rounds):
            row.ours.append(await listing.measure())
            row.theirs.append({"value": 5.0})
    return [row]


async def followers(effort: Effort) -> list[Row]:
    """Measure how soon followers hear of changes, and what a thousand of them cost."""
    title, slow = "k. Following sessions and events", "99th percentile"
    rows = []
    with following.redis() as port:
        async with serving(NexusServer(), NexusServer(redis=port), NexusServer(redis=port)) as (alone, one, other):
            for each in (alone, one, other):
                await each.answers(rest_load(each.port))
            for name, limit, writer, follower in (
                ("a change of a session, in one process", 50.0, alone, alone),
                ("a change of a session, through Redis", 200.0, one, other),
            ):
                row = Row(title, f"{name}: {slow}", f"{limit:g} ms", "ms", 1, "lower")
                for _ in range(effort.rounds):
                    waits = sorted(await following.delays(writer.port, follower.port, 200))
                    row.ours.append({"value": waits[-2], "median": waits[100]})
                    row.theirs.append({"value": limit})
                row.note = f"median {row.median_of('ours', 'median'):.1f} ms"
                rows.append(row)
            row = Row(title, "an event until 1,000 WebSockets have it", "1 s", "ms", 1, "lower")
            memory = Row(title, "memory after they have left twice", "once", "MB", note="of the server")
            crowd = following.Crowd(alone, 1000)
            row.ours = [{"value": wait} for wait in await crowd.measure(effort.rounds)]
            row.theirs = [{"value": 1000.0}] * len(row.ours)
            once = alone.resident_mb()
            await crowd.measure(1)
            memory.ours, memory.theirs = [{"value": alone.resident_mb()}], [{"value": once}]
            rows += [row, memory]
    return rows


async def observability(effort: Effort) -> list[Row]:
    """Compare a REST call with metrics, logs or traces on with the same call and all of it off.

    A process may be a tenth slower than its twin all its life: each comparison is made with several pairs of them.
    """
    title = "l. REST: metrics, logs and traces"
    pairs = min(effort.starts, 6)
    some = replace(effort, rounds=max(4, effort.rounds // pairs))
    rows = []
    for name, arguments, target in (
        ("metrics", {"metrics": 1}, 0.95),
        ("logs of calls as JSON, and an audit log with parameters", {"logs": 1}, 0.9),
        ("traces of 1 % of the calls", {"tracing": 1}, 0.95),
        ("all of it", {"metrics": 1, "logs": 1, "tracing": 1}, None),
    ):
        row = Row(title, name, "all off", target=target)
        for _ in range(pairs):
            async with serving(NexusServer(**arguments), NexusServer()) as (on, off):
                await _throughput(row, (on, rest_load(on.port)), (off, rest_load(off.port)), some)
        rows.append(row)
    return rows


async def scrapes(effort: Effort) -> list[Row]:
    """Measure how long it takes to read 10,000 series, and how late the event loop is meanwhile."""
    title = "m. Reading 10,000 series"
    limit = Row(title, "GET /metrics", "200 ms", "ms", 1, "lower")
    lag = Row(title, "longest lag of the event loop meanwhile", "50 ms", "ms", 1, "lower")
    library = Row(title, "GET /metrics", "prometheus-client's own registry, rendered", "ms", better="lower")
    theirs = scraping.Library()
    async with scraping.Scraped() as scraped:
        await paired(library, scraped.measure, theirs.measure, effort.rounds)
    limit.ours = library.ours
    limit.theirs = [{"value": 200.0}] * len(library.ours)
    lag.ours = [{"value": each["lag"]} for each in library.ours]
    lag.theirs = [{"value": 50.0}] * len(library.ours)
    return [limit, lag, library]


async def pools(effort: Effort) -> list[Row]:
    """Compare pools of connections with those of the libraries below them, and with new connections."""
    import pooling  # its libraries are those of a plugin

    async with serving(Server("starlette_app.py")) as (server,):
        await server.answers(rest_load(server.port))
        return await pooling.compare(effort.rounds, f"http://127.0.0.1:{server.port}/api/workflows/add/execute")


async def tests_of_ones_own(effort: Effort) -> list[Row]:
    """Measure what a test through three channels takes."""
    import testing_client  # its libraries are those of a plugin

    return await testing_client.compare(effort.rounds)


async def steps(effort: Effort) -> list[Row]:
    """Measure what a step of a workflow costs."""
    return await run_steps.compare(effort.rounds)


async def run_stores(effort: Effort) -> list[Row]:
    """Compare calls with the run store sqlite with those without, by REST and in process, and count background calls.

    A process may be a tenth slower than its twin all its life: several pairs of them are compared.
    """
    row = Row(stored_runs.TITLE, "REST: add(a, b), sqlite", "memory", target=0.85)
    pairs = min(effort.starts, 6)
    some = replace(effort, rounds=max(4, effort.rounds // pairs))
    for _ in range(pairs):
        async with serving(NexusServer(runs=1), NexusServer()) as (stored, memory):
            await _throughput(row, (stored, rest_load(stored.port)), (memory, rest_load(memory.port)), some)
    return [row, *await stored_runs.in_process(effort.rounds), *await stored_runs.on_postgres(effort.rounds)]


async def durable(effort: Effort) -> list[Row]:
    """Measure durable runs, with workers in processes of their own."""
    import durable_runs  # its servers are those of the tests

    return await durable_runs.compare(effort.rounds)


@dataclass(frozen=True)
class Available:
    """A section and the plugins without which it can't run."""

    run: Section
    needs: tuple[str, ...]


SECTIONS: dict[str, Available] = {
    "a": Available(rest_bare, ("api", "hypercorn")),
    "b": Available(rest_peer, ("api", "hypercorn")),
    "c": Available(kailash_peer, ("api", "hypercorn", "kailash")),
    "d": Available(mcp_bare, ("mcp", "hypercorn")),
    "d2": Available(mcp_fastmcp, ("mcp", "hypercorn")),
    "e": Available(start_up, ("api", "hypercorn")),
    "f": Available(imports, ()),
    "h": Available(many_workflows, ("api", "hypercorn")),
    "i": Available(gateway, ("api", "hypercorn", "auth", "ratelimit", "breaker", "cache")),
    "j": Available(filtered_listing, ("auth",)),
    "k": Available(followers, ("api", "hypercorn", "redis")),
    "l": Available(observability, ("api", "hypercorn", "metrics", "logs", "tracing")),
    "m": Available(scrapes, ("hypercorn", "metrics")),
    "n": Available(pools, ("hypercorn", "pools")),
    "o": Available(tests_of_ones_own, ("api", "cli", "mcp")),
    "p": Available(steps, ()),
    "q": Available(run_stores, ("api", "hypercorn", "runs")),
    "r": Available(durable, ("runs", "dbos")),
}
"""By letter; g, resident memory, is read while the others run."""
