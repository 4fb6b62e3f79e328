"""Durable runs while gateways and workers are killed; `make chaos` does the same at length. See `chaos`."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from chaos import Abuse, Plan, options_of
from forked_processes import ForkedProcesses

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkedProcesses]:
    forked = ForkedProcesses()
    yield forked
    forked.close()


@pytest.mark.integration
@pytest.mark.timeout(300)
@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_every_accepted_run_ends_right_and_no_finished_step_is_repeated(
    store: str, processes: ForkedProcesses, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    server = request.getfixturevalue("postgres_server") if store == "postgres" else None
    seed = random.SystemRandom().randrange(1_000_000)
    restarts = int(server is not None)
    plan = Plan(40, 4.0, seed, restarts, pause=(0.4, 0.9), kills=4, sampled=10, is_hasty=True)
    options = options_of(store, tmp_path, "" if server is None else server.url)
    figures = await Abuse(processes, tmp_path, options, plan, server).run()
    assert figures.wrong == [], (plan, figures)
    assert figures.accepted == figures.ended == plan.runs, (plan, figures)
