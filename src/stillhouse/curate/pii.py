"""Personal data and secrets in texts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.outcome import KEEP, Drop, Emit, Outcome, Row, content_of
from ..core.part import Part
from ..core.step import Mapper, MapStep
from ..measure.verdict import Verdict
from ..rows.named import Columns
from ..rows.transform import missing_column
from .finding import Finding, plain_text

PiiKind = Literal["email", "phone", "iban", "credit_card", "ip", "secret", "national_id"]
KINDS: tuple[PiiKind, ...] = ("email", "phone", "iban", "credit_card", "ip", "secret", "national_id")
NAMES = {
    "email": "an e-mail address",
    "phone": "a phone number",
    "iban": "a bank account",
    "credit_card": "a credit card",
    "ip": "an IP address",
    "secret": "a key or token",
    "national_id": "a national id",
}


class NoPii(Part, tag="curate.no_pii/1"):
    """The text must hold no personal data or secret of `kinds`.

    As a rule of `Quality`, or as a verifier of `Keep`. What is looked for, and how, is said in `Pii`. What is found is
    told by kind and place, never in full.
    """

    kinds: tuple[PiiKind, ...] = Field(KINDS, min_length=1)

    def check(self, text: str) -> Finding | None:
        from ._pii import found_pii

        found = found_pii(text, self.kinds)
        if not found:
            return None
        kinds = list(dict.fromkeys(NAMES[one.kind] for one in found))
        places = ", ".join(f"{one.what} at {one.start}" for one in found[:5])
        return Finding(f"holds {' and '.join(kinds)}", places + (f" and {len(found) - 5} more" if found[5:] else ""))

    def __call__(self, item: Mapping[str, Any], reply: str) -> Verdict:
        """As a verifier in `Keep`."""
        del item
        found = self.check(reply)
        return Verdict(True) if found is None else Verdict(False, str(found))


class Pii(MapStep, tag="curate.pii/1"):
    """Rows with personal data or secrets dropped, marked or redacted.

    `drop` drops such a row and tells kinds and places; `redact` puts `[email]`, `[phone]` and so on in its place, in
    every text of `columns`, conversations included; `mark` adds the column `pii` with the kinds that were found, in
    their order, separated by spaces.

    Found are: e-mail addresses; phone numbers in international form, North American ones, and those that begin with 0
    and are written in groups; IBANs whose country, length and check digits are right; credit cards whose issuer, length
    and Luhn digit are; public IP addresses (v4, v6); keys and tokens of well-known services, private keys, and what a
    text itself calls a key, password or token; national ids with their check digits (US SSN, UK NINO, French NIR,
    Spanish DNI and NIE, Italian codice fiscale, Polish PESEL, Swedish personnummer, Brazilian CPF, Swiss AHV, Indian
    Aadhaar; German Steuer-ID and Dutch BSN where the text names them). Names and postal addresses are not: rules cannot
    tell them.
    """

    columns: Columns
    kinds: tuple[PiiKind, ...] = Field(KINDS, min_length=1)
    action: Literal["drop", "mark", "redact"] = "redact"

    def mapper(self, context: Context) -> Mapper:
        have = context.get(self.rows).columns
        for name in self.columns:
            if have and name not in have:
                raise missing_column("Pii", name, have)
        if self.action == "mark" and "pii" in have:
            raise RecipeError("Pii: there is a column `pii` already", "Rename it first.")
        act = {"drop": self._dropped, "mark": self._marked, "redact": self._redacted}[self.action]
        return lambda rows: self._all(rows, act)

    def summary(self, made: Rows) -> Mapping[str, Any]:
        """Of `drop` how many rows each reason dropped, of `mark` in how many rows each kind was found, of `redact` how
        often `[kind]` stands in the rows now."""
        from ._reasons import dropped_by_reason

        if self.action == "drop":
            return {"dropped_by": dropped_by_reason(made)}
        if self.action == "redact":
            return {"redacted": self._marks(made)}
        found = Counter(kind for row in made for kind in row["pii"].split())
        return {"rows_with": {kind: found[kind] for kind in self.kinds if found[kind]}}

    def _marks(self, made: Rows) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for row in made:
            text = "\n".join(plain_text(row[name]) for name in self.columns)
            counts.update({kind: text.count(f"[{kind}]") for kind in self.kinds})
        return {kind: counts[kind] for kind in self.kinds if counts[kind]}

    def _all(self, rows: Sequence[Row], act: Any) -> list[Outcome]:
        return [act(row) for row in rows]

    def _dropped(self, row: Row) -> Outcome:
        found = NoPii(kinds=self.kinds).check("\n".join(plain_text(row[name]) for name in self.columns))
        return KEEP if found is None else Drop(*found)

    def _marked(self, row: Row) -> Outcome:
        from ._pii import found_pii

        found = found_pii("\n".join(plain_text(row[name]) for name in self.columns), self.kinds)
        return Emit([{**content_of(row), "pii": " ".join(dict.fromkeys(one.kind for one in found))}])

    def _redacted(self, row: Row) -> Outcome:
        from ._pii import redacted

        content = content_of(row)
        clean = {name: _in_texts(content[name], lambda text: redacted(text, self.kinds)) for name in self.columns}
        return KEEP if all(clean[name] == content[name] for name in clean) else Emit([{**content, **clean}])


def _in_texts(value: Any, change: Any) -> Any:
    """The value with every text in it changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list | tuple):
        return [_in_texts(one, change) for one in value]
    if isinstance(value, Mapping):
        return {name: _in_texts(one, change) for name, one in value.items()}
    return value
