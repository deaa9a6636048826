"""Loading a tokenizer's folder, and what it is called by."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from ..core.errors import RecipeError, StoreError
from ..core.keys import digest


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in `folder`, with its chat template; code that lies beside it is not run."""
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        raise RecipeError(f"there is no tokenizer in `{folder}`", "Expected a tokenizer.json there.")
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise StoreError(f"the tokenizer in `{folder}` cannot be read: {error}") from error
    if found.is_fast:  # some come with a length to cut or fill texts to; nothing is shortened here without a word
        found.backend_tokenizer.no_truncation()
        found.backend_tokenizer.no_padding()
    return found


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of what decides ids: the vocabulary, the rules and the special tokens; not the chat template."""
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return digest(f"{tokenizer.backend_tokenizer.to_str()}{special}".encode())


def starts_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself puts its begin token before a text."""
    ids: list[int] = tokenizer("a")["input_ids"]
    return tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
