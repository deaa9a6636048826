"""Named mixes: sources, their weights, what is held out and how rows are made, in a YAML file with a name.

```yaml
description: web pages and code
tokenizer: Qwen/Qwen3-0.6B
sources:
  web: {path: web/*.jsonl, text: text, weight: 0.7}
  code: {path: code.parquet, text: content, weight: 0.3, held_out: 500}
held_out: 0.01          # a share of each source, or a number of rows
seq_len: 2048
```
`mix("fineweb")` takes `mixes/fineweb.yaml` of the working folder before the one that comes with stillhouse, and
`mix("a.yaml")` any file. Relative paths count from the file's folder.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import Field, field_validator, model_validator

from ..core.artifact import Rows, Tokens
from ..core.errors import RecipeError
from ..core.part import Part
from ..core.serial import from_value
from ..core.step import Step
from ..curate.split_apart import SplitApart
from ..rows.combine import Concat
from ..rows.sample import Sample
from ..rows.transform import Map
from ..text.pretrained_tokenizer import tokenizer_step
from ..tokens.mixing import Mixture
from ..tokens.packing import Packing
from ..tokens.source import Source
from ..tokens.tokenize import Tokenize
from ._marked_yaml import read_yaml
from .file import beside, file_text, line_of, set_value

if TYPE_CHECKING:
    from ..core.session import Session
    from ..tokens.loader import Loader

SHIPPED = Path(__file__).parent / "mixes"
OWN = Path("mixes")
_RAILS = ("policy", "share", "floors", "ceilings", "max_epochs", "max_change")
"""Fields that go to the `Mixture` as they are."""


class MixSource(Part, tag="recipes.mix_source/1"):
    """One source: the fields of `Source`, or `tokens` (a step that makes them), with its weight."""

    read: Any = Field(description="a `Source`, or a step that makes tokens")
    weight: float | None = Field(None, ge=0, description="its share; relative to the others")
    held_out: float | None = Field(
        None, ge=0, description="a share of its rows, or their number; None: as the mix says"
    )
    compare: tuple[str, ...] | None = Field(
        None, min_length=1, description="columns in which rows are alike; None: those of the text, or `messages`"
    )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, fields: Any) -> Any:
        """What stands flat in a file, as `read`."""
        if not isinstance(fields, dict) or "read" in fields:
            return fields
        own = [name for name in cls.model_fields if name != "read"]
        known = [*own, *Source.model_fields, "tokens"]
        for name in fields:
            if name not in known:
                raise RecipeError(f"`{name}` is not a field of a source", _suggestion(name, known), where=name)
        rest = {name: value for name, value in fields.items() if name not in own}
        read = rest["tokens"] if "tokens" in rest else Source(**rest)
        return {"read": read, **{name: fields[name] for name in own if name in fields}}

    @field_validator("compare", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_readable(self) -> MixSource:
        made = isinstance(self.read, Step) and issubclass(self.read.makes(), Tokens)
        if not made and not isinstance(self.read, Source):
            raise RecipeError(
                f"{self.read!r:.80} is no source", "Give `path` or `rows`, with `text` or `template`; or `tokens`."
            )
        return self

    def tokens(self, tokenizer: Any) -> Step[Tokens]:
        """The step that makes the tokens of all rows."""
        if not isinstance(self.read, Source):
            made: Step[Tokens] = self.read
            return made
        if tokenizer is None:
            raise RecipeError(
                "the mix names no tokenizer",
                "Write `tokenizer:` into its file, or give one (`tokenizer=`, `--tokenizer`).",
            )
        return self.read.tokens(tokenizer)


class Probe(Part, tag="recipes.probe/1"):
    """A small set that stands for a domain, drawn from what some sources hold out."""

    sources: tuple[str, ...] = Field(min_length=1)
    rows: int = Field(2000, ge=1, description="of each of its sources, at most")

    @field_validator("sources", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class Compared(Part, tag="recipes.compared/1"):
    """The columns of a row under other names, so that two sources can be compared."""

    columns: tuple[str, ...]
    names: tuple[str, ...]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        values = [row.get(column) for column in self.columns]
        if len(values) != len(self.names):
            texts = [value if isinstance(value, str) else orjson.dumps(value, default=str).decode() for value in values]
            values = ["\n".join(texts), *[None] * (len(self.names) - 1)]
        return dict(zip(self.names, values, strict=True))


class Mix(Part, tag="recipes.mix/1"):
    """A mix of sources, as its file says: `training`, `testing` and `probe_sets` are mixtures of steps.

    `loader()` reads the training part, `Finetune(tokens=mix.training, held_out=mix.testing)` trains on it.
    """

    description: str = ""
    sources: Mapping[str, MixSource] = Field(min_length=1)
    weights: Mapping[str, float] = Field({}, description="in place of the weights of these sources")
    tokenizer: Any = Field(None, description="a hub name, a folder, or a step")
    held_out: float = Field(0, ge=0, description="of each source: a share of its rows if below 1, else their number")
    alike: float = Field(0.6, gt=0, le=1, description="rows that are so alike go to the same part (as `SplitApart`)")
    probes: Mapping[str, Probe] = Field({}, description="domains, from what is held out")
    policy: Any = Field(None, description="what decides the weights in their place, for instance `tokens.schedule`")
    share: Literal["rows", "tokens"] = Field("rows", description="what the weights are shares of")
    floors: Mapping[str, float] = Field({}, description="the least share of a source, from 0 to 1")
    ceilings: Mapping[str, float] = Field({}, description="the greatest share of a source, from 0 to 1")
    max_epochs: Any = Field(4.0, description="how often a source may be read; None: any number of times")
    max_change: float | None = Field(None, gt=0, le=1, description="the most that a share moves at once")
    seq_len: int = Field(1024, ge=8, description="tokens of a row")
    batch_size: int = Field(16, ge=1, description="rows of a step, all ranks together")
    packing: Packing = Field(default_factory=Packing)
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        for name, kind in (("sources", MixSource), ("probes", Probe)):
            if isinstance(fields.get(name), Mapping):
                fields[name] = {key: _part(kind, value, f"{name}.{key}") for key, value in fields[name].items()}
        if isinstance(fields.get("packing"), str):
            fields["packing"] = _part(Packing, {"method": fields["packing"]}, "packing")
        return fields

    @model_validator(mode="after")
    def _fits(self) -> Mix:
        for field in ("weights", "floors", "ceilings", "max_epochs"):
            named = getattr(self, field)
            for name in named if isinstance(named, Mapping) else ():
                if name not in self.sources:
                    hint = _suggestion(name, list(self.sources))
                    raise RecipeError(f"Mix: no source is called `{name}`", hint, where=f"{field}.{name}")
        given = self._given_weights()
        if given and self.policy is not None:
            raise RecipeError(
                f"Mix: there are a policy and weights (of {_listed(given)})", "Leave out one of them.", where="policy"
            )
        if given and (missing := [name for name in self.sources if name not in given]):
            raise RecipeError(
                f"Mix: {_listed(missing)} has no weight, and others have one",
                "Give each source a weight (0 keeps it at hand), or none.",
                where=f"sources.{missing[0]}",
            )
        for domain, probe in self.probes.items():
            for name in probe.sources:
                place = f"probes.{domain}"
                if name not in self.sources:
                    raise RecipeError(
                        f"Mix: the probe `{domain}` names `{name}`, and no source is called that",
                        _suggestion(name, list(self.sources)),
                        where=place,
                    )
                if not self.held_out_of(name):
                    raise RecipeError(
                        f"Mix: the probe `{domain}` needs held-out rows of `{name}`, and there are none",
                        f"Give `held_out` for `{name}`, or for all.",
                        where=place,
                    )
        return self

    def held_out_of(self, source: str) -> float:
        """What is held out of a source: a share of its rows, or their number."""
        own = self.sources[source].held_out
        return self.held_out if own is None else own

    @property
    def training(self) -> Mixture:
        """What is learnt: all rows but those held out and what is like them."""
        rails = {name: getattr(self, name) for name in _RAILS if name in self.model_fields_set}
        parts = {name: self._part(name, "train") for name in self.sources}
        return Mixture(parts, self._given_weights() or None, **rails)

    @property
    def testing(self) -> Mixture | None:
        """What is held out, source by source; None where nothing is."""
        found = {name: self._part(name, "test") for name in self.sources if self.held_out_of(name)}
        return Mixture(found, max_epochs=None) if found else None

    @property
    def probe_sets(self) -> dict[str, Mixture]:
        """The probe set of each domain."""
        return {domain: self._probe(probe) for domain, probe in self.probes.items()}

    @property
    def options(self) -> dict[str, Any]:
        """What `get_loader` takes beside the mixture."""
        return {name: getattr(self, name) for name in ("seq_len", "batch_size", "packing", "seed")}

    def loader(self, *, session: Session | None = None, **options: Any) -> Loader:
        """The loader over the training part; `options` go to `get_loader` (ranks, state, other lengths)."""
        from ..tokens.loader import get_loader

        return get_loader(self.training, session=session, **{**self.options, **options})

    def testing_loaders(self, *, session: Session | None = None, **options: Any) -> dict[str, Loader]:
        """A loader over the held-out rows of each source, for `loader.once()`: the loss of each source by itself."""
        testing = self.testing
        return {} if testing is None else self._each(testing, session, options)

    def probe_loaders(self, *, session: Session | None = None, **options: Any) -> dict[str, dict[str, Loader]]:
        """A loader over each source of each domain's probe set."""
        return {domain: self._each(probe, session, options) for domain, probe in self.probe_sets.items()}

    def _each(self, mixture: Mixture, session: Session | None, options: Mapping[str, Any]) -> dict[str, Loader]:
        from ..tokens.loader import get_loader

        whole = {**self.options, "packing": Packing(too_long=self.packing.too_long), "shuffle": False, **options}
        return {name: get_loader(source, session=session, **whole) for name, source in mixture.sources.items()}

    def _given_weights(self) -> dict[str, float]:
        own = {name: source.weight for name, source in self.sources.items() if source.weight is not None}
        return {**own, **self.weights}

    def _tokens(self, name: str) -> Step[Tokens]:
        return self.sources[name].tokens(self.tokenizer)

    def _part(self, name: str, part: str) -> Step[Tokens]:
        """The tokens of one side of a source: all rows where nothing is held out."""
        tokens = self._tokens(name)
        split = self._split(name)
        return tokens if split is None else tokens.replace(rows=split.output(part))

    def _split(self, name: str) -> SplitApart | None:
        wanted = self.held_out_of(name)
        if not wanted:
            return None
        tokens, columns = self._rows(name), self._compared(name)
        others = [self._as(other, columns) for other in self.sources if self._is_comparable(name, other)]
        known = None if not others else others[0] if len(others) == 1 else Concat(rows=tuple(others))
        return SplitApart(
            rows=tokens.rows, test_size=wanted, columns=columns, threshold=self.alike, known=known, seed=self.seed
        )

    def _rows(self, name: str) -> Tokenize:
        tokens = self._tokens(name)
        if not isinstance(tokens, Tokenize):
            raise RecipeError(
                f"Mix: rows of `{name}` cannot be held out, for it is given as tokens",
                "Give its rows (`path`, or `rows`), or `held_out: 0` for it.",
                where=f"sources.{name}",
            )
        return tokens

    def _compared(self, name: str) -> tuple[str, ...]:
        return self.sources[name].compare or self._rows(name).text or ("messages",)

    def _is_comparable(self, name: str, other: str) -> bool:
        """Texts are compared with texts and conversations with conversations."""
        tokens = self._tokens(other)
        return (
            other != name and isinstance(tokens, Tokenize) and (tokens.text is None) == (self._rows(name).text is None)
        )

    def _as(self, other: str, columns: tuple[str, ...]) -> Step[Rows]:
        """The rows of another source with what is compared in these columns."""
        rows, own = self._rows(other).rows, self._compared(other)
        return rows if own == columns else Map(rows=rows, function=Compared(columns=own, names=columns))

    def _probe(self, probe: Probe) -> Mixture:
        found = {}
        for name in probe.sources:
            split = self._split(name)
            if split is not None:
                few = Sample(rows=split.test, size=probe.rows, seed=self.seed)
                found[name] = self._tokens(name).replace(rows=few)
        return Mixture(found, max_epochs=None)


def mix(name: str | os.PathLike[str], changes: Sequence[str] = (), **fields: Any) -> Mix:
    """The mix of a name or a file; `fields` replace those of the file: `mix("fineweb", seq_len=512)`.

    `weights` replaces the weights of the sources that it names. `changes` are texts as `--set` takes them
    (`sources.web.held_out=100`). Raises `RecipeError` naming file, line and field.
    """
    file = find_mix(name)
    marked = read_yaml(file_text(file), str(file))
    lines = {place: f"{file}:{line}" for place, line in marked.lines.items()}
    try:
        document = marked.value
        if not isinstance(document, dict) or not isinstance(document.get("sources"), dict):
            raise RecipeError(
                "a mix is a mapping with `sources`", "For instance `sources: {web: {path: …, text: text}}`."
            )
        for change in changes:
            place, equals, text = change.partition("=")
            if not equals or not place:
                raise RecipeError(f"`--set {change}` sets nothing", "Write it as `--set weights.web=0.5`.")
            set_value(document, place.split("."), text, f"--set {change}", lines)
        return beside(file.parent)(_built(document, fields))
    except RecipeError as error:
        found = line_of(lines, error.where) or str(file)
        raise RecipeError(f"{found}: {error.message}", error.hint, where=error.where) from error.__cause__


def _built(document: Mapping[str, Any], fields: Mapping[str, Any]) -> Mix:
    nodes = document.get("nodes") or {}
    known = [*Mix.model_fields, "nodes"]
    for key in document:
        if key not in known:
            raise RecipeError(f"`{key}` is not a key of a mix", _suggestion(key, known), where=key)
    values = {key: from_value(value, nodes, key) for key, value in document.items() if key != "nodes"}
    if isinstance(tokenizer := values.get("tokenizer"), str):
        values["tokenizer"] = tokenizer_step(tokenizer)  # as a step, a folder counts from the file's as well
    if fields.get("weights"):
        fields = {**fields, "weights": {**(values.get("weights") or {}), **fields["weights"]}}
    return Mix(**{**values, **fields})


def find_mix(name: str | os.PathLike[str]) -> Path:
    """The file of a mix: a path, one in `mixes/` of the working folder, or one that comes with stillhouse."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.parent != Path("."):
        return path
    for folder in (OWN, SHIPPED):
        if (file := folder / f"{path.name}.yaml").is_file():
            return file
    known = [entry.stem for entry in mix_files()]
    raise RecipeError(f"there is no mix `{path.name}`", _suggestion(path.name, known))


def mix_files() -> Iterator[Path]:
    """The files of all mixes that have a name: own ones, then those that come with stillhouse."""
    seen: set[str] = set()
    for folder in (OWN, SHIPPED):
        for file in sorted(folder.glob("*.yaml")):
            if file.stem not in seen:
                seen.add(file.stem)
                yield file


def _part(kind: type[Part], value: Any, where: str) -> Any:
    """A part from what stands in a file, with the place in its error."""
    if isinstance(value, kind):
        return value
    if kind is Probe and isinstance(value, str | list | tuple):
        value = {"sources": value}
    if not isinstance(value, Mapping):
        raise RecipeError(f"`{where}` is {value!r:.80}, expected a mapping", where=where)
    try:
        return kind(**value)
    except RecipeError as error:
        raise RecipeError(
            f"in `{where}`: {error.message}", error.hint, where=f"{where}.{error.where}" if error.where else where
        ) from None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _suggestion(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(known)}."
