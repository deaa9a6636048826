"""Which files of a repository on the hub are a data set's split: as its card says, else as its files are called."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..core.errors import RecipeError
from ..core.hub import HubName, commit_of, fetch_files, names_of_files
from ..core.keys import digest_of
from ._files import _NO_DATA, DataFile, Entry, LocalFile, chosen_split
from .place import Format, HubData, Place, format_of, hub_data

_CARD = ("README.md", ".gitattributes")
"""The card, and what nearly every repository has: asking for it tells the commit."""
_CONVERTED = "refs/convert/parquet"
"""The branch in which the hub itself keeps a data set as Parquet: `config/split/0000.parquet`."""
_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What splits are called in the names of files, as the hub's own viewer reads them."""


class Config(NamedTuple):
    """One of the data sets in a repository: its files by split."""

    name: str
    splits: Mapping[str, Sequence[str]]
    default: bool = False


@dataclass(frozen=True)
class HubFile:
    """A file of a commit; fetched into the hub's own cache when it is read."""

    repository: HubName
    file: str
    format: Format

    @property
    def name(self) -> str:
        return f"hf://{self.repository.name}/{self.file}"

    def local(self) -> Path:
        return fetch_files(self.repository, [glob.escape(self.file)]) / self.file


def hub_entry(place: Place, split: str | None) -> Entry:
    """What counts: the commit, which of its data is meant, and the branch where it says how folders are read."""
    data = hub_data(place)
    commit = commit_of(_repository(data), _CARD)
    meant = [commit, data.config or "", split or "", data.files or ""]
    if data.revision == _CONVERTED:
        meant.append(_CONVERTED)
    return Entry(f"{place} at commit {commit[:12]}", digest_of(["hub", *meant]), None)


def hub_files(place: Place, split: str | None) -> Sequence[DataFile]:
    """The files of the split, in order; raises `RecipeError` where it cannot be told which are meant."""
    data = hub_data(place)
    repository = _repository(data)
    commit = commit_of(repository, _CARD)
    at_commit = repository._replace(revision=commit)
    names = names_of_files(repository, commit)
    if data.files is not None:
        found = [name for name in names if matches(name, data.files)]
        if not found:
            raise RecipeError(f"no file of `{data.name}` matches `{data.files}`", f"Its files: {_some(names)}.")
        if split is not None:
            raise RecipeError(f"`{place}` names files, and `split={split!r}` was given too", "Leave one of them out.")
    else:
        card = (fetch_files(at_commit, _CARD) / "README.md") if "README.md" in names else None
        text = card.read_text(encoding="utf-8") if card is not None else ""
        configs = _converted(names) if data.revision == _CONVERTED else configs_of(names, text)
        if not configs:
            return _through_datasets(place, data, commit, split)
        config = _chosen_config(place, configs, data.config)
        found = list(config.splits[chosen_split(str(place), list(config.splits), split)])
    formats = [(name, format_of(name)) for name in found]
    if any(form is None for _, form in formats):
        return _through_datasets(place, data, commit, split)
    return [HubFile(at_commit, name, form) for name, form in formats if form is not None]


def _repository(data: HubData) -> HubName:
    return HubName(data.name, data.revision, "dataset", "Import")


def configs_of(names: Sequence[str], card: str) -> list[Config]:
    """The data sets of a repository: those of its card, else one of all files of data, told apart by their names."""
    listed = _front_matter(card).get("configs")
    found = [_config(entry, names) for entry in listed or [] if isinstance(entry, Mapping)]
    if found:
        return found
    data = _data_names(names)
    return [Config("default", by_split(data))] if data else []


def _converted(names: Sequence[str]) -> list[Config]:
    folders: dict[str, list[str]] = {}
    for name in _data_names(names):
        folders.setdefault(name.partition("/")[0], []).append(name)
    return [Config(folder, by_split(inside)) for folder, inside in folders.items()]


def _front_matter(card: str) -> Mapping[str, Any]:
    match = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(?:\n|$)", card, re.DOTALL)
    if match is None:
        return {}
    try:
        found = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _config(entry: Mapping[str, Any], names: Sequence[str]) -> Config:
    folder = str(entry.get("data_dir") or "").strip("/")
    inside = [name for name in names if not folder or name.startswith(f"{folder}/")]
    given = entry.get("data_files")
    if given is None:
        splits: dict[str, Sequence[str]] = dict(by_split(_data_names(inside)))
    else:
        splits = {
            split: [name for name in names if any(matches(name, _joined(folder, one)) for one in patterns)]
            for split, patterns in _patterns(given).items()
        }
    return Config(str(entry.get("config_name") or "default"), splits, bool(entry.get("default")))


def _joined(folder: str, pattern: str) -> str:
    pattern = pattern.removeprefix("./")
    return f"{folder}/{pattern}" if folder else pattern


def _patterns(given: Any) -> dict[str, list[str]]:
    """`data_files` of a card: a pattern, several, or patterns by split in either of two forms."""
    if isinstance(given, Mapping):
        return {str(split): _texts(patterns) for split, patterns in given.items()}
    entries = given if isinstance(given, list) else [given]
    if entries and all(isinstance(entry, Mapping) for entry in entries):
        return {str(entry.get("split") or "train"): _texts(entry.get("path")) for entry in entries}
    return {"train": _texts(entries)}


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _data_names(names: Sequence[str]) -> list[str]:
    """Files of data, of the commonest format: Parquet wherever there is any."""
    usable = [
        (name, form)
        for name in names
        if (form := format_of(name)) is not None
        and not name.startswith(".")
        and name.rpartition("/")[2] not in _NO_DATA
    ]
    if not usable:
        return []
    counts = Counter(form for _, form in usable)
    chosen = "parquet" if "parquet" in counts else counts.most_common(1)[0][0]
    return [name for name, form in usable if form == chosen]


def by_split(names: Sequence[str]) -> dict[str, list[str]]:
    """Files by the split that their names tell; all are `train` where none tells one."""
    found: dict[str, list[str]] = {}
    for name in names:
        split = _split_in(name)
        if split is not None:
            found.setdefault(split, []).append(name)
    if not found:
        return {"train": list(names)} if names else {}
    return {split: found[split] for split in (*_WORDS, *found) if split in found}


def _split_in(name: str) -> str | None:
    sharded = re.fullmatch(r"data/(\w+(?:\.\w+)*)-[0-9]{5}-of-[0-9]{5}(?:-\w+)*\.\w+", name)
    if sharded is not None:
        return sharded[1]
    *folders, file = name.split("/")
    for part in (*reversed(folders), file.partition(".")[0]):
        words = re.split(r"[^a-z]+", part.lower())
        for split, known in _WORDS.items():
            if any(word in known for word in words):
                return split
    return None


def matches(name: str, pattern: str) -> bool:
    """Whether a file's name matches: `*` within a folder, `**` through folders; a folder means all that is in it."""
    return _regex(pattern.removeprefix("./")).fullmatch(name) is not None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    out = ""
    for part in re.split(r"(\*\*/?|\*|\?|\[[^\]]*\])", pattern):
        if part.startswith("**"):
            out += "(?:.*/)?" if part.endswith("/") else ".*"
        elif part == "*":
            out += "[^/]*"
        elif part == "?":
            out += "[^/]"
        elif part.startswith("[") and part.endswith("]"):
            out += f"[^{part[2:-1]}]" if part[1:2] == "!" else part
        else:
            out += re.escape(part)
    return re.compile(f"{out}(?:/.*)?" if not pattern.rpartition("/")[2].count(".") else out, re.DOTALL)


def _chosen_config(place: Place, configs: Sequence[Config], wanted: str | None) -> Config:
    names = ", ".join(f"`{config.name}`" for config in configs)
    if wanted is not None:
        for config in configs:
            if config.name == wanted:
                return config
        raise RecipeError(f"`{place}` has no config `{wanted}`", f"Its configs: {names}.")
    if len(configs) == 1:
        return configs[0]
    default = [config for config in configs if config.default] or [c for c in configs if c.name == "default"]
    if default:
        return default[0]
    raise RecipeError(f"`{place}` holds several data sets: {names}", f"Say which: `{place}:{configs[0].name}`.")


def _through_datasets(place: Place, data: HubData, commit: str, split: str | None) -> Sequence[DataFile]:
    """What only the library `datasets` can read (text, tar, audio): through the Arrow files that it makes."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"`{place}` holds no Parquet, JSON, CSV or Arrow files, and `datasets` is not installed",
            "`pip install 'stillhouse[hub]'`.",
        ) from error
    try:
        made = datasets.load_dataset(data.name, data.config, revision=commit)
    except Exception as error:  # it passes on whatever its readers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RecipeError(
            f"`{place}` cannot be read: {reason}",
            f"The hub keeps most data sets as Parquet too: `hf://{data.name}@refs/convert/parquet`.",
        ) from error
    chosen = made[chosen_split(str(place), [str(name) for name in made], split)]
    return [LocalFile(Path(file["filename"]), "arrow") for file in chosen.cache_files]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
