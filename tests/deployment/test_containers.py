"""What the image would run, with what the manifests say, as processes here. Redis and PostgreSQL are real ones."""

from __future__ import annotations

import json
import shutil
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from deployment_manifests import (
    ROOT,
    Container,
    compose,
    container,
    health_command,
    kubernetes_object,
    pod,
    pod_environment,
    rendered,
    seconds,
)
from token_issuer import secret_token

pytestmark = pytest.mark.timeout(180)

SECRET = "a secret of these tests, and long enough"
METRICS_TOKEN = "what-prometheus-sends"
UNCHECKED = ssl.create_default_context()
UNCHECKED.check_hostname = False
UNCHECKED.verify_mode = ssl.CERT_NONE


class Client:
    """Asks a container over HTTP.

    Args:
        running: The container.
        scheme: ``http`` or ``https``.
    """

    def __init__(self, running: Container, scheme: str) -> None:
        self._running = running
        self._scheme = scheme

    def url(self, port: str) -> str:
        return f"{self._scheme}://127.0.0.1:{self._running.ports[port]}"

    def ask(self, port: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Return status and body."""
        data = None if body is None else json.dumps(body).encode()
        sent = {"content-type": "application/json", **{name.replace("_", "-"): each for name, each in headers.items()}}
        request = urllib.request.Request(self.url(port) + path, data, sent)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=UNCHECKED)
        )
        try:
            with opener.open(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            status, text = exc.code, exc.read().decode()
        except OSError:
            return 0, None
        return status, json.loads(text) if text.startswith("{") else text

    def greet(self, **headers: str) -> tuple[int, Any]:
        return self.ask("api", "/api/workflows/greet/execute", {"name": "Ada"}, **headers)

    def probe(self, name: str) -> int:
        """Ask as the kubelet does, which checks no certificate."""
        asked = container()[f"{name}Probe"]["httpGet"]
        assert asked["scheme"].lower() == self._scheme
        return self.ask(asked["port"], asked["path"])[0]


def token() -> dict[str, str]:
    return {"authorization": f"Bearer {secret_token(SECRET)}"}


@pytest.fixture(name="run")
def run_fixture(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """A function that makes a container, which is ended after the test."""
    made: list[Container] = []

    def make(app: Path, environment: dict[str, str]) -> Container:
        made.append(Container(tmp_path, app, environment))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def deployed(folder: Path, redis_url: str, postgres_url: str) -> tuple[Path, dict[str, str]]:
    """Mount what the Deployment mounts below a folder; return the application's folder and the environment."""
    Authority(_made(folder / "tls")).issue()
    for name in ("config", "app"):
        for file, content in kubernetes_object("ConfigMap", f"nexus-{name}")["data"].items():
            (_made(folder / name) / file).write_text(content.replace("/etc/nexus/tls/", f"{folder}/tls/"))
    secrets = {"postgres-url": postgres_url, "jwt-secret": SECRET, "metrics-token": METRICS_TOKEN}
    environment = pod_environment(secrets) | {"REDIS_URL": redis_url}
    environment["NEXUS_CONFIG_FILE"] = str(folder) + environment["NEXUS_CONFIG_FILE"]
    return folder / "app", environment


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_the_deployment_runs(run, tmp_path, redis_server, postgres_server) -> None:
    running = run(*deployed(tmp_path, redis_server.url, postgres_server.url))
    running.start()
    client = Client(running, "https")
    running.until(lambda: client.probe("startup") == 200)
    running.until(lambda: client.probe("readiness") == 200)
    assert client.probe("liveness") == 200
    address = f"{client.url('api')}/health/live"
    assert running.run(*health_command(), HEALTH_URL=address, https_proxy="http://127.0.0.1:1").returncode == 0
    assert running.run(*health_command(), HEALTH_URL=f"{client.url('mcp')}/health/live").returncode == 1

    assert client.greet()[0] == 401
    status, answer = client.greet(**token())
    assert (status, answer["result"]) == (200, {"greeting": "Hello, Ada!", "database": "postgres"})
    assert redis_server.ask("DBSIZE") > 0, "what replicas share is in Redis"
    trusted = {"SSL_CERT_FILE": str(tmp_path / "tls" / "authority.pem"), "NEXUS_TOKEN": secret_token(SECRET)}
    address = client.url("cli").replace("127.0.0.1", "localhost")
    done = running.run("nexus", "--connect", address, "--json", "execute", "greet", "--name", "Bo", **trusted)
    assert json.loads(done.stdout)["result"]["greeting"] == "Hello, Bo!", done.stderr
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for host, refused in (("nexus-platform:3001", False), ("elsewhere.example:3001", True)):
        assert (client.ask("mcp", "/mcp", ping, host=host, **token())[0] == 421) is refused
    assert client.ask("metrics", "/metrics")[0] == 401
    allowed = {"authorization": f"Bearer {METRICS_TOKEN}"}
    assert "nexus_calls_total" in client.ask("metrics", "/metrics", **allowed)[1]

    pause = int(container()["lifecycle"]["preStop"]["exec"]["command"][1])
    assert running.stop(pod()["terminationGracePeriodSeconds"] - pause) == 0
    assert list(running.written()) == [], "the root file system is read-only"
    for line in running.output().splitlines():
        assert {"level", "message"} <= json.loads(line).keys()


def test_nothing_is_wrong_with_the_deployment(run, tmp_path, redis_server, postgres_server) -> None:
    """`nexus doctor` looks at it with the address that it listens on."""
    running = run(*deployed(tmp_path, redis_server.url, postgres_server.url))
    done = running.run("nexus", "doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0.0.0.0" in done.stdout
    for name in ("redis", "postgres"):
        assert f'"{name}"' in done.stdout


@pytest.mark.parametrize(
    ("without", "said"),
    [("NEXUS_JWT_SECRET", "jwt_secret"), ("NEXUS_METRICS_TOKEN", "metrics_token")],
)
def test_what_is_not_set_is_said_at_once(run, tmp_path, without: str, said: str) -> None:
    app, environment = deployed(tmp_path, "redis://127.0.0.1:1/0", "postgresql://nexus@127.0.0.1:1/nexus")
    done = run(app, environment | {without: ""}).run("nexus", "serve")
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_trial_runs(run, tmp_path, redis_server, postgres_server) -> None:
    secrets = {"postgres-url": postgres_server.url, "jwt-secret": SECRET, "metrics-token": METRICS_TOKEN}
    objects = rendered("trial", _made(tmp_path / "manifests"), secrets)
    for each in objects:
        for file, content in each["data"].items() if each["kind"] == "ConfigMap" else ():
            (_made(tmp_path / ("app" if file == "app.py" else "config")) / file).write_text(content)
    (deployment,) = (
        each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Deployment", "nexus-platform")
    )
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    environment = {
        each["name"]: each["value"] if "value" in each else secrets[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in only["env"]
    }
    places = {"REDIS_URL": redis_server.url, "NEXUS_CONFIG_FILE": str(tmp_path / "config" / "nexus.yaml")}
    running = run(tmp_path / "app", environment | places)
    running.start()
    client = Client(running, "http")
    running.until(lambda: client.ask("api", only["readinessProbe"]["httpGet"]["path"])[0] == 200)
    assert client.greet()[0] == 401
    assert client.greet(**token())[0] == 200
    assert running.stop(deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]) == 0


def test_compose_runs(run, redis_server, postgres_server) -> None:
    variables = {"NEXUS_JWT_SECRET": SECRET, "NEXUS_METRICS_TOKEN": METRICS_TOKEN, "POSTGRES_PASSWORD": "unused"}
    service = compose(variables)["services"]["nexus"]
    real = {"REDIS_URL": redis_server.url, "POSTGRES_URL": postgres_server.url}
    running = run(ROOT / "docs" / "examples" / "deployment", service["environment"] | real)
    running.start()
    client = Client(running, "http")
    running.until(lambda: client.ask("api", "/health/ready")[0] == 200)
    address = running.variables["HEALTH_URL"].replace("8000", str(running.ports["api"]))
    assert running.run(*health_command(), HEALTH_URL=address).returncode == 0
    assert client.greet()[0] == 401

    # A call is under way when the container is to end, because its database takes no connections.
    postgres_server.pause()
    answers: list[tuple[int, Any]] = []
    caller = threading.Thread(target=lambda: answers.append(client.greet(**token())))
    caller.start()
    allowed = {"authorization": f"Bearer {METRICS_TOKEN}"}
    running.until(lambda: "nexus_workflows_running 1" in client.ask("metrics", "/metrics", **allowed)[1])
    running.process.terminate()
    running.until(lambda: client.ask("api", "/health/ready")[0] == 503)
    assert client.ask("api", "/health/live")[0] == 200
    postgres_server.resume()
    caller.join(60)
    assert answers[0][0] == 200, answers
    assert answers[0][1]["result"]["greeting"] == "Hello, Ada!"
    assert running.process.wait(seconds(service["stop_grace_period"])) == 0
    assert running.run(*health_command(), HEALTH_URL=address).returncode == 1, "there is nobody any more"
    assert list(running.written()) == [], "the root file system is read-only"
