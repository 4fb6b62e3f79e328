"""Nexus in a plain script: its workflows, checks, limits and runs, without any port."""

import asyncio

from nexus_core import Context, Nexus, NexusError

nexus = Nexus(workflow_timeout=10)


@nexus.workflow
async def total(prices: list[float], context: Context) -> float:
    """Add up prices."""
    for done, _ in enumerate(prices, 1):
        context.progress(done, len(prices))
    return sum(prices)


async def main() -> None:
    """Call the workflow rightly, and wrongly."""
    async with nexus:
        result = await nexus.invoke("total", {"prices": [1.5, 2.5]})
        print(result.value, result.run_id != "")
        try:
            await nexus.invoke("total", {"price": [1]})
        except NexusError as error:
            print(error.code, error.errors[0]["pointer"])


if __name__ == "__main__":
    asyncio.run(main())
