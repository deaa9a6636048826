"""Words in common, weighed: the part that makes an index lexical."""

from pydantic import Field

from stillhouse.core.part import Part


class Bm25(Part, tag="calls.bm25/1"):
    """Okapi BM25 as Lucene computes it (Robertson and Zaragoza 2009; Kamphuis et al. 2020, "accurate" Lucene variant).

    score = Σ over the query's words of idf · tf / (tf + k1 · (1 - b + b · length / mean length)), with
    idf = ln(1 + (N - n + 0.5) / (n + 0.5)). Words as `text.ngrams.words` gives them: case and punctuation do not count.
    """

    k1: float = Field(1.2, ge=0)
    """How soon a word that is repeated counts no more."""
    b: float = Field(0.75, ge=0, le=1)
    """How much long texts are held back."""
