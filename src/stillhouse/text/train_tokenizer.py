"""A byte-level BPE of one's own, with special tokens and a chat template."""

from pydantic import Field

from ..core.artifact import Files, Rows
from ..core.context import Context
from ..core.step import Step


class TrainTokenizer(Step[Files], tag="text.train_tokenizer/1"):
    """Train a byte-level BPE on the text of `rows`; the folder loads with transformers' `AutoTokenizer`.

    Any text can be encoded and comes back byte for byte. The special tokens are `<|pad|>`, `<|end|>` (the end token;
    never the same as the pad token) and one marker for each role; the chat template marks what the assistant writes.
    """

    rows: Step[Rows]
    columns: tuple[str, ...] = Field(
        ("messages",), min_length=1, description="columns to learn from: text, or lists of messages"
    )
    vocab_size: int = Field(8192, ge=300, le=1_000_000, description="all tokens, bytes and special ones included")
    min_frequency: int = Field(2, ge=1, description="a pair seen less often is not merged")
    split_digits: bool = Field(True, description="each digit is a token of its own, so that numbers are spelt alike")
    json_syntax: bool = Field(False, description="what stands between the values of JSON replies is a token of its own")

    def run(self, context: Context) -> None:
        from ._json_syntax import common
        from ._train_tokenizer import replies_of, texts_of, train, write

        rows = context.get(self.rows)
        syntax = common(replies_of(rows, self.columns)) if self.json_syntax else []
        texts = texts_of(rows, self.columns)
        tokenizer = train(texts, self.vocab_size, self.min_frequency, self.split_digits, syntax)
        write(tokenizer, context.folder)
        context.note(vocab_size=tokenizer.get_vocab_size(), json_syntax=len(syntax))
