"""The manifests hold together, with each other and with what Nexus knows."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from deployment_manifests import (
    OPERATIONS,
    PORTS,
    ROOT,
    compose,
    container,
    image_environment,
    kubernetes,
    kubernetes_object,
    pod,
    pod_environment,
    seconds,
)
from doc_pages import text

from nexus_core import Nexus

SECRETS = {
    "postgres-url": "postgresql://nexus:pw@postgres:5432/nexus", "jwt-secret": "s" * 40, "metrics-token": "t" * 32,
}  # fmt: skip
VARIABLES = {"NEXUS_JWT_SECRET": "s" * 40, "NEXUS_METRICS_TOKEN": "t" * 32, "POSTGRES_PASSWORD": "pw"}
OLDEST, NEWEST = "1.27", "1.37"
"""The releases of Kubernetes whose schemas are checked; the file names the oldest."""

GUIDE = next(
    yaml.safe_load(block)
    for block in re.findall(r"^```yaml\n(.*?)^```", text("tests", "guide", "guide.md"), re.DOTALL | re.MULTILINE)
    if "kind: Deployment" in block
)


def config() -> dict[str, Any]:
    return yaml.safe_load(kubernetes_object("ConfigMap", "nexus-config")["data"]["nexus.yaml"])


def labels(kind: str) -> dict[str, str]:
    return kubernetes_object(kind)["spec"]["selector"]["matchLabels"]


def container_ports() -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in container()["ports"]}


@pytest.fixture(name="environment")
def environment_fixture(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give the environment that the image has."""
    for name in ("NEXUS_CONFIG_FILE", "NEXUS_APP", "REDIS_URL", "POSTGRES_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in image_environment().items():
        if name.startswith("NEXUS_"):
            monkeypatch.setenv(name, value)
    return monkeypatch


# Kubernetes


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize("document", kubernetes(), ids=lambda each: each["kind"] + "-" + each["metadata"]["name"])
def test_objects_fit_the_schema_of_kubernetes(document: dict[str, Any], release: str) -> None:
    kubernetes_validate.validate(document, release, strict=True)


def test_a_misspelt_field_would_be_found() -> None:
    wrong = kubernetes_object("Deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, NEWEST, strict=True)


def test_deployments_in_pages_fit_the_schema() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```", text("docs", "how-to", "health.md"), re.DOTALL | re.MULTILINE)
    deployments = [each for block in blocks if (each := yaml.safe_load(block)).get("kind") == "Deployment"]
    for each in [*deployments, GUIDE]:
        kubernetes_validate.validate(each, NEWEST, strict=True)
    assert len(deployments) == 1


def test_the_file_names_the_oldest_release() -> None:
    assert (
        f"Kubernetes {OLDEST} or later"
        in text("docs", "operations", "kubernetes", "base", "kustomization.yaml").splitlines()[0]
    )


def test_the_deployment_has_all_that_the_guide_shows() -> None:
    def missing(wanted: Any, there: Any, path: str) -> list[str]:
        if isinstance(wanted, dict):
            if not isinstance(there, dict):
                return [path]
            return [lost for key in wanted for lost in missing(wanted[key], there.get(key), f"{path}.{key}")]
        if isinstance(wanted, list):
            found = [min((missing(each, other, f"{path}[{n}]") for other in there), key=len)
                     for n, each in enumerate(wanted)]  # fmt: skip
            return [lost for losses in found for lost in losses]
        return [] if wanted == there else [f"{path}: {wanted}"]

    lost = missing(GUIDE, kubernetes_object("Deployment"), "")
    assert lost == [
        ".spec.template.spec.containers[0].image: kailash/nexus:latest",
        # A volume there would hide which authorities the image trusts.
        ".spec.template.spec.containers[0].volumeMounts[1].mountPath: /etc/ssl/certs",
    ]
    assert container()["image"].startswith("kailash/nexus:")


def test_selectors_choose_the_pods() -> None:
    template = kubernetes_object("Deployment")["spec"]["template"]["metadata"]["labels"]
    service, policy = kubernetes_object("Service")["spec"], kubernetes_object("NetworkPolicy")["spec"]
    spread = [each["labelSelector"]["matchLabels"] for each in pod()["topologySpreadConstraints"]]
    chosen = (labels("Deployment"), labels("PodDisruptionBudget"), service["selector"],
              policy["podSelector"]["matchLabels"], *spread)  # fmt: skip
    for each in chosen:
        assert each.items() <= template.items()
    scaled = kubernetes_object("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", "nexus-platform")
    assert scaled["apiVersion"] == kubernetes_object("Deployment")["apiVersion"]
    assert container()["resources"]["requests"]["cpu"], "the autoscaler compares with it"


def test_some_replica_always_answers() -> None:
    deployment, scaler = kubernetes_object("Deployment")["spec"], kubernetes_object("HorizontalPodAutoscaler")["spec"]
    budget = kubernetes_object("PodDisruptionBudget")["spec"]
    assert deployment["replicas"] == scaler["minReplicas"] < scaler["maxReplicas"]
    assert budget["maxUnavailable"] < scaler["minReplicas"]
    assert deployment["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_ports_have_names_that_all_others_use() -> None:
    assert container_ports() == {"api": 8000, "cli": 8001, "mcp": 3001, "metrics": 9090}
    service = {each["targetPort"]: each["port"] for each in kubernetes_object("Service")["spec"]["ports"]}
    assert service == container_ports()
    rules = kubernetes_object("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == set(container_ports())
    monitoring = next(rule for rule in rules if {"port": "metrics"} in rule["ports"])
    assert monitoring["ports"] == [{"port": "metrics"}]


def test_probes_ask_the_addresses_for_probes() -> None:
    asked = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {name: each["path"] for name, each in asked.items()} == {
        "startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready",
    }  # fmt: skip
    assert {(each["port"], each["scheme"]) for each in asked.values()} == {("api", "HTTPS")}
    assert config()["enable_https"] is True
    table = text("docs", "reference", "routes.md")
    assert all(f"| `{each['path']}` | GET |" in table for each in asked.values())


def test_every_volume_is_there_and_used() -> None:
    volumes = {each["name"]: each for each in pod()["volumes"]}
    mounted = {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}
    assert volumes.keys() == mounted.keys()
    assert container()["env"][0] == {"name": "NEXUS_CONFIG_FILE", "value": f"{mounted['config']}/nexus.yaml"}
    for volume in ("config", "app"):
        kubernetes_object("ConfigMap", volumes[volume]["configMap"]["name"])
    for option in ("ssl_cert_path", "ssl_key_path"):
        folder, _, file = config()[option].rpartition("/")
        assert folder == mounted["ssl-certs"]
        assert file in ("tls.crt", "tls.key"), "what a secret of the type kubernetes.io/tls has"
    assert volumes["ssl-certs"]["secret"]["defaultMode"] & 0o7 == 0, "not for everybody: it holds a private key"
    assert pod()["securityContext"]["fsGroup"] == pod()["securityContext"]["runAsGroup"]
    assert image_environment()["XDG_STATE_HOME"] == mounted["tmp"]


def test_no_volume_hides_what_the_image_trusts() -> None:
    mounted = [each["mountPath"] for each in container()["volumeMounts"]]
    for path in (image_environment()["SSL_CERT_FILE"], "/etc/ssl/certs/ca-certificates.crt"):
        assert not [each for each in mounted if path.startswith(each + "/")]


def test_containers_have_no_rights() -> None:
    assert pod()["automountServiceAccountToken"] is False
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    dockerfile = text("Dockerfile")
    context = pod()["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile


def test_kubernetes_puts_no_variables_of_its_own_into_the_environment() -> None:
    assert pod()["enableServiceLinks"] is False


def test_the_example_is_the_application() -> None:
    (name, source), = kubernetes_object("ConfigMap", "nexus-app")["data"].items()  # fmt: skip
    assert name == "app.py"
    assert source == text("docs", "examples", "deployment", "app.py")
    assert {each["name"]: each["mountPath"] for each in container()["volumeMounts"]}["app"] == "/app"


def test_the_page_tells_how_to_make_each_secret() -> None:
    page = text("docs", "how-to", "deployment.md")
    references = [each["valueFrom"]["secretKeyRef"] for each in container()["env"] if "valueFrom" in each]
    assert {each["key"] for each in references} == set(SECRETS)
    assert {each["name"] for each in references} == {"nexus-secrets"}
    for each in references:
        assert f"{each['key']}=" in page
    tls = next(each["secret"]["secretName"] for each in pod()["volumes"] if "secret" in each)
    assert f"create secret tls {tls} " in page


def test_nothing_secret_is_in_the_manifests() -> None:
    assert "Secret" not in {each["kind"] for each in kubernetes()}
    secret = re.compile(r"(secret|token|password)", re.IGNORECASE)
    assert not [each for each in container()["env"] if secret.search(each["name"]) and "value" in each]
    for line in text("docs", "operations", "compose.yaml").splitlines():
        name, _, value = line.strip().partition(": ")
        if secret.search(name) and name.isupper():
            assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), line


def test_the_end_is_given_enough_time() -> None:
    for pause, given, grace in (
        (5, pod()["terminationGracePeriodSeconds"], config()["shutdown_grace"]),
        (0, seconds(service()["stop_grace_period"]), int(service()["environment"]["NEXUS_SHUTDOWN_GRACE"])),
    ):
        assert given >= pause + grace + 15
    assert container()["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]


def test_postgresql_has_connections_for_all_replicas() -> None:
    """Each replica has one more for its health check; PostgreSQL keeps three of its hundred for its administrator."""
    rollout = kubernetes_object("Deployment")["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    replicas = kubernetes_object("HorizontalPodAutoscaler")["spec"]["maxReplicas"] + rollout
    assert replicas * (config()["db_pool_max_connections"] + 1) <= 97
    assert int(service()["environment"]["NEXUS_DB_POOL_MAX_CONNECTIONS"]) + 1 <= 97


# What Nexus knows


def test_nexus_knows_every_option_of_the_deployment(environment: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "nexus.yaml"
    file.write_text(kubernetes_object("ConfigMap", "nexus-config")["data"]["nexus.yaml"])
    variables = pod_environment(SECRETS) | {"NEXUS_CONFIG_FILE": str(file)}
    for name, value in variables.items():
        environment.setenv(name, value)
    nexus = Nexus()
    sources = nexus.option_sources()
    for option in config():
        assert sources[option] == f"{option} in {file}"
    others = {variable for variable in variables if variable != "NEXUS_CONFIG_FILE"}
    assert {f"environment variable {variable}" for variable in others} <= set(sources.values())
    _check_ports(nexus)


def test_the_deployment_of_the_guide_starts_beside_a_service(environment: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """It does not say `enableServiceLinks: false`, so the Service's addresses are in its environment."""
    file = tmp_path / "nexus.yaml"
    file.write_text(kubernetes_object("ConfigMap", "nexus-config")["data"]["nexus.yaml"])
    environment.setenv("NEXUS_CONFIG_FILE", str(file))
    environment.setenv("NEXUS_JWT_SECRET", SECRETS["jwt-secret"])
    (guided,) = GUIDE["spec"]["template"]["spec"]["containers"]
    for each in guided["env"][1:]:
        environment.setenv(each["name"], each.get("value", SECRETS["postgres-url"]))
    for name in ("", "_API"):
        environment.setenv(f"NEXUS_PLATFORM_SERVICE_PORT{name}", "8000")
    environment.setenv("NEXUS_PLATFORM_SERVICE_HOST", "10.0.0.1")
    environment.setenv("NEXUS_PLATFORM_PORT", "tcp://10.0.0.1:8000")
    environment.setenv("NEXUS_PLATFORM_PORT_8000_TCP_ADDR", "10.0.0.1")
    _check_ports(Nexus())


def test_nexus_knows_every_variable_of_compose(environment: pytest.MonkeyPatch) -> None:
    variables = service()["environment"]
    for name, value in variables.items():
        environment.setenv(name, value)
    nexus = Nexus()
    assert {f"environment variable {variable}" for variable in variables} <= set(nexus.option_sources().values())
    _check_ports(nexus)


def _check_ports(nexus: Nexus) -> None:
    """Check that each port that the manifests name is the default of the option that has it."""
    options = {name: value for model in nexus.every_settings for name, value in model.model_dump().items()}
    assert {name: options[f"{name}_port"] for name in PORTS} == container_ports()
    assert options["host"] == "0.0.0.0"
    assert options["enable_auth"] is options["enable_rate_limiting"] is True
    assert options["enable_monitoring"] or options["enable_metrics"]


# Compose


def service(name: str = "nexus") -> dict[str, Any]:
    return compose(VARIABLES)["services"][name]


def test_the_file_fits_the_schema_of_compose() -> None:
    vendor = resources.files("check_jsonschema.builtin_schemas") / "vendor"
    schema = json.loads((vendor / "compose-spec.json").read_text())
    jsonschema.validate(compose(VARIABLES), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"nexus": {"imagge": "kailash/nexus"}}}, schema)


@pytest.mark.parametrize("name", ["nexus", "redis", "postgres"])
def test_services_have_no_rights(name: str) -> None:
    each = service(name)
    assert each["read_only"] is True
    assert each["cap_drop"] == ["ALL"]
    assert each["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & each.keys()
    assert each.get("user") == (None if name == "nexus" else name)
    assert re.search(r":\d+(\.\d+)*(-\w+)?$", each["image"]), "the image is pinned"
    assert "state" in each["networks"]


def test_nexus_waits_for_what_it_needs() -> None:
    assert service()["depends_on"] == {name: {"condition": "service_healthy"} for name in ("redis", "postgres")}
    for name in service()["depends_on"]:
        assert service(name)["healthcheck"]["test"]
    assert "healthcheck" not in service(), "the image has one"
    assert compose(VARIABLES)["networks"]["state"] == {"internal": True}
    assert "default" not in service("redis")["networks"] + service("postgres")["networks"]


def test_only_this_machine_reaches_the_published_ports() -> None:
    published = [each.split(":") for each in service()["ports"]]
    assert {int(inner) for _, _, inner in published} == set(container_ports().values())
    assert all(host == "127.0.0.1" and outer == inner for host, outer, inner in published)
    assert not {"ports"} & (service("redis").keys() | service("postgres").keys())


def test_volumes_and_addresses_are_there() -> None:
    (app,) = service()["volumes"]
    folder, target, mode = app.split(":")
    assert (OPERATIONS / folder).resolve() == ROOT / "docs" / "examples" / "deployment"
    assert (target, mode) == ("/app", "ro")
    assert (OPERATIONS / service()["build"] / "Dockerfile").resolve() == ROOT / "Dockerfile"
    named = {each.split(":")[0] for name in ("redis", "postgres") for each in service(name)["volumes"]}
    assert named == compose(VARIABLES)["volumes"].keys()
    assert "@postgres:5432/nexus" in service()["environment"]["POSTGRES_URL"]
    assert service()["environment"]["REDIS_URL"] == "redis://redis:6379/0"
    assert service("postgres")["environment"]["POSTGRES_DB"] == "nexus"
    assert service()["image"] == container()["image"]


def test_the_page_tells_of_each_variable() -> None:
    page = text("docs", "how-to", "deployment.md")
    asked = set(re.findall(r"\$\{(\w+):\?", text("docs", "operations", "compose.yaml")))
    assert asked == VARIABLES.keys()
    assert all(f"{name}=" in page for name in asked)
