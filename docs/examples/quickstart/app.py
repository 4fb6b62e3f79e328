"""The world's airports, on every channel: a Kailash workflow, a typed function with progress, and a stream."""

import asyncio
import math
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import airportsdata
from kailash.workflow.builder import WorkflowBuilder
from pydantic import AfterValidator, Field

from nexus_core import Context, Nexus

# Kailash reads files below the working directory and the temporary one only, so the package's file goes there.
temporary = tempfile.TemporaryDirectory()
AIRPORTS_CSV = shutil.copy(Path(airportsdata.__file__).with_name("airports.csv"), temporary.name)

EARTH_RADIUS_KM = 6371.0
METRES_PER_FOOT = 0.3048

airports = airportsdata.load("IATA")
nexus = Nexus()


# 1. A Kailash workflow: read the file, keep one country's airports, summarise them.


def summarise(airports: list) -> dict:
    """Describe some airports by their number, their heights and their time zones."""
    heights = {airport["name"]: float(airport["elevation"]) * METRES_PER_FOOT for airport in airports}
    highest = max(heights, key=heights.get, default=None)
    return {
        "airports": len(airports),
        "highest": highest and {"name": highest, "metres": round(heights[highest])},
        "mean_metres": round(sum(heights.values()) / len(heights)) if heights else None,
        "time_zones": sorted({airport["tz"] for airport in airports}),
    }


builder = WorkflowBuilder()
builder.add_node("CSVReaderNode", "read", {"file_path": AIRPORTS_CSV})
builder.add_node("FilterNode", "with_code", {"field": "iata", "operator": "!=", "value": ""})
builder.add_node("FilterNode", "in_country", {"field": "country", "operator": "=="})
builder.add_node("PythonCodeNode", "summary", {"function": summarise})
builder.add_connection("read", "data", "with_code", "data")
builder.add_connection("with_code", "filtered_data", "in_country", "data")
builder.add_connection("in_country", "filtered_data", "summary", "airports")
builder.add_workflow_inputs("in_country", {"country": "value"})

nexus.register(
    "country_summary",
    builder,
    metadata={
        "description": "Count a country's airports and say how high they lie and which time zones they are in.",
        "tags": ["airports"],
        "expected_parameters": {
            "country": {
                "type": "string",
                "required": True,
                "pattern": "^[A-Z]{2}$",
                "description": "The country's two-letter code (ISO 3166-1), such as CH.",
            }
        },
    },
)


# 2. A typed function: its signature is the schema, `context` tells callers how far it is.


@dataclass
class Nearby:
    """An airport and how far away it is."""

    code: str
    name: str
    country: str
    km: float


@nexus.workflow(tags=["airports"])
async def nearest_airports(
    latitude: Annotated[float, Field(ge=-90, le=90)],
    longitude: Annotated[float, Field(ge=-180, le=180)],
    context: Context,
    limit: Annotated[int, Field(ge=1, le=1000)] = 5,
) -> list[Nearby]:
    """Find the airports nearest to a place.

    Args:
        latitude: Degrees north of the equator.
        longitude: Degrees east of Greenwich.
        context: Takes the progress; Nexus gives it.
        limit: How many to return.
    """
    found = []
    for done, (code, airport) in enumerate(airports.items(), start=1):
        km = distance_km(latitude, longitude, airport["lat"], airport["lon"])
        found.append(Nearby(code, airport["name"], airport["country"], round(km, 1)))
        if done % 1000 == 0:
            context.progress(done, len(airports), "airports measured")
            await asyncio.sleep(0)  # let other calls run
    return sorted(found, key=lambda near: near.km)[:limit]


# 3. A stream: callers get each item as soon as it is known. What is wrong with a parameter is told before it begins.


def known(code: str) -> str:
    """Check that there is an airport."""
    if code not in airports:
        raise ValueError(f'there is no airport with the code "{code}"')
    return code


@dataclass
class Leg:
    """One flight of a journey."""

    start: str
    end: str
    km: float
    km_so_far: float


@nexus.workflow(tags=["airports"])
async def journey(codes: list[Annotated[str, AfterValidator(known)]]) -> AsyncIterator[Leg]:
    """Follow a journey from airport to airport, leg by leg.

    Args:
        codes: The airports' three-letter codes (IATA), in the order in which they are visited.
    """
    travelled = 0.0
    for start, end in pairwise(codes):
        km = distance_km(*position(start), *position(end))
        travelled += km
        yield Leg(start, end, round(km), round(travelled))


def position(code: str) -> tuple[float, float]:
    """Return an airport's latitude and longitude."""
    return airports[code]["lat"], airports[code]["lon"]


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Return the great-circle distance between two places given in degrees (haversine formula)."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    a = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(a)))


if __name__ == "__main__":
    nexus.start()
