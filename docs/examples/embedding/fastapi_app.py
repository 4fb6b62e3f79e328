"""Nexus in a FastAPI application: `hypercorn fastapi_app:app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from nexus_core import Nexus, NexusError

nexus = Nexus()


@nexus.workflow
def price(article: str, pieces: int = 1) -> float:
    """Return what some pieces of an article cost."""
    return pieces * {"pen": 1.5, "book": 12.0}[article]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start the platform with the server, and let its work finish when that stops."""
    async with nexus:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/nexus", nexus.asgi_app())


@app.get("/prices/{article}")
async def show_price(article: str, pieces: int = 1) -> dict[str, float]:
    """Answer by a workflow; its errors are the application's to render here."""
    try:
        result = await nexus.invoke("price", {"article": article, "pieces": pieces})
    except NexusError as error:
        raise HTTPException(error.status, error.problem()) from None
    return {"price": result.value}
