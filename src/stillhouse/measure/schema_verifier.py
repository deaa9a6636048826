"""Replies that must follow a JSON Schema."""

from collections.abc import Mapping
from typing import Any

from ..core.part import Part
from ..text.schema import Misfit, Schema
from .json_fields import parse_json
from .verdict import Verdict


class SchemaVerifier(Part, tag="measure.schema_verifier/1"):
    """Accepts replies that are JSON and follow `response`, a JSON Schema (2020-12) or a pydantic model class.

    They are held to it as the replies of a teacher are: formats and a model's own validators count.
    """

    response: Schema

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        try:
            self.response.check(parse_json(reply))
        except Misfit as problem:
            return Verdict(False, str(problem))
        except ValueError as error:
            return Verdict(False, f"the reply is not JSON: {error}")
        return Verdict(True)
