"""`stillhouse data mix`: what a mix would give, before anything is spent; its tokens made; the mixes with a name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from . import exits
from .data_peek import loader_of
from .data_target import Target, find_target, make, session_for
from .data_tokenize import all_unused, described, sources_table
from .output import print_json, say, styled, table
from .parser import UsageError

if TYPE_CHECKING:
    from ..recipes.mix import Mix
    from ..tokens.loader import Loader
    from ..tokens.store import TokenStore

_POINTS = 32
_SHADES = " ▁▂▃▄▅▆▇█"
_MANY_EPOCHS = 4.0
"""Beyond this, more passes over the same rows teach little (Muennighoff et al. 2023, "Scaling Data-Constrained…")."""


def mix_command(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list(as_json=arguments.json)
    if arguments.schema:
        from ..recipes.file_schema import mix_schema

        print_json(mix_schema())
        return exits.DONE
    if arguments.target is None:
        raise UsageError(
            "stillhouse data mix: name a mix, or its file", "`stillhouse data mix --list` shows those there are."
        )
    target = find_target(arguments)
    if target.mix is None:
        from ..core.errors import RecipeError

        raise RecipeError(f"`{arguments.target}` is no mix", "A mix is a YAML file with `sources`, or the name of one.")
    return _plan(target, arguments) if arguments.plan else _make(target, target.mix, arguments)


def _list(*, as_json: bool) -> int:
    from ..core.errors import RecipeError
    from ..recipes.mix import SHIPPED, mix, mix_files

    found = []
    for file in mix_files():
        place = "stillhouse" if file.parent == SHIPPED else str(file)
        try:
            one = mix(file)
            entry = {"sources": list(one.sources), "description": one.description}
        except RecipeError as error:  # the others are there all the same
            entry = {"sources": [], "description": f"cannot be read: {error.message}"}
        found.append({"name": file.stem, "from": place, **entry})
    if as_json:
        print_json(found)
    else:
        lines = [(entry["name"], ", ".join(entry["sources"]), entry["from"], entry["description"]) for entry in found]
        print(table(lines, ["mix", "sources", "from", "what it is"]))
    return exits.DONE


def _make(target: Target, mix: Mix, arguments: argparse.Namespace) -> int:
    """All tokens of the mix: those that train, those held out."""
    from dataclasses import replace

    from ..tokens.store import TokenStore

    testing = mix.testing
    held_out = {} if testing is None else {f"{name} (held out)": step for name, step in testing.sources.items()}
    with session_for(target, arguments) as session:
        made = make(session, replace(target, steps={**target.steps, **held_out}), arguments)
        unused = all_unused(session.store, made)
    for line in unused:
        say(line)
    entries = {name: {**described(TokenStore(one.data)), "key": one.key} for name, one in made.items()}
    if arguments.json:
        print_json({"name": target.name, "sources": entries})
        return exits.DONE
    print(sources_table(entries))
    print(f"\n{_how_to(arguments.target, target.name, held_out=bool(held_out))}")
    return exits.DONE


def _how_to(named: str, name: str, *, held_out: bool) -> str:
    lines = [
        "from stillhouse import mix",
        f"found = mix({named!r})",
        "for batch in found.loader(): …                             # the loader of training",
    ]
    if held_out:
        lines.append(
            "for name, loader in found.testing_loaders().items(): …     # each held-out row once: `loader.once()`"
        )
    also = ", held_out=found.testing" if held_out else ""
    lines.append(f"Finetune(base=…, tokens=found.training{also}, seq_len=found.seq_len)")
    return "\n".join([f"how to read `{name}`:", *(f"  {line}" for line in lines)])


@dataclass(frozen=True)
class PlannedSource:
    """What one source gives in a run."""

    name: str
    documents: int
    tokens: int
    rows_an_epoch: int
    asked: float
    """Its share, as the weights or the policy's first stage say."""
    achieved: float
    """Its share of the run's rows, or tokens, whichever the weights are shares of."""
    rows: int
    tokens_read: int
    epochs: float
    spent_at: int | None
    """The step from which it gives no more (`max_epochs`), within the run."""
    shares: Sequence[float]
    """Its share in equal pieces of the run."""


def planned(loader: Loader, num_steps: int, asked: Mapping[str, float], *, of_tokens: bool) -> list[PlannedSource]:
    """What each source gives in `num_steps` steps; exact, by arithmetic."""
    last = num_steps if loader.end is None else min(num_steps, loader.end)
    points = sorted({round(last * place / _POINTS) for place in range(_POINTS + 1)})
    accounts = [loader.account(step) for step in points]
    counts = [{name: one.tokens if of_tokens else one.rows for name, one in account.items()} for account in accounts]
    whole = max(1, sum(counts[-1].values()))
    pieces = [(before, after, max(1, sum(after.values()) - sum(before.values()))) for before, after in pairwise(counts)]
    found = []
    for source in loader.sources:
        name, end = source.name, accounts[-1][source.name]
        shares = [(after[name] - before[name]) / size for before, after, size in pieces]
        found.append(
            PlannedSource(
                name=name,
                documents=source.store.num_documents,
                tokens=source.store.num_tokens,
                rows_an_epoch=source.rows_per_epoch,
                asked=asked[name],
                achieved=counts[-1][name] / whole,
                rows=end.rows,
                tokens_read=end.tokens,
                epochs=end.epochs,
                spent_at=_spent_at(loader, name, last, shares, ends=last < num_steps),
                shares=shares,
            )
        )
    return found


def _spent_at(loader: Loader, name: str, last: int, shares: Sequence[float], *, ends: bool) -> int | None:
    """The first step after which a source that was read gives no row; None where it still gives when the run is over.

    `ends` says that the run is over since no source may give more.
    """
    if not any(shares):
        return None
    if shares[-1] > 0:
        return last if ends else None
    whole, low, high = loader.account(last)[name].rows, 0, last
    while low < high:
        middle = (low + high) // 2
        if loader.account(middle)[name].rows < whole:
            low = middle + 1
        else:
            high = middle
    return low


def _plan(target: Target, arguments: argparse.Namespace) -> int:
    from ..core.errors import StillhouseError
    from ..tokens.store import TokenStore

    assert target.mix is not None
    stores: dict[str, TokenStore] = {}
    missing: dict[str, str] = {}
    with session_for(target, arguments) as session:
        for name, step in target.steps.items():
            try:
                known = session.store.recall(step.recipe_key)
                artifact = None if known is None else session.store.open(known.build_key)
            except StillhouseError as error:
                missing[name] = error.message
                continue
            if artifact is None:
                missing[name] = "not made yet"
            else:
                stores[name] = TokenStore(artifact.data)
    if missing:
        return _tell_missing(target.mix, arguments.target, stores, missing, as_json=arguments.json)
    loader = loader_of(target, stores, arguments)
    return _tell_plan(target.mix, loader, arguments)


def _tell_missing(
    mix: Mix, named: str, stores: Mapping[str, TokenStore], missing: Mapping[str, str], *, as_json: bool
) -> int:
    asked = _declared(mix)
    entries = [
        {
            "source": name,
            "asked": asked.get(name),
            "held_out": mix.held_out_of(name) or None,
            "documents": stores[name].num_documents if name in stores else None,
            "tokens": stores[name].num_tokens if name in stores else None,
            "state": missing.get(name, "made"),
        }
        for name in mix.sources
    ]
    if as_json:
        print_json({"sources": entries, "complete": False})
        return exits.DONE
    lines = [
        [_share(asked.get(str(entry["source"]))) if key == "asked" else value for key, value in entry.items()]
        for entry in entries
    ]
    print(table(lines, [key.replace("_", " ") for key in entries[0]]))
    say(f"rows and epochs are known once the tokens are made: `stillhouse data mix {named}`")
    return exits.DONE


def _tell_plan(mix: Mix, loader: Loader, arguments: argparse.Namespace) -> int:
    a_step = loader.batch_size * loader.settings.seq_len
    steps = arguments.steps or (-(-arguments.tokens // a_step) if arguments.tokens else loader.steps_in(1.0))
    sizes = {one.name: float(one.rows_per_epoch) for one in loader.sources}
    asked = _declared(mix) or {name: size / sum(sizes.values()) for name, size in sizes.items()}
    if mix.policy is not None:
        first = mix.policy(sizes)[0].weights
        asked = {name: weight / sum(first.values()) for name, weight in first.items()}
    sources = planned(loader, steps, asked, of_tokens=mix.share == "tokens")
    warnings = list(_warnings(mix, loader, steps, sources))
    if arguments.json:
        print_json(
            {
                "steps": steps,
                "rows": sum(one.rows for one in sources),
                "tokens": sum(one.tokens_read for one in sources),
                "seq_len": loader.settings.seq_len,
                "batch_size": loader.batch_size,
                "end": loader.end,
                "sources": [vars(one) for one in sources],
                "warnings": warnings,
                "complete": True,
            }
        )
        return exits.DONE
    last = steps if loader.end is None else min(steps, loader.end)
    wanted = "" if last == steps else f" of {steps:,}"
    print(
        f"{last:,}{wanted} steps of {loader.batch_size} rows of {loader.settings.seq_len:,} tokens: "
        f"{sum(one.tokens_read for one in sources):,} tokens\n"
    )
    lines = [
        (
            one.name,
            one.documents,
            one.tokens,
            one.rows_an_epoch,
            _share(one.asked),
            _share(one.achieved),
            one.rows,
            f"{one.epochs:.2f}",
            one.spent_at,
        )
        for one in sources
    ]
    header = [
        "source",
        "documents",
        "tokens",
        "rows an epoch",
        "asked",
        "achieved",
        "rows read",
        "epochs",
        "ends at step",
    ]
    print(table(lines, header))
    print(f"\n{_chart(sources, last)}")
    for warning in warnings:
        print(f"\n{styled('note', 'yellow')}: {warning}")
    return exits.DONE


def _warnings(mix: Mix, loader: Loader, steps: int, sources: Sequence[PlannedSource]) -> Any:
    if loader.end is not None and loader.end < steps:
        yield (
            f"the sources suffice for {loader.end:,} of {steps:,} steps under `max_epochs: {mix.max_epochs}`; add "
            "rows, raise it, or train for less"
        )
    spent = any(one.spent_at is not None for one in sources)
    for one in sources:
        if one.spent_at is not None and one.spent_at != loader.end:
            yield (
                f"`{one.name}` has been read {one.epochs:.3g} times at step {one.spent_at:,} (`max_epochs`) and gives "
                "no more; the others get its share from there"
            )
        elif one.epochs > _MANY_EPOCHS:
            yield f"`{one.name}` is read {one.epochs:.1f} times; beyond about {_MANY_EPOCHS:g}, repeats teach little"
        if not one.rows and one.asked > 0:
            yield f"`{one.name}` gives no row in so short a run"
        if not spent and mix.policy is None and abs(one.achieved - one.asked) > 0.02:
            got, asked = _share(one.achieved), _share(one.asked)
            yield f"`{one.name}` gets {got} where {asked} was asked: floors or ceilings have a say"


def _chart(sources: Sequence[PlannedSource], steps: int) -> str:
    """The share of each source over the run, one character a piece."""
    width = max(len(one.name) for one in sources)
    most = max(max(one.shares, default=0.0) for one in sources) or 1.0
    lines = [
        f"{one.name:<{width}}  {''.join(_shade(share / most) for share in one.shares)}  {_share(one.shares[-1])}"
        for one in sources
    ]
    length = max(len(one.shares) for one in sources)
    foot = f"{'step':<{width}}  0{f'{steps:,}':>{max(1, length - 1)}}"
    return "\n".join([*lines, foot])


def _shade(part: float) -> str:
    return _SHADES[max(1, round(part * 8))] if part > 0 else _SHADES[0]


def _declared(mix: Mix) -> dict[str, float]:
    """The shares that the file asks for; none where it leaves them to sizes or a policy."""
    weights = mix.training.weights
    whole = sum((weights or {}).values())
    return {name: weight / whole for name, weight in (weights or {}).items()}


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value * 100:.2f} %"
