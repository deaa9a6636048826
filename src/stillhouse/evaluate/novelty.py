"""How new held-out rows are: words and wordings that training never showed."""

from pydantic import Field

from ..core.artifact import Rows
from ..core.context import Context
from ..core.step import Mapper, MapStep, Step


class Novelty(MapStep, tag="evaluate.novelty/1"):
    """Adds `novelty`, `familiar` and `unseen_words` to each row, judged against the inputs of `against`.

    `novelty` is `unseen words` when the input holds a word that no training input holds (`unseen_words` lists them),
    else `unseen skeleton` when its skeleton is new, else `seen`; `familiar` is `seen` or `unseen`. Words and skeletons
    are case folded and without punctuation.

    The skeleton of a text is the sequence of its frame words, with every run of other words replaced by one `_`. Frame
    words are the `frame_words` most frequent words of the training inputs that do not also stand in a training output
    and hold no digit: what an answer repeats (numbers, menu words, names) is content, what stands around it is frame.
    """

    against: Step[Rows]
    input_column: str = "input"
    output_column: str = "output"
    frame_words: int = Field(150, ge=0, description="number of frequent words that make up skeletons")

    def mapper(self, context: Context) -> Mapper:
        from ._novelty import judge

        return judge(self, context)
