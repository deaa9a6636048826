"""JSON Schema checks, with the validator of each schema built once."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from .json_fields import canonical_json


def first_error(schema: Mapping[str, Any], value: Any) -> str | None:  # any JSON value
    """What is wrong with `value` and where, or None."""
    error = best_match(_validator(canonical_json(schema)).iter_errors(value))
    return None if error is None else f"{error.json_path}: {error.message}"


@functools.lru_cache(maxsize=64)
def _validator(schema: str) -> Draft202012Validator:
    plain = json.loads(schema)
    Draft202012Validator.check_schema(plain)
    return Draft202012Validator(plain)
