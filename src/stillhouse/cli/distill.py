"""`stillhouse distill`: a dozen examples in, a small measured model out."""

from __future__ import annotations

import argparse

from .parser import Parser


def arguments(parser: Parser) -> None:
    parser.add_argument("--name", required=True, help="what to call it")


def run(arguments: argparse.Namespace) -> int:
    del arguments
    return 0
