"""Replies that must follow a JSON Schema."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field, field_validator

from ..core.part import Part
from .json_fields import parse_json
from .verdict import Verdict


class SchemaVerifier(Part, tag="measure.schema_verifier/1"):
    """Accepts replies that are JSON and follow `response`, a JSON Schema (2020-12) or a pydantic model class."""

    response: dict[str, Any] = Field(description="JSON Schema; a pydantic model class is turned into its schema")

    @field_validator("response", mode="before")
    @classmethod
    def _schema(cls, given: object) -> object:
        return given.model_json_schema() if isinstance(given, type) and issubclass(given, BaseModel) else given

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        from ._schema import first_error

        try:
            value = parse_json(reply)
        except ValueError as error:
            return Verdict(False, f"the reply is not JSON: {error}")
        error_text = first_error(self.response, value)
        return Verdict(error_text is None, error_text)
