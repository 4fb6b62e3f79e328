"""The OpenAPI document, against its rules and against the server; the documentation page."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

import httpx2
import jsonschema
import pytest
from pydantic import BaseModel, Field

from nexus_core import Workflow, hookimpl


class Node(BaseModel):
    name: str
    children: list[Node] = []


@dataclass
class Branch:
    width: int
    branches: list[Branch] = field(default_factory=list)


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]
    friends: list[Animal] = []


Animal = Annotated[Cat | Dog, Field(discriminator="kind")]


class Chain(Workflow):
    """As an adapter might make one: its schemas refer to their own root."""

    def __init__(self):
        link = {"type": "object", "properties": {"next": {"$ref": "#"}}, "additionalProperties": False}
        super().__init__("chain", input_schema=link, output_schema=link)

    async def run(self, params, context):
        return params


class ChainAdapter:
    name = "chain"

    def adapts(self, target):
        return target == "chain"

    def adapt(self, name, target, metadata):
        return Chain()


class ChainPlugin:
    @hookimpl
    def nexus_register_workflow_adapters(self):
        return [ChainAdapter()]


def references(part):
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        if isinstance(part.get("discriminator"), dict):
            yield from part["discriminator"]["mapping"].values()
        for item in part.values():
            yield from references(item)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


def found(document, reference):
    assert reference.startswith("#/")
    for key in reference[2:].split("/"):
        document = document[key.replace("~1", "/").replace("~0", "~")]
    return document


@pytest.fixture
async def client(make_nexus, serve):
    """A client of a platform that has recursive workflows too."""
    nexus = make_nexus(ChainPlugin())

    @nexus.workflow
    async def node(node: Node) -> Node:
        return node

    @nexus.workflow
    async def branch(branch: Branch) -> Branch:
        return branch

    @nexus.workflow
    async def animal(animal: Animal) -> Animal:
        return animal

    nexus.register("chain", "chain")
    async with httpx2.AsyncClient(base_url=await serve(nexus), timeout=20) as client:
        client.nexus = nexus
        yield client


@pytest.fixture
async def document(client):
    return (await client.get("/openapi.json")).json()


def schema_in(document, name, status=None):
    """The schema of a workflow's parameters, or of an answer, that can be used by itself."""
    operation = document["paths"][f"/api/workflows/{name}/execute"]["post"]
    described = operation["responses"][status] if status else operation["requestBody"]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
    kind = "application/json" if status in (None, "200", "202") else "application/problem+json"
    return {"components": document["components"], **described["content"][kind]["schema"]}


def test_every_reference_leads_somewhere(document):
    every = set(references(document))
    assert any("Line" in reference for reference in every)
    for reference in every:
        found(document, reference)
    assert "$defs" not in json.dumps(document)


def test_one_typed_path_for_each_workflow(document, client):
    for name in client.nexus.list_workflows():
        operation = document["paths"][f"/api/workflows/{name}/execute"]["post"]
        assert operation["operationId"] == f"execute_{name}"
    body = found(document, schema_in(document, "add")["$ref"])
    assert body["properties"]["a"]["type"] == "integer"
    assert body["required"] == ["a"]


def test_component_names_and_operations_are_allowed_ones(document):
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in document["components"]["schemas"])
    operations = [op for path in document["paths"].values() for op in path.values() if isinstance(op, dict)]
    named = [op["operationId"] for op in operations if "operationId" in op]
    assert len(named) == len(set(named))
    for operation in operations:
        assert operation["responses"]
        assert all(parameter["in"] == "path" or not parameter.get("required") for parameter in operation["parameters"])


def test_every_schema_is_one(document):
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_document_fits_the_specification(document):
    validator = pytest.importorskip("openapi_spec_validator", reason="openapi-spec-validator is not installed")
    validator.validate(document)


async def test_it_follows_registrations(client):
    @client.nexus.workflow
    async def late(x: int) -> int:
        return x

    assert "/api/workflows/late/execute" in (await client.get("/openapi.json")).json()["paths"]
    client.nexus.unregister("late")
    assert "/api/workflows/late/execute" not in (await client.get("/openapi.json")).json()["paths"]


async def test_answers_fit_the_document(client, document):
    calls = [
        ("add", {"a": 1}, 200), ("add", {"b": "x"}, 422), ("order", {"order": {"customer": "c"}}, 200),
        ("boom", {}, 500), ("hangs", {}, 504), ("blob", {"size": 10}, 200),
    ]  # fmt: skip
    for name, params, status in calls:
        answer = await client.post(f"/api/workflows/{name}/execute", json=params)
        assert answer.status_code == status
        jsonschema.Draft202012Validator(schema_in(document, name, str(status))).validate(answer.json())


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("node", {"node": {"name": "a", "children": [{"name": "b"}]}}, {"node": {"name": "a", "children": [{}]}}),
        ("branch", {"branch": {"width": 1, "branches": [{"width": 1}]}}, {"branch": {"width": 1, "branches": [1]}}),
        (
            "animal",
            {"animal": {"kind": "dog", "friends": [{"kind": "cat"}]}},
            {"animal": {"kind": "dog", "friends": [{"kind": "cow"}]}},
        ),
        ("chain", {"next": {"next": {}}}, {"next": {"nxt": {}}}),
    ],
)
async def test_recursive_schemas_say_what_holds(client, document, name, right, wrong):
    for params, status in ((right, 200), (wrong, 422)):
        answer = await client.post(f"/api/workflows/{name}/execute", json=params)
        assert answer.status_code == status
        assert jsonschema.Draft202012Validator(schema_in(document, name)).is_valid(params) == (status == 200)
        if status == 200:
            reply = jsonschema.Draft202012Validator(schema_in(document, name, "200"))
            assert reply.is_valid(answer.json())
            assert not reply.is_valid({"result": wrong.get(name, wrong), "run_id": "1"})


async def test_the_page_needs_nothing_from_elsewhere(client):
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe-eval" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    assets = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(assets) >= 4
    for asset in assets:
        assert not re.match(r"(https?:)?//", asset)
        answer = await client.get("/" + asset)
        assert answer.status_code == 200
        assert answer.content
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "<script>" not in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../plugin.py",
        "/docs/%2e%2e/plugin.py",
        "/docs/..%2fplugin.py",
        "/docs/index.html%00",
        "/docs//etc/passwd",
    ],
)
async def test_no_other_file_is_served(client, raw, path):
    answer = await raw(client.base_url).ask(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 404 ")


async def test_ranges_of_files_are_bounded(client):
    ranges = ",".join(f"{n}-{n}" for n in range(5000))
    answer = await client.get("/docs/swagger-ui.css", headers={"range": f"bytes={ranges}"[:8000]})
    assert answer.status_code in (200, 206, 400, 416)
    assert len(answer.content) < 2_000_000


async def test_a_workflow_without_a_description_is_described_all_the_same(client):
    client.nexus.register("reports.monthly", lambda year: year)
    listed = {each["name"]: each for each in (await client.get("/api/workflows")).json()["workflows"]}
    assert listed["reports.monthly"]["tool_name"] == "reports_monthly_xebe30a3c20"
    assert "tool_name" not in listed["add"]
    operation = (await client.get("/openapi.json")).json()["paths"]["/api/workflows/reports.monthly/execute"]["post"]
    assert operation["summary"] == "Run reports.monthly."
    assert operation["description"].endswith("Its parameters: year.")


async def test_the_document_needs_no_dialect_and_names_the_platforms_operations_apart(document):
    assert "jsonSchemaDialect" not in document
    operations = {path: operation for path, each in document["paths"].items() for operation in each.values()}
    assert {tag for path, each in operations.items() if "/execute" not in path for tag in each["tags"]} == {
        "Catalog", "Runs", "Questions", "Sessions", "Events"
    }  # fmt: skip
    assert [tag["name"] for tag in document["tags"]][-5:] == ["Catalog", "Runs", "Questions", "Sessions", "Events"]


async def test_refusals_are_in_the_document_where_they_happen(document):
    everywhere = {"400", "401", "403", "421", "429", "503"}
    for path, each in document["paths"].items():
        for operation in each.values():
            assert everywhere <= operation["responses"].keys(), path
    execute = document["paths"]["/api/workflows/add/execute"]["post"]["responses"]
    assert {"404", "408", "409", "413", "415", "422", "500", "504"} <= execute.keys()
    change = document["paths"]["/api/sessions/{session_id}"]["patch"]["responses"]
    assert {"404", "408", "409", "413", "415", "422"} <= change.keys()


@pytest.mark.parametrize("wait", ["0", "-0", "0.0", "1e-3", "1E-3", "0.0000000001", "%30", "1e0"])
async def test_every_number_of_seconds_that_the_document_allows_is_taken(client, wait):
    answer = await client.post(f"/api/workflows/add/execute?wait={wait}", json={"a": 1})
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize("wait", ["-1", "3601", "1e9", "nan", "inf", "", "1_0", "0x1", "+1", "1e", "\uff11"])
async def test_other_waits_are_refused(client, wait):
    assert (await client.post("/api/workflows/add/execute", params={"wait": wait}, json={"a": 1})).status_code == 400


async def test_a_run_is_followed_from_a_number(client, document):
    parameters = document["paths"]["/api/runs/{run_id}/events"]["get"]["parameters"]
    (header,) = (each for each in parameters if each["name"] == "Last-Event-ID")
    assert header["schema"]["type"] == "integer"
    run = (await client.post("/api/workflows/add/execute", json={"a": 1})).json()["run_id"]
    for last, status in (("0", 200), ("999999999999999999", 200), ("1.5", 400), ("x", 400), ("-1", 400)):
        answer = await client.get(f"/api/runs/{run}/events", headers={"last-event-id": last})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/api/sessions/x", "DELETE, GET, HEAD, PATCH"), ("/api/sessions", "POST"), ("/api/runs/x/cancel", "POST")],
)
async def test_all_methods_of_an_address_are_named(client, path, allowed):
    answer = await client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert allowed in answer.json()["detail"]


async def test_the_root_leads_to_the_documentation(client):
    answer = await client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert (await client.get("/", follow_redirects=True)).status_code == 200


async def test_what_is_said_of_a_workflow_is_written_once(make_nexus, monkeypatch):
    from nexus_api import openapi

    nexus, written = make_nexus(), []
    part = openapi._part
    monkeypatch.setattr(openapi, "_part", lambda workflow: written.append(workflow.name) or part(workflow))
    document = openapi.OpenAPI(nexus)
    every = [nexus.workflows.get(name) for name in nexus.list_workflows()]
    for server in ("/", "/a", "/b", "/"):
        for workflows in (every, every[:3]):
            text = json.loads(await document.text(workflows, server))
            assert len([path for path in text["paths"] if path.endswith("/execute")]) == len(workflows)
    assert sorted(written) == sorted(workflow.name for workflow in every)
