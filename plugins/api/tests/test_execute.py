"""`POST /api/workflows/{name}/execute`: results, refusals and failures."""

from __future__ import annotations

import json

import pytest

from nexus_core import Workflow


def execute(name):
    return f"/api/workflows/{name}/execute"


async def test_result_and_run_id(client):
    answer = await client.post(execute("add"), json={"a": 2, "b": 40})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["result"] == 42
    assert client.nexus.runs.get(answer.json()["run_id"]).status == "completed"


async def test_sync_workflows_run_too(client):
    assert (await client.post(execute("sync_add"), json={"a": 1, "b": 2})).json()["result"] == 3


async def test_streams_are_collected(client):
    assert (await client.post(execute("count"), json={"n": 3})).json()["result"] == [0, 1, 2]


async def test_nested_models(client):
    given = {"order": {"customer": "ada", "lines": [{"sku": "x", "count": 2}]}}
    assert (await client.post(execute("order"), json=given)).json()["result"] == given["order"]


async def test_unicode_survives(client):
    text = "héllo \u0000 \U0001f600 \u2028"
    assert (await client.post(execute("echo"), json={"value": text})).json()["result"] == text


async def test_an_empty_body_is_no_parameters(client):
    assert (await client.post(execute("echo"))).json()["result"] is None


async def test_wrong_fields_are_all_named(client):
    answer = await client.post(execute("add"), json={"aa": 1, "b": "x"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["code"] == "validation_error"
    assert problem["status"] == 422
    errors = {error["pointer"]: error for error in problem["errors"]}
    assert errors["/aa"]["nearest"] == "a"
    assert errors["/b"]["expected"] == "integer"
    assert "/a" in errors


async def test_a_wrong_field_deep_inside_is_pointed_to(client):
    answer = await client.post(execute("order"), json={"order": {"customer": "a", "lines": [{"sku": "x"}, {"sku": 1}]}})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/order/lines/1/sku"]


BAD_BODIES = {
    "cut short": b'{"a": 1',
    "not json": b"a=1&b=2",
    "trailing comma": b'{"a": 1,}',
    "two values": b'{"a": 1} {"a": 2}',
    "NaN": b'{"a": NaN, "b": 1}',
    "Infinity": b'{"a": 1, "b": -Infinity}',
    "out of range": b'{"a": 1e999, "b": 1}',
    "duplicate keys": b'{"a": 1, "a": 2}',
    "duplicate keys, escaped": b'{"a": 1, "\\u0061": 2}',
    "duplicate keys, nested": b'{"value": [{"x": 1, "x": 1}]}',
    "lone surrogate": b'{"value": "\\ud800"}',
    "lone surrogate in a key": b'{"\\udc00": 1}',
    "not UTF-8": b'{"value": "\xff\xfe"}',
    "encoded surrogate": b'{"value": "\xed\xa0\x80"}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "array": b"[1, 2]",
    "null": b"null",
    "string": b'"add"',
    "deep arrays": b'{"value": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"value":' * 100_000 + b"1" + b"}" * 100_000,
    "unclosed and deep": b"[" * 100_000,
    "900 levels": b'{"value": ' + b"[" * 900 + b"]" * 900 + b"}",
    "control character": b'{"value": "a\nb"}',
}


@pytest.mark.parametrize("kind", BAD_BODIES)
async def test_bodies_that_are_refused(client, kind):
    answer = await client.post(execute("echo"), content=BAD_BODIES[kind], headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "malformed_request"
    assert len(answer.content) < 1000


@pytest.mark.parametrize("digits", [5000, 100_000])
async def test_integers_of_many_digits(client, digits):
    body = b'{"a": %s, "b": 1}' % (b"9" * digits)
    answer = await client.post(execute("add"), content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert len(answer.content) < 1000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
async def test_wrong_content_types_are_refused(client, kind):
    answer = await client.post(execute("add"), content=b'{"a": 1}', headers={"content-type": kind})
    assert answer.status_code == 400
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"])
async def test_content_types_that_are_json(client, kind):
    answer = await client.post(execute("add"), content=b'{"a": 1}', headers={"content-type": kind})
    assert answer.status_code == 200


async def test_a_workflow_that_raises_says_nothing(client, caplog):
    answer = await client.post(execute("boom"))
    assert answer.status_code == 500
    assert answer.json()["code"] == "workflow_failed"
    assert client.nexus.runs.get(answer.json()["run_id"]).status == "failed"
    assert "secret" not in answer.text
    assert "ValueError" not in answer.text
    assert "secret-token-4711" in caplog.text
    assert answer.json()["run_id"] in caplog.text


async def test_a_workflow_error_is_shown(client):
    answer = await client.post(execute("refuses"))
    assert (answer.status_code, answer.json()["detail"]) == (500, "The warehouse is closed.")
    assert answer.json()["code"] == "workflow_error"


@pytest.mark.parametrize("name", ["exits", "async_exits"])
async def test_a_workflow_that_exits_ends_only_its_run(client, name):
    assert (await client.post(execute(name))).status_code == 500
    assert (await client.post(execute("add"), json={"a": 1})).status_code == 200


async def test_a_workflow_that_hangs_times_out(client, seen):
    answer = await client.post(execute("hangs"))
    assert answer.status_code == 504
    assert 0.15 < answer.elapsed.total_seconds() < 2
    assert answer.json()["code"] == "workflow_timeout"
    assert seen.cancelled.is_set()


@pytest.mark.parametrize(("name", "says"), [("not_json", "JSON"), ("not_finite", "/a/1"), ("hardly_json", "Model")])
async def test_results_that_are_not_json(client, name, says):
    answer = await client.post(execute(name))
    assert answer.status_code == 500
    assert answer.json()["code"] == "workflow_failed"
    assert "secret" not in answer.text
    assert says in answer.json()["detail"]


async def test_results_that_are_too_large(make_nexus, serve, client):
    small = await serve(make_nexus(max_result_bytes=1000))
    answer = await client.post(small + execute("blob"), json={"size": 5000})
    assert answer.status_code == 500
    assert "max_result_bytes" in answer.json()["detail"]
    streamed = await client.post(small + execute("count"), json={"n": 1000})
    assert streamed.status_code == 500
    assert "max_result_bytes" in streamed.json()["detail"]


async def test_large_results_arrive_whole(client):
    answer = await client.post(execute("blob"), json={"size": 8_000_000})
    assert len(answer.json()["result"]) == 8_000_000


ODD_NAMES = {
    "slash": "a%2Fb",
    "dots": "..",
    "encoded dots": "%2e%2e",
    "traversal": "..%2f..%2fetc%2fpasswd",
    "line break": "a%0d%0ax-evil:%201",
    "null": "add%00",
    "unicode": "%F0%9F%98%80",
    "not UTF-8": "%ff%fe",
    "escape": "%1b%5b31m",
    "long": "a" * 10_000,
    "empty": "",
    "double encoded": "%2561dd",
    "case": "ADD",
}


@pytest.mark.parametrize("kind", ODD_NAMES)
@pytest.mark.parametrize("template", ["/api/workflows/{}/execute", "/api/workflows/{}"])
async def test_odd_names_are_not_found(client, raw, kind, template):
    path = template.format(ODD_NAMES[kind])
    method = "POST" if path.endswith("execute") else "GET"
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    head, _, body = (await raw(client.base_url).ask(request.encode())).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404 "), head
    assert b"x-evil" not in head
    assert json.loads(body)["status"] == 404
    assert len(body) < 1000


async def test_unknown_workflows(client):
    answer = await client.post(execute("nothing"))
    assert answer.status_code == 404
    assert answer.json()["code"] == "workflow_not_found"


@pytest.mark.parametrize("path", ["/x", "/api", "/api/", "/api/workflows/", "/apix", "//api/workflows", "/API"])
async def test_unknown_paths(client, raw, path):
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    answer = await raw(client.base_url).ask(request)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in answer


async def test_wrong_methods(client):
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = await client.request(method, execute("add"))
        assert answer.status_code == 405
        assert "POST" in answer.headers["allow"]
        assert answer.json()["code"] == "method_not_allowed"
    assert (await client.post("/api/workflows")).status_code == 405


async def test_head_answers_without_a_body(client):
    for path in ("/api/workflows", "/openapi.json", "/docs", "/api/runs"):
        answer = await client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await client.head("/nothing")).status_code == 404


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Nexus-Session", "s" * 256), ("Idempotency-Key", "k" * 256), ("X-Nexus-Session", "nobody")],
)
async def test_headers_that_name_nothing_usable(client, header, value):
    answer = await client.post(execute("add"), json={"a": 1}, headers={header: value})
    assert answer.status_code in (400, 404)
    assert value not in answer.text


class Indescribable(Workflow):
    async def run(self, params, context):
        return None

    def describe(self):
        raise ValueError("secret-token-4711")


async def test_what_nobody_has_foreseen_is_a_problem_as_well_and_logged_once(client, caplog):
    client.nexus.register("odd", Indescribable("odd", input_schema={"type": "object"}))
    answer = await client.get("/api/workflows/odd")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "raised on /api/workflows/odd" in record.getMessage()
