"""The guide's unit and integration tests, run by pytest as they stand."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from guide_text import run
from kailash.workflow.builder import WorkflowBuilder

UNIT, INTEGRATION = "Unit Testing", "Integration Testing"


def echo(data: dict) -> dict:
    return {"seen": data}


def kailash_workflow() -> Any:
    builder = WorkflowBuilder()
    builder.add_node("PythonCodeNode", "echo", {"function": echo})
    return builder.build()


def methods(heading: str, name: str) -> list[str]:
    return [each for each in vars(run(heading)[name]) if each.startswith("test_")]


@pytest.fixture
def no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may listen."""

    def listen(*_: Any) -> None:
        raise AssertionError("a port is opened")

    monkeypatch.setattr(socket.socket, "listen", listen)


@pytest.mark.parametrize("workflow", [lambda: echo, kailash_workflow], ids=["function", "Kailash"])
@pytest.mark.parametrize("method", methods(UNIT, "TestNexusWorkflows"))
def test_unit_tests(method: str, workflow: Any, no_ports: None) -> None:
    tests = run(UNIT)["TestNexusWorkflows"]
    tests.create_test_workflow = lambda self: workflow()
    test = tests()
    test.setup_method()
    getattr(test, method)()
    test.client.close()


@pytest.mark.parametrize("method", methods(INTEGRATION, "TestNexusIntegration"))
def test_integration_tests(method: str, no_ports: None) -> None:
    test = run(INTEGRATION)["TestNexusIntegration"]()
    test.setup_method()
    try:
        getattr(test, method)()
    finally:
        test.teardown_method()
