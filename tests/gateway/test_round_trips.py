"""What a call costs Redis when every feature keeps its state there."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from nexus_breaker.shared import FRESH_SECONDS

MOST = 3
"""Round trips that any call may take."""


CALLS = 40


@pytest.fixture
def options(options: dict[str, Any]) -> dict[str, Any]:
    """Events go to Redis beside calls, many at a time: they are left out where round trips are counted.

    A busy machine's Redis gets its time: without it, a platform goes on alone, and counts other things.
    """
    return options | {"event_backend": "memory", "redis_timeout": 10}


@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
async def test_round_trips_are_few(platform: Any, redis_proxy: Any, keyed: bool) -> None:
    # Scripts are loaded, and connections opened, also for what goes on beside calls.
    await asyncio.gather(*(platform.call(-number, f"-{number}") for number in range(1, 6)))
    await platform.call(-1)
    runs = platform.runs
    for first in (True, False):
        before, begin = redis_proxy.requests, time.monotonic()
        for number in range(CALLS):
            reply = (await platform.call(number, f"k{number}" if keyed else None)).json()
            marks = {} if first else {"replayed": True} if keyed else {"cached": True}
            assert reply == {"result": number * 2, "run_id": reply["run_id"]} | marks
        # Beside calls, the breaker looks every half second whether other processes have seen a workflow fail.
        looks = 1 + (time.monotonic() - begin) / FRESH_SECONDS
        taken = redis_proxy.requests - before
        assert CALLS <= taken <= CALLS * MOST + looks
        assert platform.runs == runs + CALLS


async def test_a_token_is_verified_once_and_not_for_each_call(platform: Any, monkeypatch: Any) -> None:
    from joserfc import jwt

    verified = []
    decode = jwt.decode
    monkeypatch.setattr(jwt, "decode", lambda *given, **named: verified.append(1) or decode(*given, **named))
    for value in range(20):
        assert (await platform.call(value)).status_code == 200
    assert len(verified) == 1
