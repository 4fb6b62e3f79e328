"""The command line as a real process: piped, under a terminal, and against a served application."""

from __future__ import annotations

import fcntl
import functools
import json
import logging
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

APP = Path(__file__).with_name("app_for_tests.py")
COMMAND = [sys.executable, "-m", "nexus_core"]


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class Runner:
    """Runs `nexus` piped, in an environment and directory of its own."""

    env: dict[str, str]
    cwd: Path

    def __call__(self, *words, stdin="", app=True, timeout=30, env=None):
        settings = self.env | ({"NEXUS_APP": str(APP)} if app else {}) | (env or {})
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*COMMAND, *words], input=given, capture_output=True, env=settings, cwd=self.cwd, timeout=timeout
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def forked(self, *words, stdin="", app=True, timeout=30, env=None):
        """The same in a child of this process, which has imported everything already: for the many small cases."""
        _import_everything()
        settings = self.env | ({"NEXUS_APP": str(APP)} if app else {}) | (env or {})
        files = [self.cwd / f".{name}" for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        pid = os.fork()
        if pid == 0:
            for fd, path in enumerate(files):
                os.dup2(os.open(path, os.O_RDONLY if fd == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), fd)
            _become_nexus([os.fsdecode(word) for word in words], self.cwd, settings)
        deadline = time.monotonic() + timeout
        while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise TimeoutError(words)
            time.sleep(0.005)
        return Done(os.waitstatus_to_exitcode(ended[1]), files[1].read_text(), files[2].read_text())

    def popen(self, *words, env=None, **options):
        settings = self.env | {"NEXUS_APP": str(APP)} | (env or {})
        return subprocess.Popen([*COMMAND, *words], env=settings, cwd=self.cwd, **options)

    def terminal(self, *words, env=None, app=True):
        settings = (
            self.env
            | ({"NEXUS_APP": str(APP)} if app else {})
            | {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
            | (env or {})
        )
        return Terminal(words, settings, self.cwd)


@functools.cache
def _import_everything():
    """Import what a command line does, the installed plugins too, so that children need not."""
    import nexus_cli.commands
    import nexus_cli.remote  # noqa: F401
    from nexus_cli.local import LocalBackend

    from nexus_core import Nexus

    LocalBackend(Nexus()).close()


def _become_nexus(words, cwd, env):
    """Run the command line in this forked process, and end it."""
    code = 70
    try:
        sys.stdin, sys.stdout, sys.stderr = (open(fd, mode, encoding="utf-8") for fd, mode in enumerate("rww"))
        logging.getLogger().handlers.clear()
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        from nexus_core.__main__ import main

        code = main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Terminal:
    """`nexus` under a pty, as a person meets it; see `Runner.forked`."""

    def __init__(self, words, env, cwd):
        _import_everything()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
            _become_nexus(words, cwd, env)
        self.raw = ""
        self._seen = 0
        self.code = None

    def expect(self, pattern, timeout=10):
        """Read until the pattern appears in the text after what was expected before.

        The text is without cursor movements: how much of a word is drawn anew depends on how fast it was typed.
        """
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text[self._seen :])):
            assert time.monotonic() < deadline, f"{pattern!r} not in {self.text[self._seen :]!r}: {self.raw!r}"
            assert self._read(deadline), f"ended without {pattern!r}: {self.raw!r}"
        self._seen += found.end()
        return found

    def _read(self, deadline):
        ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
        if ready:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            self.raw += data.decode(errors="replace")
            return bool(data)
        return True

    def send(self, text):
        os.write(self.fd, text.encode())

    def end(self, timeout=20):
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            assert time.monotonic() < deadline, f"it does not end: {self.raw!r}"
        _, status = os.waitpid(self.pid, 0)
        self.code = os.waitstatus_to_exitcode(status)
        return self.code

    @property
    def text(self):
        """What was shown, without colours and cursor movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw).replace("\r\n", "\n")

    def close(self):
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(scope="session")
def clean_env(tmp_path_factory):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_") and name != "NO_COLOR"}
    places = {name: str(tmp_path_factory.mktemp("home")) for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME")}
    return kept | places | {"PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"}


@pytest.fixture
def nexus(clean_env, tmp_path):
    return Runner(clean_env, tmp_path)


@pytest.fixture
def terminal(nexus):
    opened = []

    def open_terminal(*words, **options):
        opened.append(nexus.terminal(*words, **options))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


@pytest.fixture(scope="session")
def server(clean_env, tmp_path_factory):
    """A served application; its command-line port's URL."""
    with served(APP, clean_env, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="session")
def guarded(clean_env, tmp_path_factory):
    """One that asks callers who they are."""
    with served(APP.with_name("guarded_app.py"), clean_env, tmp_path_factory) as url:
        yield url


@pytest.fixture
def serve_app(clean_env, tmp_path_factory):
    """Serve an application meanwhile; yields its command-line port's URL."""
    return lambda app: served(app, clean_env, tmp_path_factory)


@contextmanager
def served(app, clean_env, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    ports = {"NEXUS_CLI_PORT": "0", "NEXUS_LOG_LEVEL": "INFO"}
    ports |= {f"NEXUS_{name}_PORT": "0" for name in ("API", "MCP") if installed(name.lower())}
    with log.open("wb") as stream:
        process = subprocess.Popen([*COMMAND, "serve", str(app)], env=clean_env | ports, stdout=stream, stderr=stream)
    try:
        yield wait_for(lambda: re.search(r"Listening on (\S+): cli", log.read_text()), process, log)[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def installed(plugin):
    from importlib.metadata import entry_points

    return any(each.name == plugin for each in entry_points(group="nexus.plugins"))


def wait_for(condition, process, log, timeout=30):
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    return found


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
