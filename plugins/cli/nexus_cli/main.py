"""The entry point of the command line: takes the arguments, returns the exit code."""

from __future__ import annotations

from nexus_cli.options import Options, as_utf8, from_environment


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    if arguments[:1] in (["__complete"], ["__complete-line"]):
        from nexus_cli.commands.app import own_commands
        from nexus_cli.commands.completion import answer, words_of

        words = arguments[1:] if arguments[0] == "__complete" else words_of("".join(arguments[1:2]))[1:]
        return answer(words, lambda: own_commands(None))
    from nexus_cli.context import CliContext
    from nexus_cli.dispatch import run
    from nexus_cli.terminal.output import standard_output

    words = [as_utf8(word) for word in arguments]
    return run(CliContext(Options(), standard_output(as_json="--json" in words)), words, from_environment())
