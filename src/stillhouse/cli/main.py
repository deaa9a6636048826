"""The entry point: finds the command, imports its module alone, turns errors into messages and exit codes.

A command module has `arguments(parser)` and `run(arguments) -> exit code`; it imports nothing heavy at its top.
"""

from __future__ import annotations

import os
import sys

from . import exits
from .table import COMMANDS


def main(argv: list[str] | None = None) -> int:
    """Run a command line (without the program's name); returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`head`) has gone. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.DONE
    return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return exits.DONE if words else exits.USAGE
    if words[0] == "--version":
        from .. import __version__

        print(f"stillhouse {__version__}")
        return exits.DONE
    entry = next((entry for entry in COMMANDS if entry[0] == words[0]), None)
    if entry is None:
        return _unknown(words[0])

    from .command import perform

    return perform(entry, words[1:])


def _overview() -> str:
    width = max(len(name) for name, _, _ in COMMANDS)
    lines = [f"  {name:<{width}}  {text}" for name, _, text in COMMANDS]
    return "\n".join(
        [
            "usage: stillhouse COMMAND …",
            "",
            "From a handful of examples, or any data set, to a small model that can be trusted.",
            "",
            *lines,
            "",
            "`stillhouse COMMAND --help` shows what a command takes.",
            "Exit codes: 0 done, 1 failed, 2 usage, 3 finished with failed rows or a failed gate,",
            "4 waiting for batch jobs, 130 interrupted.",
        ]
    )


def _unknown(word: str) -> int:
    import difflib

    close = difflib.get_close_matches(word, [name for name, _, _ in COMMANDS], n=1)
    hint = f"Did you mean `stillhouse {close[0]}`?" if close else "`stillhouse --help` lists the commands."
    kind = "option" if word.startswith("-") else "command"
    print(f"stillhouse: there is no {kind} `{word}`\n  {hint}", file=sys.stderr)
    return exits.USAGE
