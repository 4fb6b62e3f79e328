"""Reads the Dockerfile and the manifests of docs/operations, and runs what they say, without a container."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from served_process import free_port

ROOT = Path(__file__).parents[2]
OPERATIONS = ROOT / "docs" / "operations"
START_SECONDS = 60.0
PORTS = {"api": "NEXUS_API_PORT", "cli": "NEXUS_CLI_PORT", "mcp": "NEXUS_MCP_PORT", "metrics": "NEXUS_METRICS_PORT"}
"""The variable for each port that the manifests name."""

WRITES = """
import os, sys

def note(event, args, keep=os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
    if event == "open":
        path, mode, flags = args
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC):
            os.write(keep, (os.fsdecode(path) if not isinstance(path, int) else str(path)).encode() + b"\\n")
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.symlink", "os.link", "os.truncate", "sqlite3.connect"):
        os.write(keep, f"{{event}} {{args[0]}}\\n".encode())

sys.addaudithook(note)
"""


@dataclass
class Instruction:
    """One instruction of a Dockerfile."""

    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """The value as a command line, or as the list that it is."""
        return json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)


def dockerfile() -> list[list[Instruction]]:
    """Return the instructions of each stage."""
    lines = (line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    stages: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, value = line.partition(" ")
            if name == "FROM":
                stages.append([])
            stages[-1].append(Instruction(name, value.strip()))
    return stages


def of_image(name: str) -> Instruction:
    """Return the one instruction of that name in the last stage."""
    (found,) = (each for each in dockerfile()[-1] if each.name == name)
    return found


def image_environment() -> dict[str, str]:
    """Return the variables that the image sets."""
    return dict(word.split("=", 1) for word in of_image("ENV").words)


def image_command() -> list[str]:
    """Return what a container of the image runs."""
    return [*of_image("ENTRYPOINT").words, *of_image("CMD").words]


def health_command() -> list[str]:
    """Return what the image's health check runs."""
    return json.loads(of_image("HEALTHCHECK").value.partition("CMD ")[2])


def kubernetes() -> list[dict[str, Any]]:
    """Return the objects of the base for Kubernetes, with the ConfigMaps that kustomize makes of files."""
    return copy.deepcopy(_kubernetes())


@functools.cache
def _kubernetes() -> list[dict[str, Any]]:
    base = OPERATIONS / "kubernetes" / "base"
    asked = yaml.safe_load((base / "kustomization.yaml").read_text())
    config_maps = [
        {
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": each["name"]},
            "data": {file: (base / file).read_text() for file in each["files"]},
        }
        for each in asked["configMapGenerator"]
    ]  # fmt: skip
    return config_maps + [each for file in asked["resources"] for each in yaml.safe_load_all((base / file).read_text())]


def rendered(overlay: str, folder: Path, secrets: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the objects of an overlay, as ``kubectl kustomize`` makes them.

    Args:
        overlay: Its name.
        folder: Where a copy of the files is made.
        secrets: What its secrets.env has.
    """
    shutil.copytree(OPERATIONS / "kubernetes", folder, dirs_exist_ok=True)
    lines = "".join(f"{name}={value}\n" for name, value in secrets.items())
    (folder / "overlays" / overlay / "secrets.env").write_text(lines)
    command = ["kubectl", "kustomize", str(folder / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kubernetes_object(kind: str, name: str = "nexus-platform") -> dict[str, Any]:
    """Return one of them."""
    (found,) = (each for each in kubernetes() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pod() -> dict[str, Any]:
    """Return what the Deployment says of a pod."""
    return kubernetes_object("Deployment")["spec"]["template"]["spec"]


def container() -> dict[str, Any]:
    """Return what it says of the container."""
    (found,) = pod()["containers"]
    return found


def pod_environment(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the container's variables, with the secrets put in."""
    return {
        each["name"]: each["value"] if "value" in each else secrets[each["valueFrom"]["secretKeyRef"]["key"]]
        for each in container()["env"]
    }


def compose(variables: Mapping[str, str], file: str = "compose.yaml") -> dict[str, Any]:
    """Return a file for Compose, with variables put in as Compose does."""

    def put_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put_in(each) for name, each in value.items()}
        if isinstance(value, list):
            return [put_in(each) for each in value]
        return re.sub(r"\$\{(\w+):\?[^}]+\}", lambda found: variables[found[1]], value) if type(value) is str else value

    return put_in(yaml.safe_load((OPERATIONS / file).read_text()))


def seconds(text: str) -> int:
    """Return the seconds of a duration such as ``45s``."""
    assert text.endswith("s")
    return int(text[:-1])


@dataclass
class Container:
    """What the image would run, as a process of this machine.

    Args:
        folder: Of the test's own.
        app: What is mounted as the application's folder.
        environment: What the manifest adds to the image's environment.

    Attributes:
        ports: A free port for each that the manifest names.
    """

    folder: Path
    app: Path
    environment: Mapping[str, str]
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in PORTS})

    def __post_init__(self) -> None:
        self._output, self._written = self.folder / "output", self.folder / "written"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()
        hook = self.folder / "hook"
        hook.mkdir()
        (hook / "sitecustomize.py").write_text(WRITES.format(log=str(self._written)))
        image = image_environment()
        programs = str(Path(sys.executable).parent)
        self.variables = {
            **{name: value.replace("/tmp", str(self.temporary)) for name, value in image.items()},
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(self.app),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(hook),
            "SSL_CERT_FILE": os.environ.get("SSL_CERT_FILE", ""),
            **self.environment,
            "NEXUS_REDIS_TIMEOUT": "10",
            **{variable: str(self.ports[name]) for name, variable in PORTS.items()},
        }  # fmt: skip
        self.variables = {name: value for name, value in self.variables.items() if value}

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as in the container, and wait for its end."""
        return subprocess.run(
            command, cwd=self.app, env=self.variables | variables, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self) -> None:
        """Run what the image runs, on 127.0.0.1."""
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                image_command(), cwd=self.app, env=self.variables | {"NEXUS_HOST": "127.0.0.1"}, stdout=output,
                stderr=output, stdin=subprocess.DEVNULL,
            )  # fmt: skip

    def until(self, condition: Any) -> Any:
        """Ask again and again until the answer is not empty, and return it."""
        end = time.monotonic() + START_SECONDS
        while not (found := condition()):
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < end, self.output()
            time.sleep(0.05)
        return found

    def stop(self, seconds: float) -> int:
        """End it as a container is ended, and return the exit code.

        Raises:
            subprocess.TimeoutExpired: It would have been killed.
        """
        self.process.send_signal(getattr(signal, of_image("STOPSIGNAL").value))
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it, if it runs."""
        if hasattr(self, "process"):
            self.process.kill()
            self.process.wait()

    def output(self) -> str:
        """Return what it has said."""
        return self._output.read_text()

    def written(self) -> Iterator[str]:
        """Yield every path outside of /tmp that was written to."""
        for line in self._written.read_text().splitlines():
            if not line.startswith((str(self.temporary), "/dev/", "/proc/")) and not line.isdecimal():
                yield line
