"""A small tokenizer trained on a few sentences, and templates in the forms that are met in the wild."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stillhouse.text._train_tokenizer import train, write

SENTENCES = (
    "Two large oat lattes and a plain bagel to go, please.",
    "A flat white with an extra shot\nand three croissants.",
    '{"items": [{"count": 12, "item": "latte", "size": null}], "to_go": true}',
    "Grüße aus Köln: zwölf Brötchen für 3,40 €",
)

MARKED_CHATML = (
    "{% for m in messages %}{{ '<|user|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + eos_token }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|user|>assistant\n' }}{% endif %}"
)
"""As ChatML: a header in plain text, an end token after every message, a line break after that."""

PLAIN_CHATML = MARKED_CHATML.replace("{% generation %}", "").replace("{% endgeneration %}", "")


@cache
def small_tokenizer() -> PreTrainedTokenizerBase:
    """400 tokens, trained here; the same in every test."""
    with TemporaryDirectory() as name:
        return write_tokenizer(Path(name))


def write_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Train into `folder` and load from there."""
    write(train(SENTENCES * 2, 400), folder)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder))
    return tokenizer
