"""Texts in the languages that are wanted."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from ..core.part import Part
from ..measure.verdict import Verdict
from .finding import Finding


class Language(Part, tag="curate.language/1"):
    """The text must be in one of `languages` (ISO 639 codes: `en`, `de`, `zh`), told with at least `confidence`.

    As a rule of `Quality`, or as a verifier of `Keep`. It is told offline by the fastText model lid.176 (Joulin et al.
    2016; 176 languages, its small form, which comes with the library) of the extra `curate`; the first 10,000
    characters decide. Of one or two words nobody can tell: the confidence is low then.
    """

    languages: tuple[str, ...] = Field(min_length=1)
    confidence: float = Field(0.5, ge=0, le=1)

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        given = (value,) if isinstance(value, str) else value
        for code in given:
            if not (isinstance(code, str) and 2 <= len(code) <= 3 and code.isascii() and code.islower()):
                raise ValueError(f"{code!r} is no language code: write `en`, `de`, `zh`")
        return given

    def check(self, text: str) -> Finding | None:
        from ._language import told_language

        if not text.strip():
            return Finding("there is no text")
        found = told_language(text)
        share = f"confidence {found.confidence:.2f}"
        if found.code not in self.languages:
            return Finding(f"written in `{found.code}`", share)
        if found.confidence < self.confidence:
            return Finding(f"perhaps not written in `{found.code}`", share)
        return None

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        """As a verifier in `Keep`."""
        del item
        found = self.check(reply)
        return Verdict(True) if found is None else Verdict(False, str(found))
