"""A process that serves one client on standard input and output."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, MCPError, StdioServerParameters, types
from mcp.client.stdio import stdio_client
from mcp.server.subscriptions import ToolsListChanged

HERE = Path(__file__).parent
COMMAND = ["-m", "nexus_core", "serve", "--stdio", "stdio_app:nexus"]


@asynccontextmanager
async def served(era, errlog, environment=None, **options):
    parameters = StdioServerParameters(command=sys.executable, args=COMMAND, cwd=HERE, env=environment)
    async with Client(stdio_client(parameters, errlog=errlog), mode=era, **options) as client:
        yield client


async def test_whole_conversation(era, tmp_path, kit):
    """One process for all of it: its start is what takes time."""
    reports = []

    async def report(*values):
        reports.append(values)

    with (tmp_path / "stderr").open("w") as errlog:
        async with served(era, errlog) as client:
            assert client.protocol_version == {"legacy": "2025-11-25", "auto": "2026-07-28"}[era]
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert {"boom", "noisy", "steps"} <= set(names)
            assert names == [*sorted(names[:-2]), "nexus_runs", "nexus_sessions"]
            result = await client.call_tool("noisy", {"a": 1})
            assert result.structured_content["result"] == 2
            assert result.content[0].text == "2"
            result = await client.call_tool("noisy", {"a": "x"})
            assert result.meta["nexus/error"]["code"] == "validation_error"
            result = await client.call_tool("boom")
            assert result.is_error
            assert "secret" not in result.model_dump_json()
            await client.call_tool("steps", progress_callback=report)
            assert reports == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
            with pytest.raises(MCPError, match="no workflow"):
                await client.call_tool("nothing")
            described = await client.read_resource("nexus://workflows/noisy")
            assert json.loads(described.contents[0].text)["name"] == "noisy"
            await cancels(client, tmp_path / "marker", kit)
            many = await asyncio.gather(*(client.call_tool("steps") for _ in range(20)))
            assert [each.structured_content["result"] for each in many] == ["done"] * 20
    noise = (tmp_path / "stderr").read_text()
    for source in ("the module", "a workflow", "a child"):
        assert f"noise from {source}" in noise
    assert "more noise" in noise


async def cancels(client, marker, kit):
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel():
                await kit.until(lambda: marker.exists() and marker.read_text() == "started")
                scope.cancel()

            group.start_soon(cancel)
            await client.call_tool("sleep", {"marker": str(marker)})
    await kit.until(lambda: marker.read_text() == "cancelled")


async def test_the_environment_says_who_calls(tmp_path):
    environment = {"NEXUS_TOKEN": "abc", "NEXUS_SESSION": "s1"}
    with (tmp_path / "stderr").open("w") as errlog:
        async with served("auto", errlog, environment) as client:
            result = await client.call_tool("whoami")
    assert result.structured_content["result"] == {"credentials": {"authorization": "Bearer abc"}, "session": "s1"}


async def test_changed_lists_are_announced(era, tmp_path, kit):
    heard = []

    async def hear(message):
        heard.append(type(message))

    with (tmp_path / "stderr").open("w") as errlog:
        async with served(era, errlog, message_handler=hear) as client:
            if era == "legacy":
                await client.call_tool("grow")
                await kit.until(lambda: types.ToolListChangedNotification in heard)
            else:
                async with client.listen(tools_list_changed=True) as changes:
                    await client.call_tool("grow")
                    with anyio.fail_after(5):
                        async for change in changes:
                            assert isinstance(change, ToolsListChanged)
                            break
            assert "late" in [tool.name for tool in (await client.list_tools()).tools]


def converse(lines):
    """Send lines, close the input after the last answer is due, and return what was answered."""
    with subprocess.Popen(
        [sys.executable, *COMMAND], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        answers = []
        for line, answered in lines:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            if answered:
                answers.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(10) == 0
    return answers


async def test_bad_lines_are_answered_and_the_conversation_goes_on(kit):
    bad = {
        b"{": -32700,
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":NaN}}': -32700,
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}': -32700,
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"\\ud800"}}': -32700,
        b"\xff": -32700,
        b"[" * 100_000: -32700,
        b"[]": -32600,
        b'{"jsonrpc":"2.0"}': -32600,
        b'{"jsonrpc":"2.0","id":1,"method":"%b"}' % (b"x" * 5_000_000): -32602,
    }
    lines = [(json.dumps(kit.initialize()).encode(), True), (b"   ", False)]
    lines += [(line, True) for line in bad]
    lines += [(b'{"jsonrpc":"2.0","id":9,"method":"ping"}', True)]
    answers = await asyncio.to_thread(converse, lines)
    assert answers[0]["result"]["serverInfo"]["name"] == "nexus"
    assert [answer["error"]["code"] for answer in answers[1:-1]] == list(bad.values())
    assert {answer["id"] for answer in answers[1:-1]} == {None}
    assert not any("The body" in answer["error"]["message"] for answer in answers[1:-1])
    assert answers[-1] == {"jsonrpc": "2.0", "id": 9, "result": {}}


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("stdio_missing", "No module named 'stdio_missing'"),
        ("stdio_app:other", "stdio_app:other is a str, not a Nexus."),
        ("stdio_bare:nexus", '--stdio needs the plugin "mcp"'),
    ],
)
async def test_a_wrong_target_is_one_line_on_stderr(target, complaint):
    command = [sys.executable, "-m", "nexus_core", "serve", "--stdio", target]
    done = await asyncio.to_thread(subprocess.run, command, cwd=HERE, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert done.stdout == ""
    assert complaint in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


async def test_the_readmes_example_runs(tmp_path):
    readme = (HERE.parent / "README.md").read_text()
    (tmp_path / "shop.py").write_text(readme.partition("```python\n")[2].partition("```")[0])
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "nexus_core", "serve", "--stdio", "shop:nexus"], cwd=tmp_path
    )
    with (tmp_path / "stderr").open("w") as errlog:
        async with Client(stdio_client(parameters, errlog=errlog)) as client:
            result = await client.call_tool("order", {"item": "pen", "count": 2})
    assert result.structured_content["result"] == {"count": 2}


def test_the_readme_names_each_option():
    from nexus_mcp.settings import McpSettings

    readme = (HERE.parent / "README.md").read_text()
    assert [name for name in McpSettings.model_fields if f"| `{name}` |" not in readme] == []
