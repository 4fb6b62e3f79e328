"""One caller on every channel, without ports: what works, what is refused, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nexus_testing import McpError, NexusIntegrationTest, NexusTestClient
from nexus_testing.websocket import WebSocketClosed

from nexus_core import ConfigurationError, Context, Nexus, Stage, WorkflowError, hookimpl
from nexus_core.testing import eventually as eventually_true

SECRET = "a secret of the tests, which is long enough"


@pytest.fixture(autouse=True)
def _no_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    def listen(*_: Any) -> None:
        raise AssertionError("a port is opened")

    monkeypatch.setattr(socket.socket, "listen", listen)


@pytest.fixture
def nexus() -> Nexus:
    nexus = Nexus(api_port=8080, mcp_port=3080)

    @nexus.workflow
    def greet(name: str, context: Context) -> dict[str, Any]:
        state = None if context.session is None else dict(context.session.state)
        return {"greeting": f"Hello, {name}!", "channel": context.channel, "state": state}

    @nexus.workflow
    async def fail() -> None:
        raise WorkflowError("no paint left")

    return nexus


@pytest.fixture
def client(nexus: Nexus) -> Any:
    with NexusTestClient(nexus) as client:
        yield client


def test_every_channel(client: NexusTestClient) -> None:
    found = client.post("/api/workflows/greet/execute", {"name": "Ada"})
    assert (found.status_code, found.json()["result"]["channel"]) == (200, "api")
    done = client.cli("execute greet --name Ada")
    assert (done.exit_code, done.stderr, done.json()["result"]["channel"]) == (0, "", "cli")
    called = client.mcp_call("greet", {"name": "Ada"})
    assert called["success"] is True
    assert called["result"] == {"greeting": "Hello, Ada!", "channel": "mcp", "state": None}
    assert len(called["run_id"]) == 32


def test_errors_are_those_of_the_channels(client: NexusTestClient) -> None:
    assert client.post("/api/workflows/greet/execute", {"name": 3}).json()["errors"][0]["pointer"] == "/name"
    done = client.cli("execute greet --data '{}'")
    assert (done.exit_code, done.output) == (2, "")
    assert "name" in done.stderr
    assert client.cli("execute fail").exit_code == 1
    assert client.cli("--json execute fail").stderr.startswith('{"type"')
    assert client.cli("exeggute fail").exit_code == 2
    failed = client.mcp_call("fail")
    assert (failed["success"], failed["error"]["detail"], failed["text"].partition(" (")[0]) == (
        False, "no paint left", "no paint left",
    )  # fmt: skip
    assert client.mcp_call("nobody")["error"]["code"] == "workflow_not_found"
    with pytest.raises(McpError) as caught:
        client.mcp_request("no/such")
    assert caught.value.code == -32601
    assert client.get("/nowhere").status_code == 404


@pytest.mark.parametrize("command", ["serve", "shell", "--json serve", "--token t shell", "--app x.py:nexus serve"])
def test_what_needs_a_process_of_its_own_is_refused(client: NexusTestClient, command: str) -> None:
    done = client.cli(command)
    assert done.exit_code == 2
    assert command.split()[-1] in done.stderr


@pytest.mark.parametrize("option", ["--app=x.py:nexus", "--connect=http://127.0.0.1:1"])
def test_another_application_is_refused(client: NexusTestClient, option: str) -> None:
    done = client.cli([option, "list"])
    assert (done.exit_code, done.output) == (2, "")
    assert option.partition("=")[0] in done.stderr


def test_command_lines_in_many_threads_have_what_is_theirs(client: NexusTestClient) -> None:
    before = (sys.stdout, sys.stderr)
    with ThreadPoolExecutor(20) as threads:
        helps = [threads.submit(client.cli, "--help") for _ in range(20)]
        calls = [threads.submit(client.cli, ["execute", "greet", "--name", str(n)]) for n in range(20)]
    assert (sys.stdout, sys.stderr) == before
    assert {each.result().output for each in helps} == {client.cli("--help").output}
    assert "execute" in client.cli("--help").output
    greeted = [each.result().json()["result"]["greeting"] for each in calls]
    assert greeted == [f"Hello, {n}!" for n in range(20)]


def test_what_a_workflow_prints_is_no_output_of_the_command(
    client: NexusTestClient, capfd: pytest.CaptureFixture[str]
) -> None:
    client.nexus.register("prints", lambda: print("printed"))
    assert client.cli("execute prints").json()["result"] is None
    assert "printed" in capfd.readouterr().out


def test_what_hangs_says_so_on_every_channel(client: NexusTestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    client.nexus.register("hangs", lambda: gate.wait(30))
    monkeypatch.setattr("nexus_testing.client.SECONDS", 0.2)
    try:
        with pytest.raises(TimeoutError, match=r"No answer within 0\.2 s"):
            client.cli("execute hangs")
        with pytest.raises(TimeoutError, match=r"No answer within 0\.2 s"):
            client._engine.call(asyncio.sleep(30), 0.2)
    finally:
        gate.set()


def test_headers_that_are_given_take_the_place_of_the_callers_own(nexus: Nexus) -> None:
    seen: list[Any] = []

    class Looks:
        stage = Stage.AUTHENTICATE

        async def __call__(self, invocation: Any, call_next: Any) -> Any:
            seen.append(invocation.credentials.get("authorization"))
            return await call_next(invocation)

        @hookimpl
        def nexus_register_interceptors(self) -> list[Any]:
            return [Looks()]

    nexus = Nexus(plugins=[Looks()])
    nexus.register("one", lambda: 1)
    with NexusTestClient(nexus, token="abc") as client:
        for given in (None, {"authorization": "Bearer xyz"}, {"AUTHORIZATION": "Bearer xyz"}):
            assert client.post("/api/workflows/one/execute", {}, headers=given).status_code == 200
    assert seen == ["Bearer abc", "Bearer xyz", "Bearer xyz"]


def test_meta_of_a_request_is_passed_on(client: NexusTestClient) -> None:
    gate = threading.Event()
    client.nexus.register("waits", lambda: gate.wait(30))
    try:
        reply = client.mcp_request("tools/call", name="waits", arguments={}, _meta={"nexus/wait": 0})
        assert reply["structuredContent"]["status"] == "running"
    finally:
        gate.set()


@pytest.mark.parametrize("name", ["\u00e9", "", "a\tb", " a "])
def test_any_name_of_a_tool_is_asked_for(client: NexusTestClient, name: str) -> None:
    assert client.mcp_call(name)["error"]["code"] == "workflow_not_found"


def test_help_and_lists(client: NexusTestClient) -> None:
    assert "execute" in client.cli("--help").output
    assert [each["name"] for each in client.cli("list").json()["workflows"]] == ["fail", "greet"]
    assert {"fail", "greet"} <= {tool["name"] for tool in client.mcp_tools()}
    assert client.mcp_read("nexus://workflows/greet")["name"] == "greet"
    assert client.get("/openapi.json").json()["openapi"].startswith("3.1")


def test_workflows_that_are_registered_later(client: NexusTestClient) -> None:
    client.nexus.register("late", lambda: "here")
    assert client.post("/api/workflows/late/execute", {}).json()["result"] == "here"
    assert client.cli("execute late").json()["result"] == "here"
    assert client.mcp_call("late")["result"] == "here"


def test_one_session_on_every_channel(client: NexusTestClient) -> None:
    session = client.post("/api/sessions").json()["session_id"]
    inside = client.as_user(session=session)
    assert client.cli(["sessions", "set", session, "theme=dark"]).exit_code == 0
    assert inside.post("/api/workflows/greet/execute", {"name": "A"}).json()["result"]["state"] == {"theme": "dark"}
    assert inside.cli("execute greet --name A").json()["result"]["state"] == {"theme": "dark"}
    assert inside.mcp_call("greet", {"name": "A"})["result"]["state"] == {"theme": "dark"}


def test_one_caller_on_every_channel() -> None:
    from token_issuer import secret_token

    nexus = Nexus(enable_auth=True, jwt_secret=SECRET)
    nexus.register("read", lambda: 1, {"required_permissions": ["data.read"]})
    with NexusTestClient(nexus) as nobody:
        alice, bob = (nobody.as_user(secret_token(SECRET, permissions=each)) for each in (["data.read"], []))
        for caller, status, code, error in (
            (nobody, 401, 77, "authentication_failed"), (bob, 403, 77, "permission_denied"), (alice, 200, 0, None),
        ):  # fmt: skip
            assert caller.post("/api/workflows/read/execute", {}).status_code == status
            assert caller.cli("execute read").exit_code == code
            assert (caller.mcp_call("read").get("error") or {}).get("code") == error
        with pytest.raises(WebSocketClosed, match="authentication_failed"), nobody.websocket():
            pass
        with alice.websocket() as connection:
            connection.send_json({"type": "execute", "id": 1, "workflow": "read", "params": {}})
            assert result_of(connection) == 1


def result_of(connection: Any) -> Any:
    while (message := connection.receive_json())["type"] != "result":
        assert message["type"] != "error", message
    return message["result"]


@pytest.mark.filterwarnings("error")
def test_a_websocket_that_is_open_when_the_client_closes(nexus: Nexus) -> None:
    client = NexusTestClient(nexus)
    with client.websocket() as connection:
        client.close()
        with pytest.raises((RuntimeError, WebSocketClosed)):
            connection.receive_json()
    gc.collect()


def test_nothing_comes_after_the_end_of_a_websocket(client: NexusTestClient) -> None:
    with client.websocket() as connection:
        connection._in.put_nowait({"type": "websocket.disconnect", "code": 1000})
        for _ in range(2):
            with pytest.raises(WebSocketClosed):
                connection.receive_json()


def test_a_websocket_that_is_refused_says_so(client: NexusTestClient) -> None:
    with pytest.raises(WebSocketClosed), client.websocket("/nowhere"):
        pass


@pytest.mark.parametrize(
    ("parameters", "params"),
    [
        ("data: dict", {"data": {"test": "value"}}),
        ("data: dict, n: int = 1", {"data": {"test": "value"}, "n": 1}),
    ],
)
def test_data_may_be_a_parameter_of_that_name(client: NexusTestClient, parameters: str, params: Any) -> None:
    space: dict[str, Any] = {}
    exec(f"def work({parameters}) -> dict:\n    return dict(locals())", space)
    client.nexus.register("work", space["work"])
    for command in ('execute work --data \'{"test": "value"}\'', 'execute work --data \'{"data": {"test": "value"}}\''):
        assert client.cli(command).json()["result"] == params, command


def test_data_stays_all_parameters_where_it_names_one(client: NexusTestClient) -> None:
    client.nexus.register("work", lambda n: n)

    def pick(n: int, data: str = "none") -> list[Any]:
        return [n, data]

    client.nexus.register("pick", pick)
    assert client.cli("execute pick --data '{\"n\": 3}'").json()["result"] == [3, "none"]
    wrong = client.cli('execute greet --data \'{"nam": "Ada"}\'')
    assert wrong.exit_code == 2


async def test_inside_an_event_loop(client: NexusTestClient) -> None:
    assert client.cli("execute greet --name Ada").exit_code == 0
    answers = await asyncio.gather(*(asyncio.to_thread(client.mcp_call, "greet", {"name": str(n)}) for n in range(20)))
    assert [each["result"]["greeting"] for each in answers] == [f"Hello, {n}!" for n in range(20)]


async def test_a_platform_that_is_started_elsewhere_is_refused(nexus: Nexus) -> None:
    async with nexus:
        client = NexusTestClient(nexus)
        with pytest.raises(ConfigurationError, match="another event loop"):
            client.get("/api/workflows")
        client.close()


def test_a_platform_that_can_not_start_says_why() -> None:
    client = NexusTestClient(Nexus(enable_auth=True))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="enable_auth"):
            client.get("/api/workflows")
    client.close()


def test_missing_channels_are_named() -> None:
    from nexus_api.plugin import ApiPlugin

    with NexusTestClient(Nexus(discover=False, plugins=[ApiPlugin])) as client:
        assert client.get("/api/workflows").status_code == 200
        with pytest.raises(ConfigurationError, match="pip install nexus-hub-cli"):
            client.cli("list")
        with pytest.raises(ConfigurationError, match="pip install nexus-hub-mcp"):
            client.mcp_call("x")


class Ends:
    def __init__(self) -> None:
        self.stopped = threading.Event()

    @hookimpl
    async def nexus_shutdown(self) -> None:
        self.stopped.set()


def threads() -> set[str]:
    return {each.name for each in threading.enumerate() if each.name.startswith("nexus-test")}


def test_closing_stops_the_platform_and_its_threads() -> None:
    ends = Ends()
    nexus = Nexus(plugins=[ends])
    nexus.register("one", lambda: 1)
    client = NexusTestClient(nexus)
    assert client.mcp_call("one")["result"] == 1
    client.close()
    client.close()
    for call in (lambda: client.get("/"), lambda: client.cli("list"), lambda: client.mcp_call("one")):
        with pytest.raises(RuntimeError, match="client is closed"):
            call()
    assert ends.stopped.is_set()
    assert not nexus.is_ready


async def test_a_client_that_nobody_has_any_more_stops_the_platform() -> None:
    ends = [Ends() for _ in range(5)]
    for each in ends:
        client = NexusTestClient(Nexus(plugins=[each]))
        assert client.get("/api/workflows").status_code == 200
        del client
    gc.collect()
    await eventually_true(lambda: all(each.stopped.is_set() for each in ends), 30)
    await eventually_true(lambda: not threads(), 30)


def test_a_platform_can_have_one_client_after_the_other(nexus: Nexus) -> None:
    for _ in range(3):
        with NexusTestClient(nexus) as client:
            assert client.mcp_call("greet", {"name": "Ada"})["success"]


class TestSessions(NexusIntegrationTest):
    def create_nexus(self) -> Nexus:
        return Nexus(session_ttl=100)

    def test_a_change_is_seen_on_every_channel(self) -> None:
        session = self.create_api_session()["session_id"]
        self.update_session_state(session, {"user_data": "test"})
        for shown in (self.get_api_session(session), self.get_cli_session(session), self.get_mcp_session(session)):
            assert shown["state"] == {"user_data": "test"}

    def test_what_is_not_there_fails(self) -> None:
        with pytest.raises(AssertionError, match="session_not_found"):
            self.get_api_session("0" * 48)
        with pytest.raises(AssertionError):
            self.get_cli_session("0" * 48)


def test_the_readme_runs(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    space: dict[str, Any] = {"__name__": "readme"}
    exec(text.partition("```python\n")[2].partition("```")[0], space)
    space["test_greet_on_every_channel"]()


def test_the_page_about_testing_passes(tmp_path: Path) -> None:
    import re
    import subprocess
    import sys

    text = (Path(__file__).parents[3] / "docs" / "how-to" / "testing.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    files = [tmp_path / f"test_{number}.py" for number in range(len(blocks))]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(block)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


class OfUnittest(NexusIntegrationTest, unittest.TestCase):
    def test_lists(self) -> None:
        assert self.client.get("/api/workflows").json()["workflows"] == []


def test_a_class_of_unittest() -> None:
    outcome = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(OfUnittest).run(outcome)
    assert (outcome.testsRun, outcome.errors, outcome.failures) == (1, [], [])
