"""`stillhouse doctor`: this machine and a session folder, without changing either."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from . import exits
from .output import print_json, size, styled
from .parser import Parser

if TYPE_CHECKING:
    from ..core.store import Store

LOW_DISK = 2e9
LIBRARIES = {
    "core": ("pydantic", "pyarrow", "duckdb", "aiohttp"),
    "train": ("torch", "transformers", "tokenizers", "peft"),
    "hub": ("datasets", "huggingface_hub"),
    "plot": ("matplotlib",),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "note", "problem"]
    text: str
    advice: str | None = None


def arguments(parser: Parser) -> None:
    parser.in_folder()


def run(arguments: argparse.Namespace) -> int:
    folder = Path(arguments.folder)
    findings = [*_machine(), *_libraries(), *_gpu(), *_keys(), *_disk(folder), *_session(folder)]
    if arguments.json:
        print_json([asdict(finding) for finding in findings])
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            style = {"ok": "green", "note": "yellow", "problem": "red"}[finding.state]
            print(f"{styled(f'{finding.state:<7}', style)}  {finding.what:<{width}}  {finding.text}")
            if finding.advice:
                print(f"{'':7}  {'':<{width}}  {finding.advice}")
    return exits.FAILED if any(finding.state == "problem" for finding in findings) else exits.DONE


def _machine() -> Iterator[Finding]:
    from .. import __version__

    yield Finding("stillhouse", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    version = platform.python_version()
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "problem", f"{version} ({sys.executable})")
    yield Finding("machine", "ok", f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors")


def _libraries() -> Iterator[Finding]:
    from importlib import metadata

    for extra, names in LIBRARIES.items():
        found, missing = [], []
        for name in names:
            try:
                found.append(f"{name} {metadata.version(name)}")
            except metadata.PackageNotFoundError:
                missing.append(name)
        text = ", ".join([*found, *(f"no {name}" for name in missing)])
        if missing and extra == "core":
            yield Finding(extra, "problem", text, "Run `pip install stillhouse`.")
        elif missing:
            yield Finding(extra, "note", text, f"`pip install 'stillhouse[{extra}]'` adds what is missing.")
        else:
            yield Finding(extra, "ok", text)


def _gpu() -> Iterator[Finding]:
    try:
        import torch
    except ImportError:
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(number)
            yield Finding(f"cuda:{number}", "ok", f"{properties.name}, {size(properties.total_memory)}")
    elif torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU")
    else:
        yield Finding("gpu", "note", "none that torch can use; training and local models run on the processor")


def _keys() -> Iterator[Finding]:
    from ..calls.credentials import Credentials
    from ..calls.endpoint import HOSTS

    credentials = Credentials.from_environment()
    names = sorted({name for host in HOSTS.values() for name in host.keys})
    found = [name for name in names if credentials.get(name)]
    absent = [name for name in names if name not in found]
    if found:
        yield Finding("keys", "ok", f"set: {', '.join(found)}; not set: {', '.join(absent)}")
    else:
        yield Finding("keys", "note", f"none set of {', '.join(absent)}", "Models on this machine need none.")


def _disk(folder: Path) -> Iterator[Finding]:
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(place).free
    state: Literal["ok", "problem"] = "ok" if free > LOW_DISK else "problem"
    yield Finding("disk", state, f"{size(free)} free where `{folder}` is", None if state == "ok" else "Free some room.")
    if not os.access(place, os.W_OK):
        yield Finding("disk", "problem", f"`{place}` cannot be written", "Choose another folder with `--folder`.")


def _session(folder: Path) -> Iterator[Finding]:
    if not (folder / "artifacts-v1").is_dir():
        yield Finding("store", "note", f"`{folder}` is not a session folder yet")
        return
    from ..core.store import Store

    store = Store(folder)
    yield from _artifacts(store)
    yield from _names(store)
    yield from _links(store)
    yield from _work(store)
    yield from _call_cache(store)


def _artifacts(store: Store) -> Iterator[Finding]:
    from ..core.store import damage, read_record

    sound, num_bytes = 0, 0
    for folder in sorted(store.artifacts.glob("*/*")):
        record = read_record(folder)
        found = "its record cannot be read" if record is None else damage(folder, record)
        if found is None and record is not None:
            sound += 1
            num_bytes += sum(entry["size"] for entry in record["files"])
        else:
            advice = "It is set aside and made again when it is needed next."
            yield Finding("artifact", "problem", f"{folder.name[:12]}: {found}", advice)
    yield Finding("artifacts", "ok", f"{sound:,} as they were written, {size(num_bytes)}")
    aside = list((store.folder / "set-aside-v1").glob("*"))
    if aside:
        text = f"{len(aside)} results were set aside, damaged or made again"
        yield Finding("set aside", "note", text, "`stillhouse gc` removes them.")


def _names(store: Store) -> Iterator[Finding]:
    from ..core.errors import StoreError
    from ..core.names import Names

    names = Names(store)
    for path in sorted((store.folder / "names").glob("*.json")):
        try:
            entry = names.find(path.stem)
        except StoreError as error:
            yield Finding("name", "problem", error.message, error.hint)
            continue
        if entry is not None and not store.has(entry.build_key):
            yield Finding("name", "note", f"`{entry.name}` points to a result that is gone", "Run its recipe again.")


def _links(store: Store) -> Iterator[Finding]:
    places = [path for path in store.folder.iterdir() if path.is_symlink() or not path.is_dir()]
    folders = (path for path in store.folder.iterdir() if path.is_dir() and not path.is_symlink())
    places += [path for folder in folders if not folder.name.endswith("-v1") for path in folder.iterdir()]
    dangling = [
        str(path.relative_to(store.folder)) for path in sorted(places) if path.is_symlink() and not path.exists()
    ]
    if dangling:
        told = ", ".join(dangling[:5]) + (" …" if len(dangling) > 5 else "")
        yield Finding(
            "links", "note", f"{len(dangling)} lead to results that are gone: {told}", "Run again, or delete."
        )


def _work(store: Store) -> Iterator[Finding]:
    from filelock import FileLock, Timeout

    from ..core.journal import Journal

    begun = [path for path in store.work.iterdir() if path.is_dir()]
    held = []
    for path in sorted(store.work.glob("*.lock")):
        if path.name.startswith(("lease-", "gc")):
            continue
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
            lock.release()
        except Timeout:
            held.append(path.stem[:12])
    if held:
        yield Finding("locks", "note", f"{len(held)} held by living sessions: {', '.join(held)}")
    if begun:
        yield Finding("work", "note", f"{len(begun)} unfinished steps", "The same command goes on with them.")
    for path in sorted(store.work.glob("*/scratch/**/*.jsonl")):
        lines = path.read_bytes().count(b"\n")
        torn = not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
        whole = sum(1 for _ in Journal(path).entries())
        if path.name in ("journal.jsonl", "calls.jsonl") and (torn or whole < lines):
            where = path.relative_to(store.work)
            yield Finding(
                "journal", "note", f"`{where}` is whole for {whole:,} of {lines + torn:,} lines", "The rest is redone."
            )


def _call_cache(store: Store) -> Iterator[Finding]:
    import sqlite3
    from contextlib import closing

    path = store.folder / "calls-v1" / "calls.sqlite"
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            (number,) = connection.execute("SELECT count(*) FROM replies").fetchone()
    except sqlite3.Error as error:
        verdict, number = str(error), 0
    if verdict == "ok":
        yield Finding("calls", "ok", f"{number:,} replies kept, {size(path.stat().st_size)}")
    else:
        advice = "It is moved aside when it is used next, and calls are made again."
        yield Finding("calls", "problem", f"`{path}` is damaged: {verdict}", advice)
