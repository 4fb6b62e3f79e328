"""The dashboard, the alert rules and the list of metrics tell of metrics that there really are, with their labels."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nexus_core import Invocation, Nexus
from nexus_core.plugins.discovery import discover

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations"
DASHBOARD = json.loads((OPERATIONS / "dashboard.json").read_text())
ALERTS = yaml.safe_load((OPERATIONS / "alerts.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]] + [rule["expr"] for rule in RULES]

FUNCTIONS = {"sum", "min", "max", "rate", "increase", "histogram_quantile", "by", "or", "and", "label_values"}
NAME = re.compile(r"[a-z][a-z0-9_]*")
SELECTOR = re.compile(r"([a-z][a-z0-9_]*)\{([^}]*)\}")


@pytest.fixture(name="real")
async def real_fixture(parse, tmp_path):
    """Scrape a platform with everything on that there is, after some calls."""
    needed = {"metrics", "cache", "breaker", "redis", "health", "logs"}
    if needed - {record.name for record in discover()}:
        pytest.skip(f"needs the plugins {', '.join(sorted(needed))}")
    nexus = Nexus(
        disabled_plugins=["api", "cli", "mcp", "hypercorn", "kailash", "auth"], enable_monitoring=True, metrics_port=0,
        enable_caching=True, enable_circuit_breaker=True, redis_url="redis://127.0.0.1:1",
        audit_log=str(tmp_path / "audit.jsonl"),
    )  # fmt: skip
    nexus.register("work", lambda fail=False: 1 / 0 if fail else 1)
    nexus.register_event_handler(lambda event: None)
    from nexus_metrics import MetricsCollector, PrometheusExporter

    class Told(MetricsCollector):
        def collect_workflow_metrics(self, workflow_name, duration, success):
            """Take it."""

    nexus.register_metrics_collector(Told())
    async with nexus:
        await nexus.invoke(Invocation("work", {}, "api"))
        exporter = await PrometheusExporter(nexus).refreshed()
        async with asyncio.timeout(20):
            while True:  # the first round of health checks goes on beside
                found = parse((await nexus.threads.call(exporter.render)).decode())
                if found.series("nexus_health_check_healthy"):
                    return found
                await asyncio.sleep(0.02)


def labels_of(real, name):
    """Return the labels that a metric has."""
    base = re.sub(r"_(bucket|count|sum)$", "", name)
    family = real.families.get(base) or real.families.get(base.removesuffix("_total"))
    return {label for sample in family.samples for label in sample.labels}


def names_in(query):
    """Return the names of metrics in a query: what is neither a function, nor a label, nor inside quotes."""
    text = re.sub(r'"[^"]*"', "", query)
    text = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", text)
    return set(NAME.findall(text)) - FUNCTIONS


def test_there_are_some():
    assert len(PANELS) > 20
    assert len(RULES) > 10


@pytest.mark.parametrize("query", QUERIES)
def test_queries_can_be_read(query):
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)
    assert query.count('"') % 2 == 0
    assert names_in(query)
    for name in names_in(query):
        assert re.search(rf"(rate|increase)\({name}", query) or not re.search(r"_(total|bucket)$", name), name


async def test_queries_are_about_what_there_is(real):
    for query in QUERIES:
        for name in names_in(query) - {"up"}:
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert base in real.exposed or name in real.exposed, query
        for name, selected in SELECTOR.findall(query):
            labels = set(re.findall(r"([a-z_]+)\s*(?:=~|!=|=|!~)", selected))
            assert name == "up" or labels <= labels_of(real, name), query
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            known = set().union(*(labels_of(real, name) for name in names_in(query)))
            assert {label.strip() for label in grouped.split(",")} <= known, query


async def test_legends_and_texts_use_labels_that_there_are(real):
    for panel in PANELS:
        for target in panel["targets"]:
            known = set().union(*(labels_of(real, name) for name in names_in(target["expr"])))
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= known, target
    for rule in RULES:
        known = {"instance", "job"}.union(*(labels_of(real, name) for name in names_in(rule["expr"]) - {"up"}))
        assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= known, rule


async def test_the_list_is_complete_and_right(real):
    listed = {}
    for line in (OPERATIONS.parent / "reference" / "metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) >= 3 and re.fullmatch(r"`[a-z_]+`", cells[0]):
            listed[cells[0].strip("`")] = cells[1], set(re.findall(r"`([a-z_]+)`", cells[2]))
    assert set(listed) == real.exposed
    for name, (kind, labels) in listed.items():
        family = real.families.get(name) or real.families[name.removesuffix("_total")]
        assert family.type == kind, name
        assert labels_of(real, name) - {"le"} <= labels, name


def test_the_dashboard_is_one():
    assert DASHBOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "workflow"}
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


def test_rules_say_what_to_do():
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["alert"].startswith("Nexus")
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
        assert re.fullmatch(r"\d+[mh]", rule.get("for", "1m"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_own_tool_agrees():
    subprocess.run(["promtool", "check", "rules", str(OPERATIONS / "alerts.yml")], check=True, timeout=60)
