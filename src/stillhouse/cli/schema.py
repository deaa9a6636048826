"""`stillhouse schema`: the JSON Schema of recipe files."""

from __future__ import annotations

import argparse

from . import exits
from .output import print_json

DESCRIPTION = """
Save it and name it in the first line of a recipe, where editors that know YAML find it:

  # yaml-language-server: $schema=stillhouse.schema.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = DESCRIPTION


def run(arguments: argparse.Namespace) -> int:
    from ..recipes.file_schema import file_schema

    del arguments
    print_json(file_schema())
    return exits.DONE
