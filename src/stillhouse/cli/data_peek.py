"""`stillhouse data peek`: documents and packed rows, each token with its weight, each border shown.

What is learnt stands in `⟦ ⟧`, with its weight where that is not 1; `│` stands between tokens. Colours only repeat it.
"""

from __future__ import annotations

import argparse
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import exits
from .data_target import load_tokenizer_of, open_target
from .output import print_json, say, styled, table, visible

if TYPE_CHECKING:
    from ..tokens.loader import Loader
    from ..tokens.peek import PeekedRow, PeekedSpan, PeekedToken, TokenTexts
    from ..tokens.store import TokenStore
    from .data_target import Target

_LINE_END = "⏎"
_OPTIONS = {
    "`seq_len`": "`--seq-len`",
    "`packing`": "`--packing`",
    "`too_long='split'` or `too_long='leave_out'`": "`packing: {too_long: split}` (or `leave_out`) in the mix",
}
"""What hints of the loader are called here."""


def peek(arguments: argparse.Namespace) -> int:
    from ..tokens.peek import TokenTexts

    target, stores = open_target(arguments)
    tokenizer = load_tokenizer_of(next(iter(stores.values())), arguments)
    if tokenizer is None:
        say("there is no tokenizer beside the tokens, so their ids are shown; name one with `--tokenizer`")
    texts = TokenTexts(tokenizer)
    if arguments.packed or arguments.step is not None:
        return _packed(target, stores, texts, arguments)
    spans = list(_documents(stores, texts, arguments))
    if arguments.json:
        print_json([as_dict(span) for span in spans])
        return exits.DONE
    print(_LEGEND)
    for span in spans:
        print(f"\n{_told(span)}\n{_shown(span, as_table=arguments.table)}")
    return exits.DONE


_LEGEND = "│ between tokens, ⟦…⟧ what is learnt (⟦0.5:…⟧ with that weight)"


def _documents(
    stores: Mapping[str, TokenStore], texts: TokenTexts, arguments: argparse.Namespace
) -> Iterator[PeekedSpan]:
    from ..core.errors import RecipeError
    from ..tokens.peek import peek_document

    chosen = _chosen(stores, arguments.source)
    if arguments.id is not None:
        found = [(name, number) for name, store in chosen.items() for number in store.documents_of(arguments.id)]
        if not found:
            raise RecipeError(
                f"no document was made from the row `{arguments.id}`",
                "Row ids are written in full, and are those of the rows that were tokenised: `stillhouse trace ROW_ID` "
                "names the ones made from a row. It may also have been rejected: `stillhouse data stats … --rejects`.",
            )
        for name, number in found[: arguments.rows]:
            yield peek_document(chosen[name], number, texts, name)
        return
    name, store = next(iter(chosen.items()))
    first = arguments.row or 0
    if not 0 <= first < store.num_documents:
        hint = f"They are numbered from 0 to {store.num_documents - 1:,}." if store.num_documents else None
        raise RecipeError(f"`{name}` has no document {first}", hint)
    last = first + 1 if arguments.row is not None else min(arguments.rows, store.num_documents)
    for number in range(first, last):
        yield peek_document(store, number, texts, name)


def _chosen(stores: Mapping[str, TokenStore], source: str | None) -> Mapping[str, TokenStore]:
    from ..core.errors import RecipeError

    if source is None:
        return stores
    if source not in stores:
        raise RecipeError(f"there is no source `{source}`", f"Sources: {', '.join(stores)}.")
    return {source: stores[source]}


def loader_of(target: Target, stores: Mapping[str, TokenStore], arguments: argparse.Namespace) -> Loader:
    """The loader over the target's tokens, as the mix, the step `Pack` or the command line want it."""
    from ..core.errors import RecipeError
    from ..tokens._pack import packed_note
    from ..tokens.loader import get_loader
    from ..tokens.mixing import Mixture
    from ..tokens.packing import Packing

    alone = next(iter(stores.values())) if len(stores) == 1 else None  # named as a training names its only source
    mixture = Mixture({"data": alone} if alone is not None else stores, max_epochs=None)
    options: dict[str, Any] = {"batch_size": 16}
    if target.mix is not None:
        mixture, options = target.mix.training.replace(sources=stores), target.mix.options
    elif all(packed_note(store.folder) is None for store in stores.values()):
        options |= {"seq_len": 1024, "packing": Packing(too_long="split")}
    given = {name: getattr(arguments, name) for name in ("seq_len", "batch_size", "seed")}
    options |= {name: value for name, value in given.items() if value is not None}
    if arguments.packing:
        shown = options.get("packing") or Packing(too_long="split")
        options["packing"] = Packing(arguments.packing, too_long=shown.too_long)
    try:
        return get_loader(mixture, **options)
    except RecipeError as error:
        hint = error.hint or ""
        for here, there in _OPTIONS.items():
            hint = hint.replace(here, there)
        raise RecipeError(error.message, hint or None) from error


def _packed(target: Target, stores: Mapping[str, TokenStore], texts: TokenTexts, arguments: argparse.Namespace) -> int:
    from ..core.errors import RecipeError
    from ..tokens.peek import peek_rows

    chosen = _chosen(stores, arguments.source)
    loader = loader_of(target, chosen, arguments)
    step, first = arguments.step or 0, 0
    if step < 0:
        raise RecipeError(f"there is no step {step}", "Steps count from 0.")
    if arguments.row is not None:
        if arguments.row < 0:
            raise RecipeError(f"there is no row {arguments.row}", "Rows count from 0.")
        step, first = divmod(arguments.row, loader.batch_size)
    elif arguments.id is not None:
        seen = loader.steps_of_row(arguments.id, until=loader.steps_in(1.0))
        if not seen:
            raise RecipeError(f"no row of the first epoch holds a document of `{arguments.id}`", None)
        step = seen[0]
    rows = list(peek_rows(loader.batch(step), [source.store for source in loader.sources], texts))
    if len(chosen) == 1:  # which the loader calls `data`
        (name,) = chosen
        rows = [row._replace(spans=tuple(span._replace(source=name) for span in row.spans)) for row in rows]
    if arguments.id is not None:
        rows = [row for row in rows if any(span.row_id == arguments.id for span in row.spans)]
    count = 1 if arguments.row is not None else arguments.rows
    rows = rows[first : first + count]
    if arguments.json:
        print_json([_row_dict(row) for row in rows])
        return exits.DONE
    print(_LEGEND)
    for row in rows:
        print(f"\n{_row_told(row, loader.settings.seq_len)}")
        for span in row.spans:
            print(f"{_told(span)}\n{_shown(span, as_table=arguments.table)}")
        if row.padding:
            print(styled(f"── padding, {row.padding:,} positions", "dim"))
    return exits.DONE


def _row_told(row: PeekedRow, seq_len: int) -> str:
    filled = seq_len - row.padding
    spans = f"{len(row.spans)} piece" + ("" if len(row.spans) == 1 else "s")
    return styled(f"══ row {row.row:,}, step {row.step:,}: {spans}, {filled:,} of {seq_len:,} positions filled", "bold")


def _told(span: PeekedSpan) -> str:
    learnt = sum(token.weight > 0 for token in span.tokens)
    last = span.offset + len(span.tokens)
    piece = "" if len(span.tokens) == span.length else f", positions {span.offset:,}–{last - 1:,} of {span.length:,}"
    weight = "" if span.example_weight == 1 else f", weighs {span.example_weight:g}"
    source = f" · {visible(span.source)}" if span.source else ""
    counts = f"{len(span.tokens):,} tokens, {learnt:,} learnt"
    head = f"── document {span.document:,} · row {visible(span.row_id)}{source} · {counts}"
    return styled(head + piece + weight, "bold")


def _shown(span: PeekedSpan, *, as_table: bool) -> str:
    if as_table:
        lines = [
            (token.position, token.id, f"{token.weight:g}", _role(span, token.position), _text(token))
            for token in span.tokens
        ]
        return table(lines, ["position", "id", "weight", "role", "text"])
    return _wrapped(list(_pieces(span.tokens)), max(40, shutil.get_terminal_size().columns))


def _role(span: PeekedSpan, position: int) -> str:
    return next((role for role, start, stop in span.roles if start <= position < stop), "")


def _pieces(tokens: Sequence[PeekedToken]) -> Iterator[tuple[str, float]]:
    """The text of each token, with brackets around what is learnt."""
    before = 0.0
    for number, token in enumerate(tokens):
        after = tokens[number + 1].weight if number + 1 < len(tokens) else 0.0
        opened = "" if token.weight in (0.0, before) else "⟦" + ("" if token.weight == 1.0 else f"{token.weight:g}:")
        closed = "⟧" if token.weight and after != token.weight else ""
        yield f"{opened}{_text(token)}{closed}", token.weight
        before = token.weight


def _text(token: PeekedToken) -> str:
    return visible(token.text.replace("\t", "\\t")) or "·"


def _wrapped(pieces: Sequence[tuple[str, float]], width: int) -> str:
    """Tokens side by side in lines of `width`; a line of the text ends one here too."""
    lines: list[str] = []
    line, used = "", 2
    for text, weight in pieces:
        wide = _width(text) + 1
        if used > 2 and used + wide > width:
            lines.append(line)
            line, used = "", 2
        line += ("" if used == 2 else styled("│", "dim")) + _coloured(text, weight)
        used += wide
        if _LINE_END in text:
            lines.append(line)
            line, used = "", 2
    return "\n".join("  " + one for one in [*lines, line] if one)


def _coloured(text: str, weight: float) -> str:
    return text if not weight else styled(text, "green" if weight == 1.0 else "yellow")


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def as_dict(span: PeekedSpan) -> dict[str, Any]:
    """A document, or a piece of one, as plain data."""
    return {**span._asdict(), "tokens": [token._asdict() for token in span.tokens]}


def _row_dict(row: PeekedRow) -> dict[str, Any]:
    return {**row._asdict(), "spans": [as_dict(span) for span in row.spans]}
