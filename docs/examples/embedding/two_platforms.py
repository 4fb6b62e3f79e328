"""Two platforms in one process: each has its own workflows, options, sessions and ports; they share nothing."""

import asyncio

from nexus_core import Nexus, NexusError

inside = Nexus(api_port=0, cli_port=0, mcp_port=0, max_concurrent_workflows=50)
outside = Nexus(api_port=0, cli_port=0, disabled_plugins=["mcp"], workflow_timeout=5)


@inside.workflow
def cost(article: str) -> float:
    """Return what an article costs us. For colleagues."""
    return {"pen": 0.5}[article]


@outside.workflow
async def price(article: str) -> float:
    """Return what an article costs customers. It asks the other platform."""
    return 3 * (await inside.invoke("cost", {"article": article})).value


async def main() -> None:
    """Serve both."""
    async with inside.serving() as ours, outside.serving() as theirs:
        print(len({listener.url for listener in [*ours, *theirs]}) == len(ours) + len(theirs))
        print((await outside.invoke("price", {"article": "pen"})).value)
        try:
            await outside.invoke("cost", {"article": "pen"})
        except NexusError as error:
            print(error.code)


if __name__ == "__main__":
    asyncio.run(main())
