"""The quickstart runs as it stands, and its figures are those of its file."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nexus_core import ValidationError
from nexus_core.pipeline.invocation import Invocation

if TYPE_CHECKING:
    from nexus_core import Nexus

QUICKSTART = Path(__file__).parents[3] / "docs" / "examples" / "quickstart" / "app.py"


@pytest.fixture(scope="module")
def app() -> dict[str, Any]:
    pytest.importorskip("airportsdata")
    return runpy.run_path(str(QUICKSTART))


@pytest.fixture
async def quickstart(app: dict[str, Any]) -> Nexus:
    async with app["nexus"] as nexus:
        yield nexus


async def test_country_summary_counts_the_rows_of_the_file(app: dict[str, Any], quickstart: Nexus) -> None:
    with Path(app["AIRPORTS_CSV"]).open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["country"] == "CH" and row["iata"]]
    run = quickstart.submit(Invocation("country_summary", {"country": "CH"}))
    assert await run.wait(30)
    summary = run.result.value["summary"]["result"]
    assert summary["airports"] == len(rows) > 10
    assert summary["highest"]["metres"] == round(max(float(row["elevation"]) for row in rows) * 0.3048)
    assert summary["time_zones"] == sorted({row["tz"] for row in rows})
    progress = [event.data for event in run.events if event.type == "workflow.progress"]
    assert [each["message"] for each in progress] == ["read", "with_code", "in_country", "summary"]


def test_it_runs_in_its_own_directory() -> None:
    pytest.importorskip("airportsdata")
    code = (
        "import app, asyncio; print(asyncio.run(app.nexus.invoke('country_summary', {'country': 'CH'})).json.decode())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=QUICKSTART.parent, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.stdout.startswith('{"summary":{"result":{"airports":'), done.stderr


async def test_country_summary_takes_a_country_and_nothing_else(quickstart: Nexus) -> None:
    for params, complaint in (
        ({}, "/country: missing"),
        ({"country": "Switzerland"}, "/country: expected text that matches"),
        ({"country": "CH", "file_path": "/etc/hostname"}, "/file_path: unknown name"),
    ):
        with pytest.raises(ValidationError, match=complaint):
            await quickstart.invoke("country_summary", params)
    empty = (await quickstart.invoke("country_summary", {"country": "ZZ"})).value["summary"]["result"]
    assert empty == {"airports": 0, "highest": None, "mean_metres": None, "time_zones": []}


async def test_nearest_airports_are_sorted_and_tell_how_far_they_are(quickstart: Nexus) -> None:
    run = quickstart.submit(Invocation("nearest_airports", {"latitude": 46.95, "longitude": 7.44, "limit": 3}))
    assert await run.wait(30)
    found = run.result.value
    assert found[0]["code"] == "BRN"
    assert len(found) == 3
    assert [each["km"] for each in found] == sorted(each["km"] for each in found)
    done = [event.data["done"] for event in run.events if event.type == "workflow.progress"]
    assert done[:2] == [1000, 2000]


async def test_a_journey_is_streamed_leg_by_leg(quickstart: Nexus) -> None:
    run = quickstart.submit(Invocation("journey", {"codes": ["ZRH", "KEF", "JFK"]}))
    assert await run.wait(30)
    legs = [event.data["value"] for event in run.events if event.type == "workflow.output"]
    assert [(leg["start"], leg["end"]) for leg in legs] == [("ZRH", "KEF"), ("KEF", "JFK")]
    assert legs == run.result.value
    assert 6_700 < legs[-1]["km_so_far"] < 6_900


@pytest.mark.parametrize(
    ("workflow", "params", "complaint"),
    [
        ("journey", {"codes": ["ZRH", "QQQ"]}, r'/codes/1: .*no airport with the code "QQQ"'),
        ("journey", {"codes": "ZRH"}, "/codes: expected array"),
        ("nearest_airports", {"latitude": 91, "longitude": 0}, "/latitude: expected at most 90"),
        ("nearest_airports", {"latitude": 0, "longitude": -1e308}, "/longitude: expected at least -180"),
        ("nearest_airports", {"latitude": 0, "longitude": 0, "limit": -1}, "/limit: expected at least 1"),
    ],
)
async def test_mistakes_are_the_callers(
    quickstart: Nexus, workflow: str, params: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError, match=complaint):
        await quickstart.invoke(workflow, params)


async def test_the_other_end_of_the_world_has_a_distance_too(quickstart: Nexus) -> None:
    for code in ("BRN", "SCL", "SYD"):
        found = (await quickstart.invoke("journey", {"codes": [code, code]})).value
        assert found[0]["km"] == 0
    corner = {"latitude": -90, "longitude": 180, "limit": 1}
    assert (await quickstart.invoke("nearest_airports", corner)).value
