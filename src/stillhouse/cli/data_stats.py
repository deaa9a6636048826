"""`stillhouse data stats`: what tokens hold, and which row length suits them."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import exits
from .data_target import load_tokenizer_of, open_target
from .output import print_json, say, styled, table, visible

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..text.analysis import SizeAdvice, TokenAnalysis
    from ..tokens.statistics import TokenStatistics
    from ..tokens.store import TokenStore

_SHOWN_REJECTS = 50
_SHOWN_CHARACTERS = 60
_METHODS = ("best_fit", "concat", "one")
_SAMPLED_TOKENS = 200_000
_FEW_TEXTS = 10
_WIDTH = 512
"""Of the embeddings whose parameters are told beside each size of a vocabulary."""


def stats(arguments: argparse.Namespace) -> int:
    from ..tokens.statistics import token_statistics

    target, stores = open_target(arguments)
    if arguments.rejects:
        return _list_rejects(stores, as_json=arguments.json)
    found = token_statistics(stores, seq_lens=arguments.seq_len, num_longest=max(0, arguments.longest))
    vocabulary = _vocabulary(stores, arguments) if arguments.vocabulary else None
    if arguments.svg:
        from ..tokens._lengths_picture import drawn

        Path(arguments.svg).write_text(drawn(found, f"Lengths of {target.name}"), encoding="utf-8")
        say(f"the picture is in {arguments.svg}")
    if arguments.json:
        print_json({**as_dict(found), **({} if vocabulary is None else {"vocabulary": vocabulary})})
    else:
        print(as_text(found, max(60, min(120, shutil.get_terminal_size().columns))))
        if vocabulary is not None:
            print(f"\n{vocabulary}")
    return exits.DONE


def as_dict(found: TokenStatistics) -> dict[str, Any]:
    """The statistics as plain data."""
    return {"documents": found.documents, "tokens": found.tokens, "learnt": found.learnt, **asdict(found)}


def as_text(found: TokenStatistics, width: int) -> str:
    """The statistics for a terminal."""
    parts = [
        f"{found.documents:,} documents, {found.tokens:,} tokens, {found.learnt:,} of them learnt "
        f"({_percent(found.learnt / max(1, found.tokens))})",
        f"lengths: {', '.join(f'{name} {length:,}' for name, length in found.quantiles.items())}",
        histogram(found, width),
        _sources(found),
        _row_lengths(found),
        f"{styled('advice', 'bold')}: {found.advice}",
    ]
    if found.longest:
        lines = [(one.source, one.document, one.row_id, one.tokens) for one in found.longest]
        parts.append(table(lines, ["longest: source", "document", "row id", "tokens"]))
    if found.rejects:
        told = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(found.rejects.items()))
        parts.append(f"rows that could not be used: {told}; `--rejects` lists them")
    return "\n\n".join(part for part in parts if part)


def histogram(found: TokenStatistics, width: int) -> str:
    """Bars, one a bin: how many documents have so many tokens."""
    most = max(one.documents for one in found.histogram)
    labels = [f"{one.low:,}–{one.high:,}" if one.high > one.low else f"{one.low:,}" for one in found.histogram]
    left = max(len(label) for label in labels)
    right = max(len(f"{one.documents:,}") for one in found.histogram)
    room = max(10, width - left - right - 3)
    return "\n".join(
        f"{label:>{left}} {one.documents:>{right},} {bar(one.documents / most, room)}".rstrip()
        for label, one in zip(labels, found.histogram, strict=True)
    )


def bar(share: float, room: int) -> str:
    """A bar of eighths of a character; what is more than nothing can be seen."""
    eighths = round(share * room * 8)
    if share > 0:
        eighths = max(1, eighths)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _sources(found: TokenStatistics) -> str:
    roles = list(dict.fromkeys(role for source in found.sources.values() for role in source.roles))
    lines = []
    for name, one in found.sources.items():
        share = _percent(one.tokens / max(1, found.tokens))
        learnt = _percent(one.learnt / max(1, one.tokens))
        by_role = [one.roles.get(role) for role in roles]
        lines.append([name, one.documents, one.tokens, share, learnt, one.rejected, *by_role])
        lines += [[f"  {inner or '(no name)'}", None, tokens, _percent(tokens / max(1, found.tokens)), None, None,
                   *[None] * len(roles)] for inner, tokens in one.named.items()]  # fmt: skip
    return table(lines, ["source", "documents", "tokens", "share", "learnt", "rejected", *roles])


def _row_lengths(found: TokenStatistics) -> str:
    lines = [
        [one.seq_len, _percent(one.fits), _percent(one.tokens_fit), *_cells(one.packed)] for one in found.row_lengths
    ]
    methods = [text for method in _METHODS for text in (f"{method}: rows", "filled")]
    return table(lines, ["seq_len", "documents that fit", "tokens in them", *methods])


def _cells(packed: Mapping[str, Any]) -> list[Any]:
    return [value for method in _METHODS for value in (packed[method].rows, _percent(packed[method].utilisation))]


def _percent(share: float) -> str:
    """Rounded down: what is not all is not 100 %."""
    return f"{int(share * 10_000) / 100:.2f} %"


def _list_rejects(stores: Mapping[str, TokenStore], *, as_json: bool) -> int:
    if as_json:
        import orjson

        for line in _rejects(stores):
            print(orjson.dumps(line).decode())
        return exits.DONE
    rows = list(islice(_rejects(stores), _SHOWN_REJECTS + 1))
    if not rows:
        say("no row was rejected")
        return exits.DONE
    lines = [
        (row["source"], row["_id"], row["kind"], row["message"], _shortened(row["row"]))
        for row in rows[:_SHOWN_REJECTS]
    ]
    print(table(lines, ["source", "row id", "kind", "message", "row"]))
    if len(rows) > _SHOWN_REJECTS:
        say(f"… there are more than {_SHOWN_REJECTS}; `--json` gives all, one a line")
    return exits.DONE


def _shortened(row: Mapping[str, Any]) -> str:
    """The beginning of a row, by which it is known again."""
    text = json.dumps(row, ensure_ascii=False)
    return visible(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def _rejects(stores: Mapping[str, TokenStore]) -> Iterator[dict[str, Any]]:
    for name, store in stores.items():
        for line in store.rejects():
            yield {"source": name, **line}


def _vocabulary(stores: Mapping[str, TokenStore], arguments: argparse.Namespace) -> Any:
    """How tokens spread over the vocabulary; with a tokenizer, how long they are and which size would do."""
    import numpy as np

    from ..tokens.peek import TokenTexts

    first = next(iter(stores.values()))
    counts = np.zeros(max(store.layout.vocab_size for store in stores.values()), dtype=np.int64)
    for store in stores.values():
        for tokens in store.tokens:
            for start in range(0, len(tokens), 1 << 22):
                counts += np.bincount(tokens[start : start + (1 << 22)], minlength=len(counts))
    order = np.argsort(-counts, kind="stable")
    shares = np.cumsum(counts[order]) / max(1, int(counts.sum()))
    covering = {f"{share:.0%}": int(np.searchsorted(shares, share)) + 1 for share in (0.5, 0.9, 0.95, 0.99)}
    tokenizer = load_tokenizer_of(first, arguments)
    used = int(np.count_nonzero(counts))
    top = order[: min(10, used)].tolist()
    texts = TokenTexts(tokenizer)(top)
    commonest = [(visible(text), int(counts[number])) for number, text in zip(top, texts, strict=True)]
    facts = {"vocabulary": len(counts), "used": used, "covering": covering, "commonest": commonest}
    fit = None if tokenizer is None else _Fit.of(tokenizer, stores)
    if arguments.json:
        return {**facts, **({} if fit is None else fit.plain())}
    told = ", ".join(f"{share} by {count:,}" for share, count in covering.items())
    parts = [
        f"vocabulary: {used:,} of {len(counts):,} ids are used; of the tokens are covered {told}",
        "commonest: " + ", ".join(f"`{text}` {count:,}" for text, count in commonest),
    ]
    if fit is None:
        parts.append("there is no tokenizer beside the tokens; with `--tokenizer` it is told how it fits the texts")
    return "\n".join(parts) + ("" if fit is None else f"\n\n{fit}")


@dataclass(frozen=True)
class _Fit:
    """How a tokenizer fits the texts of some documents of each source, and what other sizes would give."""

    analysis: TokenAnalysis
    advice: SizeAdvice | None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, stores: Mapping[str, TokenStore]) -> _Fit:
        from ..text.analysis import token_analysis, vocabulary_advice

        texts = {name: _some_texts(tokenizer, store) for name, store in stores.items()}
        together = [text for some in texts.values() for text in some]
        advice = vocabulary_advice(together, width=_WIDTH) if len(together) >= _FEW_TEXTS else None
        return cls(token_analysis(tokenizer, texts, longest=5), advice)

    def plain(self) -> dict[str, Any]:
        return {"fit": self.analysis.plain(), "advice": None if self.advice is None else asdict(self.advice)}

    def __str__(self) -> str:
        lines = [
            (name, one.texts, one.tokens, f"{one.bytes_per_token:.2f}", f"{one.tokens_per_word:.2f}")
            for name, one in self.analysis.sources.items()
        ]
        longest = ", ".join(f"`{visible(text)}` {count:,}" for text, count in self.analysis.longest)
        parts = [
            table(lines, ["in some texts of", "texts", "tokens", "bytes/token", "tokens/word"]),
            f"longest: {longest}",
        ]
        if self.advice is None:
            parts.append(f"For advice on the size of the vocabulary there must be {_FEW_TEXTS} texts or more.")
        else:
            parts.append(f"{styled('sizes', 'bold')}, tried on these texts (embeddings {_WIDTH} wide):\n{self.advice}")
        return "\n\n".join(parts)


def _some_texts(tokenizer: PreTrainedTokenizerBase, store: TokenStore) -> list[str]:
    """Documents from all over the store as texts, some 200,000 tokens of them."""
    mean = max(1, store.num_tokens // max(1, store.num_documents))
    number = min(store.num_documents, max(_FEW_TEXTS, _SAMPLED_TOKENS // mean))
    chosen = [store.num_documents * place // number for place in range(number)]
    pieces = [store.document(one).ids[: _SAMPLED_TOKENS // _FEW_TEXTS].tolist() for one in chosen]
    return [text for ids in pieces if (text := str(tokenizer.decode(ids, skip_special_tokens=True)))]
