"""Finding results and walking the records behind them."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.artifact import Artifact
    from ..core.store import Store

_KEY = re.compile(r"[0-9a-f]{6,32}")


def key_of(store: Store, target: str) -> str:
    """The build key of a name, or of the beginning of a key; raises `RecipeError` with what is near."""
    from ..core.errors import RecipeError
    from ..core.names import Names

    names = Names(store)
    known = names.find(target)
    if known is not None:
        return known.build_key
    if _KEY.fullmatch(target):
        found = sorted(path.name for path in store.artifacts.glob(f"{target[:2]}/{target}*"))
        if len(found) > 1:
            raise RecipeError(f"{len(found)} results begin with `{target}`", "Give more digits.")
        if found:
            return found[0]
    return names.need(target).build_key


def find(store: Store, target: str, output: str | None = None) -> Artifact:
    """The artifact of a name or key, or one of its outputs; raises where it is gone."""
    from ..core.errors import RecipeError, StoreError

    artifact = store.open(key_of(store, target))
    if artifact is None:
        raise StoreError(f"the result of `{target}` is not there any more", "Run its recipe again to make it anew.")
    outputs = list(artifact.record.get("outputs", {}))
    if output is not None and output not in outputs:
        raise RecipeError(f"`{target}` has no output `{output}`", f"Its outputs: {', '.join(outputs) or 'none'}.")
    return artifact if output is None else store.output(artifact, output)


def ancestry(store: Store, key: str) -> list[dict[str, Any]]:
    """The records of a result and of everything it was made from, inputs first; what is gone is left out."""
    from ..core.store import read_record

    found: dict[str, dict[str, Any]] = {}

    def visit(build_key: str) -> None:
        record = read_record(store.artifact_folder(build_key))
        if record is None or build_key in found:
            return
        for entry in record["inputs"]:
            visit(entry["build_key"])
        found.setdefault(build_key, record)

    visit(key)
    return list(found.values())


def records_behind(store: Store, name: str) -> list[dict[str, Any]]:
    """The records to which the recipes behind a name led when it was last run, inputs first; what is gone is left out.

    They are those of that run: content that was there already may once have been made another way (`ancestry`).
    """
    from ..core.names import Names
    from ..core.store import read_record

    found: dict[str, str] = {}

    def visit(recipe_key: str) -> None:
        entry = store.entry(recipe_key)
        if entry is None or recipe_key in found:
            return
        for earlier, _, _ in entry["inputs"]:
            visit(earlier)
        found.setdefault(recipe_key, entry["build_key"])

    visit(Names(store).need(name).recipe_key)
    keys = dict.fromkeys(found.values())
    return [record for key in keys if (record := read_record(store.artifact_folder(key)))]


def failures(records: list[dict[str, Any]]) -> dict[str, int]:
    """Rows that failed, by step; only steps with any."""
    found: Counter[str] = Counter()
    for record in records:
        found[record["tag"]] += record.get("counts", {}).get("failed", 0)
    return {tag: number for tag, number in found.items() if number}


def unanswered(records: list[dict[str, Any]]) -> int:
    """Rows, among those that failed, that got no answer and are asked again by the next run."""
    return sum(record.get("counts", {}).get("unanswered", 0) for record in records)


def closed_gates(records: list[dict[str, Any]]) -> list[str]:
    """Steps that judged the result and did not let it pass."""
    return [record["tag"] for record in records if record.get("facts", {}).get("passed") is False]
