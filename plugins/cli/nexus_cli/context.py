"""`CliContext`: the options, output and backend of one command line or one shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from nexus_cli.options import Options, UsageError
from nexus_cli.terminal import preferences

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nexus_cli.backends.backend import CliBackend
    from nexus_cli.settings import CliSettings
    from nexus_cli.terminal.output import Output
    from nexus_core.app.nexus import Nexus


class CliContext:
    """What commands work with. typer passes it to them as ``context.obj``, those of plugins too.

    Attributes:
        options: The common options.
        output: Where results and errors go.
        run_line: Runs one line of a shell from its words and the options to start from; returns the exit code.
    """

    run_line: Callable[[Options, list[str]], int]

    def __init__(self, options: Options, output: Output, backend: CliBackend | None = None) -> None:
        self.options = options
        self.output = output
        self._backend = backend
        self._nexus: Nexus | None = None
        self._preferences: CliSettings | None = None

    def app_name(self) -> str | None:
        """Return the name of the application, from the options, the environment or the configuration file."""
        from nexus_core.app.applications import configured_app

        return self.options.app or configured_app()

    def nexus(self) -> Nexus:
        """Return the application, loaded.

        Raises:
            UsageError: No application is named.
            ConfigurationError: It can't be loaded.
        """
        if self._nexus is None:
            name = self.app_name()
            if name is None:
                raise UsageError(
                    "No application is named. Set --app module:attribute (NEXUS_APP, or app: in the file of "
                    "NEXUS_CONFIG_FILE), or --connect URL for a running server (NEXUS_CONNECT)."
                )
            from nexus_core.app.applications import load

            self._nexus = load(name)
        return self._nexus

    def backend(self) -> CliBackend:
        """Return the backend, opened at the first call.

        Raises:
            UsageError: No application is named, or the server's URL is invalid.
            ConfigurationError: The application can't be loaded or started.
        """
        if self._backend is None:
            if self.options.connect:
                from nexus_cli.backends.remote import RemoteBackend

                self._backend = RemoteBackend(self.options.connect)
            else:
                from nexus_cli.backends.local import ApplicationBackend
                from nexus_cli.terminal.logs import show_logs
                from nexus_cli.terminal.output import own_stdout

                self.output = self.output.alike(
                    type(self.output)(
                        own_stdout(), sys.stderr, as_json=self.output.as_json, log_hint=_log_hint(self.options)
                    )
                )
                nexus = self.nexus()
                nexus.starts_schedules = False  # a command ends before its runs would
                self._prefer(preferences.of_application(nexus))
                show_logs(self.options)
                self._backend = ApplicationBackend(nexus)
        return self._backend

    def call(self, command: str, **members: Any) -> bytes:
        """Send a request to the backend, and return the reply as JSON text. Members that are None are left out."""
        from nexus_cli.backends.backend import request_of

        return self.backend().call(request_of(command, **members), self.options)

    def show(self, command: str, **members: Any) -> None:
        """Send a request to the backend, and write the reply."""
        reply = self.call(command, **members)
        self.output.reply(reply)  # not before: opening the backend replaces the output

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine and return its result: on the application's event loop, if that is started."""
        run = getattr(self._backend, "run", None)
        if run is not None:
            return run(work)
        from nexus_core.concurrency import process

        return process.run(work)

    def preferences(self) -> CliSettings:
        """Return the user's preferences."""
        if self._preferences is None:
            self._prefer(preferences.of_environment())
        assert self._preferences is not None
        return self._preferences

    def _prefer(self, wanted: CliSettings) -> None:
        self._preferences = wanted
        self.output.colors, self.output.bars = wanted.enable_colors, wanted.enable_progress_bars

    def close(self) -> None:
        """Close the backend."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def use(self, options: Options) -> None:
        """Set the options of a shell's next command. Its application or server stays the same.

        Raises:
            UsageError: The options name another application or server.
        """
        if (options.app, options.connect) != (self.options.app, self.options.connect):
            raise UsageError("The shell works with one application or server. Leave it to use another.")
        self.options = options
        self.output = self.output.with_json(options.json)


def _log_hint(options: Options) -> str:
    return "" if options.debug else "; --debug shows its log"
