"""Each plugin alone with the core, in an environment that holds nothing else: it works, and what is missing is said."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SERVE = """
import asyncio, json, sys
import shop
from nexus_core import Nexus

async def main():
    nexus = Nexus(**{options})
    nexus.register("add", shop.add)
    async with nexus.serving() as listeners:
        print(json.dumps({{name: each.url for each in listeners for name in each.channels}}), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def serving(environment, **options: object) -> Iterator[dict[str, str]]:
    """Serve the shop in the environment; yield each channel's URL."""
    process = subprocess.Popen(
        [environment.python, "-c", SERVE.format(options=options)], cwd=environment.work, env=environment.variables,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def post(url: str, value: object) -> object:
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_the_core_alone_runs_workflows_in_process(make_environment):
    core = make_environment("core")
    done = core.script(
        "import asyncio, shop\n"
        "async def main():\n"
        "    async with shop.nexus as nexus:\n"
        "        print((await nexus.invoke('add', {'a': 41})).value)\n"
        "asyncio.run(main())\n"
    )
    assert done.stdout == "{'sum': 42}\n"


def test_the_core_alone_says_which_plugin_to_install(make_environment):
    core = make_environment("core")
    assert json.loads(core.run("nexus", "plugins", "list").stdout) == []
    assert "pip install nexus-hub-cli" in core.run("nexus", "execute", "add", code=1).stderr
    assert "pip install nexus-hub-cli" in core.run("nexus", code=1).stderr
    refused = core.script("import shop; shop.nexus.start()", code=1)
    assert refused.stderr.count("\n") == 1
    assert "pip install nexus-hub-hypercorn" in refused.stderr
    unknown = core.script("from nexus_core import Nexus; Nexus(cache_ttl=3)", code=1)
    assert "pip install nexus-hub-cache" in unknown.stderr


def test_the_command_line_alone(make_environment):
    cli = make_environment("core", "cli")
    app = ("nexus", "--app", "shop:nexus")
    assert json.loads(cli.run(*app, "execute", "add", "--a", "2", "--b", "3").stdout)["result"] == {"sum": 5}
    assert json.loads(cli.run(*app, "execute", "add", "--data", '{"a": 2}').stdout)["result"] == {"sum": 3}
    assert [each["name"] for each in json.loads(cli.run(*app, "list").stdout)["workflows"]] == ["add"]
    assert json.loads(cli.run(*app, "describe", "add").stdout)["input_schema"]["required"] == ["a"]
    wrong = cli.run(*app, "execute", "add", "--a", "x", code=2)
    assert wrong.stdout == ""
    assert [each["name"] for each in json.loads(cli.run("nexus", "plugins", "list").stdout)] == ["cli"]


def test_rest_alone(make_environment):
    api = make_environment("core", "api", "hypercorn")
    with serving(api, api_port=0) as urls:
        assert list(urls) == ["api"]
        assert post(f"{urls['api']}/api/workflows/add/execute", {"a": 2})["result"] == {"sum": 3}
        with urllib.request.urlopen(f"{urls['api']}/openapi.json", timeout=10) as answer:
            assert json.load(answer)["openapi"].startswith("3.1")


def test_rest_without_a_server_mounts_and_says_what_serving_needs(make_environment):
    api = make_environment("core", "api")
    done = api.script(
        "import asyncio, shop\n"
        "async def main():\n"
        "    app, sent = shop.nexus.asgi_app(), []\n"
        "    path = '/api/workflows/add/execute'\n"
        "    scope = {'type': 'http', 'method': 'POST', 'path': path, 'raw_path': path.encode(), 'root_path': '',\n"
        "             'query_string': b'', 'http_version': '1.1', 'scheme': 'http', 'asgi': {'version': '3.0'},\n"
        "             'headers': [(b'host', b'127.0.0.1'), (b'content-type', b'application/json')]}\n"
        "    async def receive(): return {'type': 'http.request', 'body': b'{\"a\": 2}', 'more_body': False}\n"
        "    async def send(message): sent.append(message)\n"
        "    await app(scope, receive, send)\n"
        "    print(sent[0]['status'], sent[1]['body'].decode())\n"
        "asyncio.run(main())\n"
    )
    assert re.fullmatch(r'200 \{"result":\{"sum":3\},"run_id":"[0-9a-f]{32}"\}\n', done.stdout)
    refused = api.script("import shop; shop.nexus.start()", code=1)
    assert "pip install nexus-hub-hypercorn" in refused.stderr


async def test_mcp_alone_over_http(make_environment):
    from mcp import Client

    mcp = make_environment("core", "mcp", "hypercorn")
    with serving(mcp, mcp_port=0) as urls:
        assert list(urls) == ["mcp"]
        async with Client(f"{urls['mcp']}/mcp") as client:
            result = await client.call_tool("add", {"a": 2})
    assert result.structured_content["result"] == {"sum": 3}


async def test_mcp_alone_on_stdio(make_environment):
    from mcp import Client, StdioServerParameters

    mcp = make_environment("core", "mcp")
    server = StdioServerParameters(
        command=mcp.python, args=["-m", "nexus_core", "serve", "--stdio", "shop:nexus"], cwd=mcp.work, env=mcp.variables
    )
    async with Client(server) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["add", "nexus_runs", "nexus_sessions"]
        result = await client.call_tool("add", {"a": 2})
    assert result.structured_content["result"] == {"sum": 3}


CHANNEL = '''
from nexus_core import Channel, hookimpl

class Echo(Channel):
    """Answers with the path."""

    name, port, port_option = "echo", 0, "echo_port"

    def asgi_app(self):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": scope["path"].encode()})
        return app

@hookimpl
def nexus_register_channels(nexus):
    return [Echo()]
'''


def test_the_script_serves_without_the_command_lines_plugin(make_environment):
    api = make_environment("core", "api", "hypercorn")
    process = subprocess.Popen(
        [str(Path(api.python).with_name("nexus")), "serve", "shop.py:nexus"], cwd=api.work,
        env=api.variables | {"NEXUS_API_PORT": "0"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        url = next(found[1] for line in process.stderr if (found := re.search(r"Listening on (\S+): api", line)))
        assert post(f"{url}/api/workflows/add/execute", {"a": 2})["result"] == {"sum": 3}
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert "No application is named" in api.run("nexus", "serve", code=1).stderr
    assert "--stdio" in api.run("nexus", "serve", "--help").stdout


def test_the_server_alone_serves_anyones_channel(make_environment):
    hypercorn = make_environment("core", "hypercorn")
    (hypercorn.work / "echo.py").write_text(CHANNEL)
    done = hypercorn.script(
        "import asyncio, urllib.request, echo\n"
        "from nexus_core import Nexus\n"
        "async def main():\n"
        "    async with Nexus(plugins=[echo]).serving() as listeners:\n"
        "        url = listeners[0].url + '/hello'\n"
        "        print(await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read()))\n"
        "asyncio.run(main())\n"
    )
    assert done.stdout == "b'/hello'\n"


def test_kailash_workflows_alone(make_environment):
    kailash = make_environment("core", "kailash")
    done = kailash.script(
        "import asyncio, json\n"
        "from kailash.workflow.builder import WorkflowBuilder\n"
        "from nexus_core import Nexus\n"
        "builder = WorkflowBuilder()\n"
        "builder.add_node('PythonCodeNode', 'first', {'code': \"result = {'y': x + 1}\"})\n"
        "async def main():\n"
        "    async with Nexus() as nexus:\n"
        "        nexus.register('increment', builder)\n"
        "        print(json.dumps((await nexus.invoke('increment', {'first': {'x': 2}})).value))\n"
        "asyncio.run(main())\n"
    )
    assert '{"y": 3}' in done.stdout.splitlines()[-1]


AUTH = """
import asyncio
import shop
from joserfc import jwt
from joserfc.jwk import OctKey
from nexus_core import AuthenticationError, Caller, Invocation, Nexus

SECRET = "a secret of the tests, long enough for HS256"
nexus = Nexus(enable_auth=True, jwt_secret=SECRET)
nexus.register("add", shop.add, {"required_permissions": ["add"]})

async def main():
    claims = {"sub": "ann", "exp": 2**33, "permissions": ["add"]}
    token = jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))
    async with nexus:
        try:
            await nexus.invoke("add", {"a": 1})
        except AuthenticationError as refused:
            print(refused.code)
        allowed = Invocation("add", {"a": 1}, credentials={"authorization": f"Bearer {token}"})
        print((await nexus.invoke(allowed)).value)

asyncio.run(main())
"""
RATE_LIMIT = """
import asyncio
import shop
from nexus_core import Nexus, RateLimited

async def main():
    async with Nexus(enable_rate_limiting=True, rate_limit_per_minute=2) as nexus:
        nexus.register("add", shop.add)
        for number in range(3):
            try:
                print((await nexus.invoke("add", {"a": number})).value)
            except RateLimited as refused:
                print(refused.code)

asyncio.run(main())
"""
BREAKER = """
import asyncio
from nexus_core import Nexus, NexusError

def fail():
    raise OSError

async def main():
    async with Nexus(enable_circuit_breaker=True, circuit_breaker_failure_threshold=1) as nexus:
        nexus.register("fail", fail)
        for _ in range(2):
            try:
                await nexus.invoke("fail")
            except NexusError as refused:
                print(refused.code)

asyncio.run(main())
"""
CACHE = """
import asyncio
import shop
from nexus_core import Nexus

async def main():
    async with Nexus(enable_caching=True) as nexus:
        nexus.register("add", shop.add)
        print([(await nexus.invoke("add", {"a": 1})).cached for _ in range(2)])

asyncio.run(main())
"""
REDIS = """
import asyncio
import shop
from nexus_core import BackendUnavailable, Caller, Invocation, Nexus

async def main():
    async with Nexus(store="redis", redis_url="redis://127.0.0.1:1") as nexus:
        nexus.register("add", shop.add)
        print((await nexus.invoke("add", {"a": 1})).value)
        try:
            await nexus.invoke(Invocation("add", {"a": 1}, idempotency_key="k"))
        except BackendUnavailable as refused:
            print(refused.code)

asyncio.run(main())
"""

SESSIONS = """
import asyncio
from nexus_core import Caller, Invocation, Nexus
from nexus_sessions import SessionManager

class Marks(SessionManager):
    def sync_session_state(self, session_id, state):
        self.get_session(session_id).state.update(state, marked=True)

nexus = Nexus(session_backend="sqlite", sqlite_path="state.db")
nexus.register_session_manager(Marks())

async def main():
    async with nexus:
        session = await (await nexus.view(Caller())).create_session("python")
        await (await nexus.view(Caller())).update_session(session.id, {"a": 1})
    async with nexus:
        print((await (await nexus.view(Caller())).session(session.id)).state)

asyncio.run(main())
"""


METRICS = """
import asyncio
from nexus_core import Nexus
from nexus_metrics import PrometheusExporter

nexus = Nexus(enable_monitoring=True)
nexus.register("add", lambda a: a)

async def main():
    async with nexus:
        await nexus.invoke("add", {"a": 1})
        nexus.metrics_collector.increment_counter("cups", value=2)
        lines = PrometheusExporter(nexus).render().decode().splitlines()
    value = {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in lines}
    print(next(value[name] for name in value if name.startswith("nexus_calls_total")), int(float(value["cups_total"])))

asyncio.run(main())
"""
TRACING = """
import asyncio
from nexus_core import Nexus
from nexus_core.types.trace import parse_traceparent, trace_headers

nexus = Nexus(enable_tracing=True, tracing_endpoint="http://127.0.0.1:1")
nexus.register("headers", trace_headers)

async def main():
    async with nexus:
        print(parse_traceparent((await nexus.invoke("headers")).value["traceparent"]).is_sampled)

asyncio.run(main())
"""
LOGS = """
import asyncio, json
from nexus_core import Nexus

nexus = Nexus(audit_log="audit.jsonl", audit_parameters=True)

@nexus.workflow
async def pay(pin: str) -> None: ...

async def main():
    async with nexus:
        await nexus.invoke("pay", {"pin": "81726"})
    for line in open("audit.jsonl"):
        entry = json.loads(line)
        print(entry["verdict"], entry["parameters"])

asyncio.run(main())
"""

HEALTH = """
import asyncio
from nexus_core import Nexus
from nexus_health import HealthChecker

class Shop(HealthChecker):
    def check_stock(self):
        return {"status": "unhealthy"}

nexus = Nexus()
nexus.register_health_checker(Shop())

async def main():
    async with nexus:
        (checks,) = [each for each in nexus.measurements() if each.name == "nexus_health_check_healthy"]
        async with asyncio.timeout(20):
            while not {"plugins", "stock"} <= {labels[0] for labels, _ in checks.read()}:
                await asyncio.sleep(0.01)
        print([labels[0] for labels, value in checks.read() if not value])

asyncio.run(main())
"""


POOLS = """
import asyncio
from nexus_core import BackendUnavailable, Context, Nexus

nexus = Nexus(postgres_url="postgresql://shop:secret@127.0.0.1:1/shop")

@nexus.workflow
async def work(context: Context) -> str:
    try:
        async with context.service("db_pool").acquire():
            return "connected"
    except BackendUnavailable as exc:
        return exc.code

@nexus.workflow
def look(context: Context) -> int:
    with context.service("http_pool").sync().acquire() as client:
        return client.max_redirects

async def main():
    async with nexus:
        print((await nexus.invoke("work")).value, (await nexus.invoke("look")).value)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("plugin", "program", "printed"),
    [
        ("auth", AUTH, "authentication_failed\n{'sum': 2}\n"),
        ("ratelimit", RATE_LIMIT, "{'sum': 1}\n{'sum': 2}\nrate_limited\n"),
        ("breaker", BREAKER, "workflow_failed\ncircuit_open\n"),
        ("cache", CACHE, "[False, True]\n"),
        ("pools", POOLS, "backend_unavailable 20\n"),
        ("redis", REDIS, "{'sum': 2}\nbackend_unavailable\n"),
        ("sessions", SESSIONS, "{'a': 1, 'marked': True}\n"),
        ("health", HEALTH, "['stock']\n"),
        ("logs", LOGS, "started {'pin': '***'}\ncompleted {'pin': '***'}\n"),
        ("metrics", METRICS, "1.0 2\n"),
        ("tracing", TRACING, "True\n"),
    ],
)
def test_each_part_of_the_gateway_alone(make_environment, plugin, program, printed):
    assert make_environment("core", plugin).script(program).stdout == printed


COPYLEFT = re.compile(r"\b(A|L)?GPL|General Public|EUPL|European Union Public|SSPL|Business Source", re.IGNORECASE)
LICENCES = """
import json
from importlib.metadata import distributions
found = {}
for each in distributions():
    of = each.metadata
    said = [of["License-Expression"] or of["License"] or "", *(of.get_all("Classifier") or [])]
    found[of["Name"]] = [text.splitlines()[0] for text in said if text and (text is said[0] or "License" in text)]
    if not found[of["Name"]]:  # the text itself
        found[of["Name"]] = [path.read_text()[:2000] for path in each.files or () if "LICENSE" in path.name]
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "plugin",
    [
        "cli",
        "api",
        "hypercorn",
        "mcp",
        "kailash",
        "auth",
        "ratelimit",
        "breaker",
        "cache",
        "pools",
        "redis",
        "runs",
        "sessions",
        "health",
        "logs",
        "metrics",
        "tracing",
    ],
)
def test_nothing_that_is_required_is_copyleft(make_environment, plugin):
    """Weak, file-level copyleft (MPL-2.0: the certificate list of certifi) asks nothing of those who only use it."""
    names = ("core", "api", "hypercorn") if plugin == "api" else ("core", plugin)
    found = json.loads(make_environment(*names).script(LICENCES).stdout)
    assert "nexus-hub-core" in found
    assert not [name for name, said in found.items() if not said]
    assert not {name: said for name, said in found.items() if COPYLEFT.search(" ".join(said))}
