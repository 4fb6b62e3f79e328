"""Every documented operation with generated requests: never a server error, and answers fit the document."""

from __future__ import annotations

import threading

import pytest

from nexus_core import Context


@pytest.fixture
def url(make_nexus):
    """A platform served from a thread of its own: schemathesis is not asynchronous."""
    import asyncio

    nexus = make_nexus()
    for name in (
        "sleeps",
        "sync_sleeps",
        "hangs",
        "boom",
        "refuses",
        "exits",
        "async_exits",
        "not_json",
        "hardly_json",
        "not_finite",
        "blob",
    ):
        nexus.unregister(name)

    @nexus.workflow
    async def notify(
        text: str, urgent: bool = False, tags: list[str] | None = None, context: Context = None
    ) -> dict[str, int]:
        return {"length": len(text)}

    addresses, loop = [], asyncio.new_event_loop()
    ready, ending = threading.Event(), asyncio.Event()

    async def run():
        async with nexus.serving() as listeners:
            addresses.append(listeners[0].url)
            ready.set()
            await ending.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert ready.wait(10)
    yield addresses[0]
    loop.call_soon_threadsafe(ending.set)
    thread.join(10)
    loop.close()


@pytest.mark.timeout(120)
def test_generated_requests(url):
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.core.failures import FailureGroup
    from schemathesis.specs.openapi import checks

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    validated = [
        schemathesis.checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    tried = set()

    def try_out(operation):
        @settings(
            max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def call(case):
            case.headers.pop("X-Nexus-Session", None)  # no generated one exists
            response = case.call(timeout=10)
            try:
                case.validate_response(response, checks=validated)
            except FailureGroup as group:
                raise AssertionError([str(failure) for failure in group.exceptions]) from group
            tried.add((operation.method, operation.path))

        call()

    for result in schema.get_all_operations():
        operation = result.ok()
        if not operation.path.endswith(("/count/execute", "/steps/execute")):  # they would count to any number
            try_out(operation)
    assert len(tried) >= 8
