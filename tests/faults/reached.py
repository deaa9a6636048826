"""What a name in a store leads to: every artifact behind it, file by file."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stillhouse.core.names import Names
from stillhouse.core.store import Store, read_record

TELLING = ("publish.report/2", "recipes.deliver/1")
"""Steps whose result tells of the run too, its seconds and its bill: in a page, which differs, and beside it."""
PAGES = ("report.html", "report.json")


def reached(folder: Path, name: str) -> dict[str, str]:
    """Digests of all files (records and pages aside) of the artifacts that `name` rests on, by `tag/key/path`."""
    store = Store(folder)
    waiting, seen = [Names(store).need(name).build_key], set[str]()
    found: dict[str, str] = {}
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        place = store.artifact_folder(key)
        record = read_record(place)
        assert record is not None, key
        waiting += [entry["build_key"] for entry in record["inputs"]]
        told = record["tag"] in TELLING
        for path in sorted(place.rglob("*")):
            if path.is_file() and path != place / "record.json" and not (told and path.name in PAGES):
                label = record["tag"] if told else f"{record['tag']}/{key}"
                found[f"{label}/{path.relative_to(place).as_posix()}"] = hashlib.blake2b(path.read_bytes()).hexdigest()
    return found
