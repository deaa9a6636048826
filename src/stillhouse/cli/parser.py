"""Parsing with messages that suggest what was meant."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import NoReturn

FOLDER = "out"


def in_folder(folder: Path) -> str:
    """What a command that is named needs besides, so that it looks into this session folder."""
    return "" if str(folder) == FOLDER else f" --folder {shlex.quote(str(folder))}"


class UsageError(Exception):
    """The command line cannot be understood; exit code 2."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\n  {hint}")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises `UsageError` with a suggestion and never abbreviates."""

    def __init__(self, command: str, text: str) -> None:
        super().__init__(
            prog=f"stillhouse {command}",
            description=f"{text[:1].upper()}{text[1:]}.",
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--json", action="store_true", help="print one JSON document instead of text")
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def in_folder(self) -> None:
        """Add the option for the session folder."""
        self.add_argument("--folder", metavar="FOLDER", default=FOLDER, help=f"the session folder (default: {FOLDER})")

    def read(self, words: list[str]) -> argparse.Namespace:
        """The arguments; raises `UsageError` for what is unknown, missing or of the wrong type."""
        found, unknown = self.parse_known_args(words)
        if unknown:
            self._refuse(unknown)
        return found

    def _refuse(self, unknown: list[str]) -> NoReturn:
        first = unknown[0].partition("=")[0]
        if not first.startswith("-"):
            hint = f"`{self.prog} --help` shows what it takes."
            raise UsageError(f"{self.prog}: unexpected argument `{unknown[0]}`", hint)
        import difflib

        close = difflib.get_close_matches(first, list(self._option_string_actions), n=1)
        hint = f"Did you mean `{close[0]}`?" if close else f"`{self.prog} --help` shows what it takes."
        raise UsageError(f"{self.prog}: there is no option `{first}`", hint)

    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"{self.prog}: {message}", _choice_meant(message) or f"`{self.prog} --help` shows what it takes."
        )


def _choice_meant(message: str) -> str | None:
    """The nearest of the choices that argparse lists in a message."""
    import difflib
    import re

    found = re.search(r"invalid choice: '?([^' ]+)'? \(choose from (.+)\)", message)
    close = difflib.get_close_matches(found[1], re.findall(r"[\w-]+", found[2]), n=1) if found else []
    return f"Did you mean `{close[0]}`?" if close else None


def positive(text: str) -> int:
    """A whole number above 0, for `type=`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def not_negative(text: str) -> int:
    """A whole number from 0 on, for `type=`."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return number


positive.__name__ = not_negative.__name__ = "whole number"  # argparse names the type in its message
