"""The overlays for Kubernetes, as ``kubectl kustomize`` makes them."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployment_manifests import OPERATIONS, compose, image_environment, kubernetes_object, rendered
from doc_pages import text

from nexus_core import Nexus

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

SECRETS = {
    "postgres-url": "postgresql://nexus:pw@postgres:5432/nexus", "jwt-secret": "s" * 40, "metrics-token": "t" * 32,
    "postgres-password": "pw",
}  # fmt: skip
OVERLAYS = ("production", "trial")
RELEASES = ("1.27", "1.37")

POD_MONITOR = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "spec": {
            "type": "object",
            "required": ["selector", "podMetricsEndpoints"],
            "additionalProperties": False,
            "properties": {
                "selector": {"type": "object", "required": ["matchLabels"]},
                "podMetricsEndpoints": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string", "pattern": "^/"},
                            "scheme": {"enum": ["http", "https"]},
                            "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"},
                            "authorization": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "type": {"type": "string"},
                                    "credentials": {
                                        "type": "object",
                                        "required": ["key", "name"],
                                        "additionalProperties": False,
                                        "properties": {"key": {"type": "string"}, "name": {"type": "string"}},
                                    },
                                },
                            },
                            "tlsConfig": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {"serverName": {"type": "string"}, "ca": {"type": "object"}},
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The part of the Prometheus Operator's schema (monitoring.coreos.com/v1) that the manifest uses."""


@pytest.fixture(name="objects", params=OVERLAYS)
def objects_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, Any]]:
    return rendered(request.param, tmp_path, SECRETS)


@pytest.fixture(name="production")
def production_fixture(tmp_path: Path) -> list[dict[str, Any]]:
    return rendered("production", tmp_path, SECRETS)


def one(objects: list[dict[str, Any]], kind: str, name: str = "nexus-platform") -> dict[str, Any]:
    (found,) = (each for each in objects if each["kind"] == kind and each["metadata"]["name"].startswith(name))
    return found


def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return one(objects, "Deployment")["spec"]["template"]["spec"]


def config(objects: list[dict[str, Any]]) -> dict[str, Any]:
    return yaml.safe_load(one(objects, "ConfigMap", "nexus-config")["data"]["nexus.yaml"])


def test_objects_fit_the_schemas(objects: list[dict[str, Any]]) -> None:
    for each in objects:
        if each["kind"] == "PodMonitor":
            jsonschema.validate(each, POD_MONITOR)
            continue
        for release in RELEASES:
            kubernetes_validate.validate(each, release, strict=True)


def test_every_name_that_is_used_is_there(objects: list[dict[str, Any]]) -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    volumes = pod(objects)["volumes"]
    used = {("ConfigMap", each["configMap"]["name"]) for each in volumes if "configMap" in each}
    for each in objects:
        for container in each["spec"]["template"]["spec"]["containers"] if each["kind"] == "Deployment" else ():
            references = [
                entry["valueFrom"]["secretKeyRef"] for entry in container.get("env", ()) if "valueFrom" in entry
            ]
            used |= {("Secret", reference["name"]) for reference in references}
            assert {reference["key"] for reference in references} <= SECRETS.keys()
    assert used <= there
    assert len(used) >= 3


def test_a_changed_configuration_or_secret_replaces_the_pods(tmp_path: Path) -> None:
    def names(secrets: dict[str, str]) -> tuple[str, str, str]:
        objects = rendered("production", tmp_path, secrets)
        return (
            one(objects, "ConfigMap", "nexus-config")["metadata"]["name"],
            one(objects, "Secret", "nexus-secrets")["metadata"]["name"],
            yaml.safe_dump(pod(objects)),
        )

    first = names(SECRETS)
    assert names(SECRETS) == first
    rotated = names(SECRETS | {"jwt-secret": "r" * 40})
    assert rotated[0] == first[0]
    assert rotated[1] != first[1]
    assert rotated[2] != first[2]
    file = OPERATIONS / "kubernetes" / "base" / "nexus.yaml"
    objects = _with_config(tmp_path, file.read_text().replace("workflow_timeout: 300", "workflow_timeout: 60"))
    assert one(objects, "ConfigMap", "nexus-config")["metadata"]["name"] != first[0]
    assert yaml.safe_dump(pod(objects)) != first[2]


def _with_config(folder: Path, config_text: str) -> list[dict[str, Any]]:
    rendered("production", folder, SECRETS)
    patched = folder / "patched"
    shutil.copytree(folder / "base", patched / "base")
    shutil.copytree(folder / "overlays", patched / "overlays")
    (patched / "base" / "nexus.yaml").write_text(config_text)
    return _kustomized(patched / "overlays" / "production")


def _kustomized(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True)
    return list(yaml.safe_load_all(done.stdout))


def test_production_pulls_its_image_from_a_registry(production: list[dict[str, Any]]) -> None:
    (container,) = pod(production)["containers"]
    registry, _, image = container["image"].partition("/")
    assert "." in registry
    assert re.fullmatch(r"nexus:\d+\.\d+\.\d+", image), "a tag that is never moved"
    assert container["imagePullPolicy"] == "IfNotPresent"
    assert pod(production)["imagePullSecrets"] == [{"name": "registry"}]
    assert compose({"NEXUS_JWT_SECRET": "", "NEXUS_METRICS_TOKEN": "", "POSTGRES_PASSWORD": ""})["services"]["nexus"][
        "image"
    ].endswith(image)


def test_production_enforces_different_nodes_and_prefers_different_zones(production: list[dict[str, Any]]) -> None:
    def when(spec: dict[str, Any]) -> dict[str, str]:
        return {each["topologyKey"]: each["whenUnsatisfiable"] for each in spec["topologySpreadConstraints"]}

    zone, node = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    assert when(pod(production)) == {zone: "ScheduleAnyway", node: "DoNotSchedule"}
    base = kubernetes_object("Deployment")["spec"]["template"]["spec"]
    assert when(base) == {zone: "ScheduleAnyway", node: "ScheduleAnyway"}
    for each in pod(production)["topologySpreadConstraints"]:
        assert each["matchLabelKeys"] == ["pod-template-hash"], "else a rollout counts the pods that it replaces"


def test_the_autoscaler_alone_decides_in_production(production: list[dict[str, Any]]) -> None:
    assert "replicas" not in one(production, "Deployment")["spec"]
    assert one(production, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3


def test_the_ingress_leads_to_each_channel(production: list[dict[str, Any]]) -> None:
    ingress = one(production, "Ingress")
    ports = {each["name"] for each in one(production, "Service")["spec"]["ports"]}
    rules = {rule["host"]: rule["http"]["paths"][0]["backend"]["service"] for rule in ingress["spec"]["rules"]}
    assert {each["name"] for each in rules.values()} == {"nexus-platform"}
    assert {each["port"]["name"] for each in rules.values()} == ports - {"metrics"}
    (tls,) = ingress["spec"]["tls"]
    assert set(tls["hosts"]) == set(rules)
    assert tls["secretName"] in [
        each["secret"]["secretName"] for each in pod(production)["volumes"] if "secret" in each
    ]
    assert set(rules) <= set(config(production)["allowed_hosts"])
    notes = {name.rpartition("/")[2]: each for name, each in ingress["metadata"]["annotations"].items()}
    assert notes["backend-protocol"] == ("HTTPS" if config(production)["enable_https"] else "HTTP")
    assert notes["proxy-buffering"] == "off"
    assert int(notes["proxy-read-timeout"]) > config(production)["workflow_timeout"]
    assert "| `max_body_bytes` | 4194304 |" in text("docs", "reference", "options.md")
    assert notes["proxy-body-size"] == "4m"


def test_prometheus_is_let_in_with_the_token_and_by_tls(production: list[dict[str, Any]]) -> None:
    monitor = one(production, "PodMonitor")["spec"]
    template = one(production, "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {each["name"] for each in pod(production)["containers"][0]["ports"]}
    secret = one(production, "Secret", "nexus-secrets")
    assert endpoint["authorization"]["credentials"]["name"] == secret["metadata"]["name"]
    assert endpoint["authorization"]["credentials"]["key"] in secret["data"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] in one(production, "Ingress")["spec"]["tls"][0]["hosts"]


def test_the_trial_has_all_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = rendered("trial", tmp_path, SECRETS)
    services = {each["metadata"]["name"]: each["spec"]["selector"] for each in objects if each["kind"] == "Service"}
    assert services.keys() == {"nexus-platform", "redis-service", "postgres"}
    deployments = {each["metadata"]["name"]: each for each in objects if each["kind"] == "Deployment"}
    for name, selector in services.items():
        labels = deployments[name.removesuffix("-service")]["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= labels.items()
    assert deployments["nexus-platform"]["spec"]["replicas"] == 1
    assert "HorizontalPodAutoscaler" not in {each["kind"] for each in objects}
    (container,) = pod(objects)["containers"]
    assert not [each for each in pod(objects)["volumes"] if "secret" in each]
    assert {container[f"{name}Probe"]["httpGet"]["scheme"] for name in ("startup", "liveness", "readiness")} == {"HTTP"}
    file = tmp_path / "nexus.yaml"
    file.write_text(one(objects, "ConfigMap", "nexus-config")["data"]["nexus.yaml"])
    for each in container["env"]:
        value = each["value"] if "value" in each else SECRETS[each["valueFrom"]["secretKeyRef"]["key"]]
        monkeypatch.setenv(each["name"], str(file) if each["name"] == "NEXUS_CONFIG_FILE" else value)
    monkeypatch.setenv("NEXUS_HOST", image_environment()["NEXUS_HOST"])
    sources = Nexus().option_sources()
    assert sources["enable_https"] == "environment variable NEXUS_ENABLE_HTTPS"


def test_the_commands_of_the_page_make_the_secrets_of_the_trial(tmp_path: Path) -> None:
    page = text("docs", "how-to", "deployment.md")
    (block,) = re.findall(r"^    password=.*?^    END$", page, re.DOTALL | re.MULTILINE)
    folder = tmp_path / "docs" / "operations" / "kubernetes"
    shutil.copytree(OPERATIONS / "kubernetes", folder)
    script = "\n".join(line.removeprefix("    ") for line in block.splitlines())
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, timeout=60, check=True)
    secret = one(_kustomized(folder / "overlays" / "trial"), "Secret", "nexus-secrets")["data"]
    values = {name: base64.b64decode(value).decode() for name, value in secret.items()}
    assert values.keys() == SECRETS.keys()
    assert f":{values['postgres-password']}@" in values["postgres-url"]
    assert min(map(len, values.values())) >= 32


def test_nothing_secret_is_in_the_files() -> None:
    folder = OPERATIONS / "kubernetes"
    assert not list(folder.rglob("secrets.env")), "it is in .gitignore"
    kinds = [each.get("kind") for file in folder.rglob("*.yaml") for each in yaml.safe_load_all(file.read_text())]
    assert "Secret" not in kinds


def test_the_page_tells_how_to_make_the_file_of_secrets() -> None:
    page = text("docs", "how-to", "deployment.md")
    for name in SECRETS:
        assert f"{name}=" in page
    for overlay in OVERLAYS:
        assert f"kubernetes/overlays/{overlay}" in page
