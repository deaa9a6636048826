"""How different the rows of a table are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from ..core.artifact import Report, Rows
from ..core.context import Context
from ..core.errors import RecipeError
from ..core.step import Step
from ..rows.named import Columns

if TYPE_CHECKING:
    from ._diversity import Measures

HELP = {
    "rows": "all rows of the table",
    "looked at": "rows of the sample with a text",
    "words": "mean words of a text",
    "distinct texts": "share of texts that no other of the sample equals",
    "distinct 1": "different words for each word",
    "distinct 2": "different pairs of words for each pair",
    "distinct 3": "different runs of three words for each run",
    "compression": "bytes for one byte compressed; more is more alike",
    "self-BLEU": "how much a text is made of pieces of the others; more is more alike",
    "spread": "mean cosine distance of two vectors",
    "Vendi": "how many vectors at right angles would be as different",
    "clusters reached": "share of the clusters of the first table in which there is a row",
    "evenness": "how evenly the rows fill these clusters",
}
"""The measures of a report, and what each says."""


class Diversity(Step[Report], tag="curate.diversity/1"):
    """Measures of diversity of one or several tables, side by side: before and after a step, ours and another's.

    Of each table the `sample` rows with the smallest keys are looked at (keys come from row ids and `seed`, so tables
    that share rows share those of the sample). Measures of texts:

    - `distinct 1`, `2`, `3`: different n-grams for each n-gram (Li et al. 2016), as expected of so many as all tables
      have (at most `num_words`; rarefaction, Hurlbert 1971), since a longer text repeats itself more;
    - `compression`: bytes for one byte compressed, of so many words as all tables have (Shaib et al. 2024);
    - `self-BLEU`: mean BLEU-4 of each text against all others (Zhu et al. 2018), without smoothing, orders longer than
      the text left out.

    Measures of the vectors in `vectors`, where that is given:

    - `spread`: mean cosine distance of two rows;
    - `Vendi`: e to the entropy of the eigenvalues of the cosine matrix (Friedman and Dieng 2023): 1 where all are the
      same, the number of rows where all are at right angles;
    - with `clusters`, that many are found among the rows of the first table (k-means): `clusters reached` is the share
      in which a table has a row, `evenness` e to the entropy of its rows over them, by their number.
    """

    of: Mapping[str, Step[Rows]] = Field(min_length=1)
    """Tables by the names under which they are shown, the first being the one that others are held against."""
    columns: Columns
    """Several columns count as one text."""
    vectors: str | None = None
    clusters: int | None = Field(None, ge=2)
    sample: int = Field(2000, ge=2)
    num_words: int = Field(100_000, ge=1)
    seed: int = 0

    @model_validator(mode="after")
    def _clusters_of_what(self) -> "Diversity":
        if self.clusters is not None and self.vectors is None:
            raise RecipeError("Diversity: `clusters` need `vectors`", "Name the column that holds them.")
        return self

    def identity(self) -> Mapping[str, object]:
        """The fields and the order of the tables."""
        return {**self.values(), "order": tuple(self.of)}

    def run(self, context: Context) -> None:
        from ._diversity import write_diversity

        write_diversity(self, context)


def diversity(
    tables: Mapping[str, Rows],
    columns: tuple[str, ...],
    *,
    vectors: str | None = None,
    clusters: int | None = None,
    sample: int = 2000,
    num_words: int = 100_000,
    seed: int = 0,
) -> "dict[str, Measures]":
    """The measures of `Diversity`, of tables at hand: `{"after": {"rows": 980, "distinct 2": 0.71, …}}`."""
    from ._diversity import measured

    return measured(tables, columns, vectors, clusters, sample, num_words, seed)
