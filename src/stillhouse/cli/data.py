"""`stillhouse data`: training data as tokens; make them, look at them, plan a mix, take them elsewhere."""

from __future__ import annotations

import argparse
from typing import Any

from .opening import work_arguments
from .parser import FOLDER, Parser, positive

_FORMATS = ("megatron", "olmo", "arrow")
DESCRIPTION = """
TARGET is a folder of tokens, a name or key in the session folder, a file of rows (with `--tokenizer`, and `--text` or
`--template`), a recipe file, a mix file, or the name of a mix.
"""


class _Action(Parser):
    """One of the things to do; its options may stand before or after the word."""

    def __init__(self, **settings: Any) -> None:
        argparse.ArgumentParser.__init__(self, allow_abbrev=False, **settings)
        for name, text in (("--json", "print JSON"), ("--debug", "show the traceback of an error")):
            self.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuses what it does not know itself, for it knows what was meant."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return found, unknown


def arguments(parser: Parser) -> None:
    parser.epilog = DESCRIPTION
    actions = parser.add_subparsers(dest="action", metavar="ACTION", parser_class=_Action, required=True)
    _tokenize(actions.add_parser("tokenize", help="make the tokens of a recipe, a mix or a file of rows"))
    _stats(actions.add_parser("stats", help="lengths, sources, rejected rows, and which row length suits them"))
    _peek(actions.add_parser("peek", help="look at documents and packed rows, token by token"))
    _mix(actions.add_parser("mix", help="plan a mix, make its tokens, list the mixes that have a name"))
    _export(actions.add_parser("export", help="write tokens for Megatron, OLMo or datasets (Arrow)"))
    _import(actions.add_parser("import", help="take the token files of such a tool"))


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "tokenize":
        from .data_tokenize import tokenize

        return tokenize(arguments)
    if arguments.action == "stats":
        from .data_stats import stats

        return stats(arguments)
    if arguments.action == "peek":
        from .data_peek import peek

        return peek(arguments)
    if arguments.action == "mix":
        from .data_mix import mix_command

        return mix_command(arguments)
    from .data_files import export, import_

    return export(arguments) if arguments.action == "export" else import_(arguments)


def _tokenize(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    parser.add_argument("--name", help="what to call the tokens (default: the recipe's name, or the file's)")
    work_arguments(parser)


def _stats(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    text = "row lengths to compare (default: powers of two around the lengths of the documents)"
    parser.add_argument("--seq-len", type=_numbers, metavar="N,N", help=text)
    parser.add_argument("--longest", type=int, default=5, metavar="N", help="how many of the longest documents to show")
    parser.add_argument("--rejects", action="store_true", help="list the rows that could not be used")
    parser.add_argument(
        "--vocabulary", action="store_true", help="how the tokens spread over the vocabulary, and which size would do"
    )
    parser.add_argument("--svg", metavar="FILE", help="draw the lengths into a file")
    _quiet(parser)


def _peek(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--row", type=int, metavar="N", help="document number N; with `--packed`, row N of the run")
    which.add_argument("--step", type=int, metavar="N", help="the rows of step N, as the loader gives them")
    which.add_argument("--id", metavar="ROW_ID", help="the documents that were made from this row")
    parser.add_argument("--packed", action="store_true", help="a packed row as the loader gives it, borders shown")
    parser.add_argument("--source", metavar="NAME", help="of this source, where the target has several")
    parser.add_argument("--rows", type=positive, default=4, metavar="N", help="how many to show (default: 4)")
    text = "one token a line: position, id, weight, role, text"
    parser.add_argument("--table", action="store_true", help=text)
    _loading(parser)
    _quiet(parser)


def _mix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", nargs="?", metavar="MIX", help="the name of a mix, or its file")
    _making(parser)
    parser.add_argument("--list", action="store_true", help="the mixes that have a name")
    parser.add_argument("--schema", action="store_true", help="the JSON Schema of mix files, for editors")
    parser.add_argument("--plan", action="store_true", help="what the loader would give; makes nothing")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=positive, metavar="N", help="length of the run that is planned")
    length.add_argument("--tokens", type=_amount, metavar="N", help="the same in tokens: 500000, 2M, 10B")
    _loading(parser)
    work_arguments(parser)


def _export(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    parser.add_argument("path", metavar="PATH", help="a folder; for Megatron the files' name without `.bin`")
    parser.add_argument("--format", choices=_FORMATS, required=True, help="megatron, olmo or arrow")
    parser.add_argument(
        "--without-weights", action="store_true", help="leave out loss weights that the format has no place for"
    )
    _quiet(parser)


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", help="a file, a folder, or Megatron's name without `.bin`")
    parser.add_argument("--format", choices=_FORMATS, required=True, help="megatron, olmo or arrow")
    parser.add_argument("--tokenizer", metavar="NAME", required=True, help="the one that made the ids")
    parser.add_argument("--name", help="what to call the tokens (default: the file's name)")
    parser.add_argument("--folder", metavar="FOLDER", default=FOLDER, help=f"the session folder (default: {FOLDER})")
    _quiet(parser)


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="TARGET", help="tokens, rows, a recipe or a mix (see `stillhouse data --help`)"
    )
    _making(parser)


def _making(parser: argparse.ArgumentParser) -> None:
    text = f"the session folder (default: the recipe's `output`, or {FOLDER})"
    parser.add_argument("--folder", metavar="FOLDER", help=text)
    text = "change one value of the recipe or mix; may be given several times"
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="PLACE=VALUE", help=text)
    group = parser.add_argument_group("for files of rows")
    group.add_argument("--tokenizer", metavar="NAME", help="a name on the hub, or a folder")
    text = "a column of text, every token of which counts; may be given several times"
    group.add_argument("--text", action="append", metavar="COLUMN", help=text)
    group.add_argument("--template", metavar="TEMPLATE", help="conversations: `chat`, or a chat template")
    group.add_argument("--max-length", type=positive, metavar="N", help="reject longer documents, in tokens")


def _loading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how rows are made (default: as the mix, or what packed the tokens, says)")
    group.add_argument("--seq-len", type=positive, metavar="N", help="tokens of a row (default: 1024)")
    group.add_argument("--batch-size", type=positive, metavar="N", help="rows of a step (default: 16)")
    group.add_argument("--packing", metavar="METHOD", help="best_fit, windows, stream, concat or one")
    group.add_argument("--seed", type=int, metavar="N", help="of the order of rows (default: 0)")


def _quiet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def _numbers(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


_numbers.__name__ = "list of whole numbers"


def _amount(text: str) -> int:
    """500000, 500k, 2M, 10B."""
    units = {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
    unit = units.get(text[-1:], 1)
    number = float(text[:-1] if unit > 1 else text) * unit
    if not 0.5 < number < 1e18:
        raise argparse.ArgumentTypeError(f"{text} is not from 1 to 1e18")
    return round(number)


_amount.__name__ = "number of tokens"
