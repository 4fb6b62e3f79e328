"""Names and descriptions for language models, whose providers refuse a whole request for one bad name or empty text."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nexus_core import ConfigurationError, Nexus
from nexus_core.schema.tool_names import tool_name
from nexus_core.workflows.registry import Registry

PORTABLE = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def test_portable_names_stay_and_others_stay_the_same_for_ever():
    for name in ("add", "send_invoice", "a-b", "x" * 64, "_", "0"):
        assert tool_name(name) == name
    assert tool_name("reports.monthly") == "reports_monthly_xebe30a3c20"
    assert tool_name("a" * 100) == "a" * 52 + "_x2816597888"


names = st.text("ab_./x0é-", min_size=1, max_size=130) | st.from_regex(r"[a-z_.]{1,60}_x[0-9a-f]{10}", fullmatch=True)


@settings(max_examples=300)
@given(st.sets(names, max_size=20))
@example({"reports.monthly", "reports_monthly", "reports/monthly", tool_name("reports.monthly")})
@example({"a" * 65, "a" * 66, tool_name("a" * 65)})
def test_any_name_has_a_portable_one_of_its_own(found):
    found |= {tool_name(name) for name in found}  # somebody may call a workflow so
    tools = {tool_name(name) for name in found}
    assert len(tools) == len(found)
    assert all(PORTABLE.fullmatch(tool) for tool in tools)


def test_a_tool_name_leads_back_while_the_workflow_is_there():
    nexus = Nexus(discover=False)
    tool = nexus.register("reports.monthly", lambda: 1).tool_name
    nexus.register("reports_monthly", lambda: 2)
    nexus.register("reports.monthly", lambda: 3, replace=True)
    assert nexus.workflows.name_of_tool(tool) == "reports.monthly"
    assert nexus.workflows.name_of_tool("reports_monthly") == "reports_monthly"
    assert nexus.workflows.name_of_tool("reports.monthly") == "reports.monthly"
    nexus.unregister("reports.monthly")
    assert nexus.workflows.name_of_tool(tool) == tool


def test_two_of_one_tool_name_are_refused(monkeypatch):
    monkeypatch.setattr("nexus_core.workflows.workflow.tool_name", lambda name: "same")
    nexus = Nexus(discover=False)
    nexus.register("a.b", lambda: 1)
    with pytest.raises(ConfigurationError, match=r'"a\.c" and "a\.b" have the same tool name'):
        nexus.register("a.c", lambda: 1)
    assert isinstance(nexus.workflows, Registry)
    assert nexus.list_workflows() == ["a.b"]


def test_a_list_tells_the_tool_name_where_it_is_another():
    nexus = Nexus(discover=False)
    plain = nexus.register("add", lambda: 1, {"description": "Adds."})
    dotted = nexus.register("math.add", lambda: 1)
    assert plain.summary() == {"name": "add", "description": "Adds."}
    assert dotted.summary() == {"name": "math.add", "description": "", "tool_name": tool_name("math.add")}
    assert dotted.describe()["tool_name"] == tool_name("math.add")


def test_who_has_no_description_is_described_all_the_same():
    nexus = Nexus(discover=False)

    def monthly(year: int, month: int = 1) -> int:
        return year

    assert nexus.register("a", monthly, {"description": "It adds."}).help == "It adds."
    assert nexus.register("reports.monthly", monthly).help == (
        'Runs the workflow "reports.monthly" (reports monthly). Its parameters: year, month (optional).'
    )
    assert nexus.register("now", lambda: 1, {"description": " \n"}).help == (
        'Runs the workflow "now". It takes no parameters.'
    )
