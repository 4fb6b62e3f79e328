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
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import pytest

APP = Path(__file__).with_name("app_for_tests.py")
MARK = "\x1e"
"""Ends what one of several command lines has written."""
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
class Child:
    """A command line that runs, and writes into files."""

    pid: int
    stdout: Path
    stderr: Path
    code: int | None = None

    def end(self, timeout=30, number=None):
        """Wait for its end, perhaps with a signal that asks for it."""
        if number is not None and self.code is None:
            os.kill(self.pid, number)
        deadline = time.monotonic() + timeout
        while self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                assert time.monotonic() < deadline, f"it does not end: {self.stderr.read_text()}"
                time.sleep(0.005)
        return Done(self.code, self.stdout.read_text(), self.stderr.read_text())


@dataclass
class Runner:
    """Runs `nexus` piped, in an environment and directory of its own."""

    env: dict[str, str]
    cwd: Path
    begun: list[Child] = field(default_factory=list)

    def __call__(self, *words, stdin="", app=True, timeout=30, env=None):
        settings = self.env | ({"NEXUS_APP": str(APP)} if app else {}) | (env or {})
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*COMMAND, *words], input=given, capture_output=True, env=settings, cwd=self.cwd, timeout=timeout
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def begin(self, *words, stdin="", app=True, env=None, run=None):
        """Begin in a child of this process, which has imported everything already; return it."""
        _import_everything()
        settings = self.env | ({"NEXUS_APP": str(APP)} if app else {}) | (env or {})
        number = len(self.begun)
        files = [self.cwd / f".{number} {name}" for name in ("stdin", "stdout", "stderr")]
        files[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
        for path in files[1:]:
            path.touch()
        pid = os.fork()
        if pid == 0:
            for fd, path in enumerate(files):
                os.dup2(os.open(path, os.O_RDONLY if fd == 0 else os.O_WRONLY, 0o600), fd)
            os.closerange(3, 4096)  # the sockets of the test's own
            _become_nexus(words, self.cwd, settings, run or _run_once)
        self.begun.append(Child(pid, *files[1:]))
        return self.begun[-1]

    def forked(self, *words, timeout=30, **options):
        """Run in such a child to the end: for the many small cases."""
        return self.begin(*words, **options).end(timeout)

    def each(self, cases, **options):
        """Run many command lines one after the other in one such child: a shell, which says how each has ended."""
        done = self.begin(*cases, run=_run_each, **options).end(120)
        told = zip(*(text.split(f"{MARK}\n")[:-1] for text in (done.out, done.err)), strict=True)
        results = [Done(int(out.rpartition(MARK)[2]), out.rpartition(MARK)[0], err) for out, err in told]
        assert len(results) == len(cases), done.err
        return results

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
    from nexus_cli.backends.local import ApplicationBackend

    from nexus_core import Nexus

    ApplicationBackend(Nexus()).close()


def _become_nexus(words, cwd, env, run):
    """Run command lines in this forked process, and end it."""
    code = 70
    try:
        sys.stdin, sys.stdout, sys.stderr = (open(fd, mode, encoding="utf-8") for fd, mode in enumerate("rww"))
        logging.getLogger().handlers.clear()
        os.environ.clear()
        os.environ.update(env)
        os.chdir(cwd)
        code = run(words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _run_once(words):
    from nexus_core.__main__ import main

    return main([os.fsdecode(word) for word in words])


def _run_each(cases):
    from nexus_cli.context import CliContext
    from nexus_cli.dispatch import run_line
    from nexus_cli.options import from_environment
    from nexus_cli.terminal.output import standard_output

    cli = CliContext(from_environment(), standard_output())
    for words in cases:
        code = run_line(cli, from_environment(), [os.fsdecode(word) for word in words])
        cli.output.line(f"{MARK}{code}{MARK}")
        print(MARK, file=sys.stderr, flush=True)
    return 0


class Terminal:
    """`nexus` under a pty, as a person meets it; see `Runner.forked`."""

    def __init__(self, words, env, cwd):
        _import_everything()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
            _become_nexus(words, cwd, env, _run_once)
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
    return kept | places | {"PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8", "NEXUS_COMPLETION_TIMEOUT": "30"}


@pytest.fixture
def nexus(clean_env, tmp_path):
    runner = Runner(clean_env, tmp_path)
    yield runner
    for child in runner.begun:
        child.end(number=signal.SIGKILL)


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
def server_env(clean_env):
    """The environment of servers. They leave the other channels out, as far as these are installed: that is faster."""
    others = [each.name for each in entry_points(group="nexus.plugins") if each.name in ("api", "mcp")]
    return clean_env | {"NEXUS_CLI_PORT": "0", "NEXUS_LOG_LEVEL": "INFO", "NEXUS_DISABLED_PLUGINS": ",".join(others)}


@pytest.fixture(scope="session")
def server(server_env, tmp_path_factory):
    """A served application; its command-line port's URL."""
    with served(APP, server_env, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="session")
def guarded(server_env, tmp_path_factory):
    """One that asks callers who they are."""
    with served(APP.with_name("guarded_app.py"), server_env, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="session")
def asking(server_env, tmp_path_factory):
    """One whose workflows ask questions."""
    with served(APP.with_name("asking_app.py"), server_env, tmp_path_factory) as url:
        yield url


@pytest.fixture(scope="session")
def guarded_asking(server_env, tmp_path_factory):
    """The same, which asks callers who they are."""
    with served(APP.with_name("asking_app.py"), server_env | {"ASKING_AUTH": "1"}, tmp_path_factory) as url:
        yield url


@pytest.fixture
def serve_app(server_env, tmp_path_factory):
    """Serve an application meanwhile; yields its command-line port's URL."""
    return lambda app: served(app, server_env, tmp_path_factory)


@contextmanager
def served(app, env, tmp_path_factory):
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen([*COMMAND, "serve", str(app)], env=env, stdout=stream, stderr=stream)
    try:
        yield wait_for(lambda: re.search(r"Listening on (\S+): cli", log.read_text()), process, log)[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


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
