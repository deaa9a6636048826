"""How well a tokenizer fits texts: what of its vocabulary is used, how long its tokens are, and which size would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SIZES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768)


@dataclass(frozen=True)
class SourceTokens:
    """Counts of one source."""

    texts: int
    bytes: int
    words: int
    """Runs of characters between whitespace."""
    tokens: int

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens if self.tokens else 0.0

    @property
    def tokens_per_word(self) -> float:
        """Fertility: 1 where every word is one token."""
        return self.tokens / self.words if self.words else 0.0


@dataclass(frozen=True)
class TokenAnalysis:
    """What a tokenizer made of texts."""

    vocabulary: int
    sources: Mapping[str, SourceTokens]
    counts: tuple[int, ...]
    """How often each token occurs, the most frequent first, without those that do not occur."""
    coverage: Mapping[int, int]
    """How many entries of the vocabulary make 50, 90, 99 and 100 percent of all tokens."""
    longest: tuple[tuple[str, int], ...]
    """The longest tokens that occur, and how often."""

    @property
    def unused(self) -> int:
        """Entries of the vocabulary that do not occur."""
        return self.vocabulary - len(self.counts)

    def __str__(self) -> str:
        from ._analysis import analysis_table

        return analysis_table(self)

    def svg(self) -> str:
        """The coverage as a picture: share of all tokens over the number of entries, on a logarithmic axis."""
        from ._analysis import coverage_picture

        return coverage_picture(self)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        ratios = {
            name: {"bytes_per_token": source.bytes_per_token, "tokens_per_word": source.tokens_per_word}
            for name, source in self.sources.items()
        }
        return {
            "vocabulary": self.vocabulary,
            "unused": self.unused,
            "coverage": {str(share): entries for share, entries in self.coverage.items()},
            "longest": [list(entry) for entry in self.longest],
            "sources": {name: {**asdict(source), **ratios[name]} for name, source in self.sources.items()},
        }


def token_analysis(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Iterable[str]] | Iterable[str], *, longest: int = 10
) -> TokenAnalysis:
    """Encode the texts of each source, special tokens aside, and count; a lone iterable is the source `all`."""
    from ._analysis import analysed

    return analysed(tokenizer, texts if isinstance(texts, Mapping) else {"all": texts}, longest)


@dataclass(frozen=True)
class SizeTried:
    """A vocabulary that was trained on a sample and measured on texts that it had not seen."""

    size: int
    bytes_per_token: float
    embedding_parameters: int


@dataclass(frozen=True)
class SizeAdvice:
    """Sizes that were tried, and the knee: the largest one that still pays for itself."""

    tried: tuple[SizeTried, ...]
    advised: int
    gain: float
    """A doubling must shorten texts by this share."""

    def __str__(self) -> str:
        from ._analysis import advice_table

        return advice_table(self)


def vocabulary_advice(
    texts: Sequence[str], *, width: int = 512, sizes: Sequence[int] = SIZES, gain: float = 0.05
) -> SizeAdvice:
    """Train byte-level BPEs of some sizes on nine tenths of `texts` and measure them on the rest.

    `width` is that of the model's embeddings. A size is advised as long as the step to it shortens the unseen texts by
    at least `gain` for each doubling. Sizes that the texts have too few pairs for are left out. Raises `RecipeError`
    for fewer than ten texts.
    """
    from ._analysis import advised

    return advised(texts, width, sizes, gain)
