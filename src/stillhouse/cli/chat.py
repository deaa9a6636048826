"""`stillhouse chat`: lines in, replies out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from . import exits
from .output import say, styled
from .parser import FOLDER, Parser, positive

if TYPE_CHECKING:
    from ..models.generate import Generator

BATCH = 32
ASKING = "asking.json"
"""Beside a distilled model: its system message, and the mark that ends its reasoning."""
HEARD = (None, "cut")
"""Replies that are part of the conversation; what failed is not."""


def arguments(parser: Parser) -> None:
    parser.in_folder()
    parser.add_argument("model", metavar="FOLDER", help="a model's folder, a distilled folder, or a name in the store")
    parser.add_argument("--system", metavar="TEXT", help="a system message before each conversation")
    parser.add_argument("--thinking", action="store_true", help="show the reasoning before the answer too")
    parser.add_argument("--history", action="store_true", help="each line goes on with the conversation so far")
    parser.add_argument("--temperature", type=float, default=0.0, help="0, the default, takes the likeliest token")
    parser.add_argument("--max-tokens", type=positive, default=512, metavar="N", help="longest reply (default: 512)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")


def run(arguments: argparse.Namespace) -> int:
    folder = model_folder(arguments.model, arguments.folder)
    habits = habits_of(folder, Path(arguments.model), Path(arguments.folder) / arguments.model)
    arguments.system = arguments.system or habits.system
    arguments.mark = None if arguments.thinking else habits.answer_after
    if not sys.stdin.isatty():
        return _answer_lines(_generator(folder, arguments), arguments)
    say(f"loading {folder} …")
    generator = _generator(folder, arguments)
    say("one line, one reply; Ctrl-D ends")
    history = _opening(arguments)
    while True:
        try:
            line = input(styled("› ", "bold"))
        except EOFError:
            print()
            return exits.DONE
        if not line.strip():
            continue
        messages = [*history, {"role": "user", "content": line}]
        (reply,) = _replies(generator, [messages], arguments)
        _print(line, reply, as_json=arguments.json)
        if arguments.history and reply["error"] in HEARD:
            history = [*messages, {"role": "assistant", "content": reply["output"]}]


def model_folder(given: str, session_folder: str = FOLDER) -> Path:
    """The folder with weights that a folder, a distilled folder or a name in the store stands for."""
    from ..core.artifact import Model
    from ..core.errors import RecipeError
    from .opening import open_store
    from .records import find

    in_store = Path(session_folder) / given / "model"  # of a distilled name
    for folder in (Path(given), Path(given) / "model", *([] if "/" in given else [in_store])):
        if (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file():
            return folder
    if Path(given).is_dir():
        raise RecipeError(f"there is no model in `{given}`", "A model's folder holds `config.json` and weights.")
    if "/" in given or not (Path(session_folder) / "artifacts-v1").is_dir():
        raise RecipeError(f"there is no folder `{given}`", "Name a model's folder, or `--folder` and a name in it.")
    artifact = find(open_store(session_folder), given)
    if not isinstance(artifact, Model):
        raise RecipeError(f"`{given}` is of the kind {artifact.kind}, and only a Model can be talked to")
    return artifact.path


class Habits(NamedTuple):
    """How a distilled student was trained to be asked."""

    system: str | None = None
    answer_after: str | None = None
    """The mark that ends its reasoning."""


def habits_of(model: Path, *folders: Path) -> Habits:
    """What the file beside a distilled model says of how it is asked; nothing where there is none."""
    import json

    from ..core.errors import StoreError

    for folder in (model.parent, *folders):
        path = folder / ASKING
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_bytes())
            return Habits(found["system"], found["answer_after"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"`{path}` cannot be read: {error}", "Run the distillation again.") from error
    return Habits()


def _generator(folder: Path, arguments: argparse.Namespace) -> Generator:
    from ..models.generate import Generator

    return Generator(folder, arguments.device)


def _answer_lines(generator: Generator, arguments: argparse.Namespace) -> int:
    """A reply for each line of stdin, in batches; with `--history` one after the other."""
    failed = False
    history = _opening(arguments)
    lines = (line.rstrip("\r\n") for line in sys.stdin)
    for batch in _batches((line for line in lines if line.strip()), 1 if arguments.history else BATCH):
        conversations = [[*history, {"role": "user", "content": line}] for line in batch]
        for line, reply in zip(batch, _replies(generator, conversations, arguments), strict=True):
            _print(line, reply, as_json=arguments.json)
            failed = failed or reply["error"] is not None
            if arguments.history and reply["error"] in HEARD:
                history = [*conversations[0], {"role": "assistant", "content": reply["output"]}]
    return exits.INCOMPLETE if failed else exits.DONE


def _opening(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [{"role": "system", "content": arguments.system}] if arguments.system else []


def _replies(
    generator: Generator, conversations: list[list[dict[str, Any]]], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    from ..core.errors import RowFault

    seeds = [arguments.seed + place for place in range(len(conversations))]
    found = generator.replies(conversations, arguments.max_tokens, arguments.temperature, seeds)
    shown: list[dict[str, Any]] = []
    for reply in found:
        if isinstance(reply, RowFault):
            shown.append({"output": "", "error": str(reply)})
        else:
            text = reply.text if arguments.mark is None else reply.text.rpartition(arguments.mark)[2].lstrip()
            shown.append({"output": text, "error": "cut" if reply.finish == "length" else None})
    return shown


def _print(line: str, reply: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps({"input": line, **reply}, ensure_ascii=False), flush=True)
        return
    print(reply["output"], flush=True)
    if reply["error"] is not None:
        say(f"({reply['error']})")


def _batches(lines: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(lines, size)):
        yield batch
