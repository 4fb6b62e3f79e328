"""The manifests for gateways and workers of durable runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from deployment_manifests import OPERATIONS, compose, image_environment
from doc_pages import text

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = set(re.findall(r"^\| `([a-z_]+)` \|", text("docs", "reference", "options.md"), re.MULTILINE))
OTHERS = {"NEXUS_APP", "NEXUS_CONFIG_FILE"}
WORKERS = {"RUN_ENGINE": "dbos", "RUN_STORE": "postgres"}


def options_of(variables: dict[str, str]) -> dict[str, str]:
    """Return the options among a container's variables; each is one that there is."""
    found = {name: value for name, value in variables.items() if name.startswith("NEXUS_") and name not in OTHERS}
    assert {name.removeprefix("NEXUS_").lower() for name in found} <= OPTIONS
    return {name.removeprefix("NEXUS_"): value for name, value in found.items()}


def check_roles(gateway: dict[str, str], worker: dict[str, str]) -> None:
    """Gateways take calls only, workers work, and both use the same engine and the same run store."""
    asked, works = options_of(gateway), options_of(worker)
    assert asked.items() >= (WORKERS | {"RUN_WORK": "false"}).items()
    assert works.items() >= WORKERS.items()
    assert works.get("RUN_WORK", "true") == "true"


def test_the_file_for_compose() -> None:
    first, more = compose_files()
    worker = more["worker"]
    assert worker["command"] == ["worker"]
    check_roles(first["nexus"]["environment"] | more["nexus"]["environment"], worker["environment"])
    same = ("image", "volumes", "networks", "read_only", "tmpfs", "cap_drop", "security_opt", "mem_limit")
    assert {name: worker[name] for name in same} == {name: first["nexus"][name] for name in same}
    shared = {name: value for name, value in first["nexus"]["environment"].items() if name in worker["environment"]}
    assert shared.items() <= worker["environment"].items()
    assert f":{worker['environment']['NEXUS_HEALTH_PORT']}/health/live" in image_environment()["HEALTH_URL"]


def compose_files() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the services of both files."""
    variables = {"NEXUS_JWT_SECRET": "s" * 40, "NEXUS_METRICS_TOKEN": "t" * 32, "POSTGRES_PASSWORD": "pw"}
    return compose(variables)["services"], compose(variables, "compose.workers.yaml")["services"]


@pytest.fixture(name="objects", scope="module")
def objects_fixture(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """Return the objects of the overlay for production with workers, as ``kubectl kustomize`` makes them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    folder: Path = tmp_path_factory.mktemp("workers") / "kubernetes"
    shutil.copytree(OPERATIONS / "kubernetes", folder)
    overlay = folder / "overlays" / "production"
    names = ("postgres-url", "jwt-secret", "metrics-token")
    (overlay / "secrets.env").write_text("".join(f"{name}={'x' * 40}\n" for name in names))
    asked = overlay / "kustomization.yaml"
    asked.write_text(asked.read_text() + "components: [../../workers]\n")
    done = subprocess.run(
        ["kubectl", "kustomize", str(overlay)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}


def test_the_component_for_kubernetes(objects: dict[tuple[str, str], Any]) -> None:
    for (kind, name), document in objects.items():
        if name == "nexus-worker" and kind != "ScaledObject":
            for release in ("1.27", "1.37"):
                kubernetes_validate.validate(document, release, strict=True)
    gateway, worker = (objects["Deployment", name]["spec"]["template"] for name in ("nexus-platform", "nexus-worker"))
    variables = [
        {each["name"]: each.get("value", "") for each in template["spec"]["containers"][0]["env"]}
        for template in (gateway, worker)
    ]
    check_roles(*variables)
    (container,) = worker["spec"]["containers"]
    assert container["args"] == ["worker"]
    assert container["image"] == gateway["spec"]["containers"][0]["image"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports["health"] == int(variables[1]["NEXUS_HEALTH_PORT"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "health"
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in worker["spec"]["volumes"]}
    assert worker["spec"]["volumes"] == gateway["spec"]["volumes"]  # the names end in the same hashes


def test_workers_scale_with_what_waits(objects: dict[tuple[str, str], Any]) -> None:
    asked = objects["ScaledObject", "nexus-worker"]["spec"]
    assert asked["scaleTargetRef"]["name"] == "nexus-worker"
    assert "replicas" not in objects["Deployment", "nexus-worker"]["spec"]
    (trigger,) = asked["triggers"]
    (metric,) = re.findall(r"nexus_\w+", trigger["metadata"]["query"])
    assert f"`{metric}`" in text("docs", "reference", "metrics.md")
    budget = objects["PodDisruptionBudget", "nexus-worker"]["spec"]["selector"]["matchLabels"]
    labels = objects["Deployment", "nexus-worker"]["spec"]["template"]["metadata"]["labels"]
    assert budget.items() <= labels.items()
