"""Nexus in a worker without channels: jobs come as lines of JSON on stdin, what becomes of them goes to stdout.

    echo '{"workflow": "square", "params": {"number": 3}}' | python worker.py

Any queue can stand in stdin's place. At most four jobs run at once, each with a time limit; none can end the worker.
"""

import asyncio
import json
import sys

from nexus_core import Invocation, Nexus, NexusError

nexus = Nexus(max_concurrent_workflows=4, workflow_timeout=5, disabled_plugins=["api", "cli", "mcp"])


@nexus.workflow
def square(number: int) -> int:
    """Multiply a number by itself."""
    return number * number


async def work_on(line: str, places: asyncio.Semaphore) -> dict[str, object]:
    """Run one job and return what there is to say of it."""
    try:
        job = json.loads(line)
        invocation = Invocation(job["workflow"], job.get("params", {}), idempotency_key=job.get("id"))
    except (ValueError, KeyError, TypeError):
        return {"error": "a job is an object with workflow, params and perhaps id"}
    async with places:
        try:
            return {"result": (await nexus.invoke(invocation)).value}
        except NexusError as error:
            return {"error": error.code}


async def main() -> None:
    """Work until stdin ends."""
    places = asyncio.Semaphore(4)
    async with nexus:
        lines = await asyncio.to_thread(sys.stdin.readlines)
        for done in await asyncio.gather(*(work_on(line, places) for line in lines)):
            print(json.dumps(done))


if __name__ == "__main__":
    asyncio.run(main())
