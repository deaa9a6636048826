"""How long a question may be: what the user says, or what the model's context window leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from ..calls.windows import model_folder, window_of
from ..core.context import Context
from ..core.errors import RecipeError

BYTES_PER_TOKEN = 3  # English has more than four; Chinese, with three bytes a character, about a token a character
REPLY = 1024
"""Tokens left for a reply whose `max_tokens` nobody said; a quarter of the window, where that is less."""
# What chat templates add to a conversation, and to each message: five or six, of those we know.
TEMPLATE, MESSAGE = 32, 8


class Room(NamedTuple):
    """What a question may have: `tokens`, of which `taken` are not the question's own (the system prompt)."""

    tokens: int
    count: Callable[[str], int]
    taken: int = 0
    firm: bool = True
    """Whether a row that does not fit fails unasked. What a window leaves only leaves examples out: how long a question
    is in a chat template, and what a reply needs, is not known to a token, and the model has the last word."""


def room_of(step: Any, context: Context) -> Room | None:
    """The room of a step with `by`, `tokens`, `tokenizer`, `most` and `response`; None where nothing bounds it."""
    by = step.by
    if step.tokens is not None:
        count = estimated if step.tokenizer is None else tokens_by(context.get(step.tokenizer).path)
        return Room(step.tokens, count, count(by.system) if by.system else 0)
    folder = model_folder(by) if isinstance(by.model, str) else context.get(by.model).path
    window = window_of(by, folder)
    if window is None:
        return None
    count = estimated if folder is None else tokens_by(_with_tokenizer(folder))
    reply = by.max_tokens or min(REPLY, window // 4)
    messages = 2 + (2 * step.most if getattr(step, "turns", False) else 0)
    told = [by.system or "", *(orjson.dumps(dict(tool)).decode() for tool in by.tools)]
    if step.response is not None:
        told.append(orjson.dumps(step.response.form).decode())
    taken = TEMPLATE + MESSAGE * messages + sum(count(text) for text in told if text)
    return Room(window - reply, count, taken, firm=False)


def estimated(text: str) -> int:
    """Tokens of a text, rather too many than too few: one for each three bytes of UTF-8."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // BYTES_PER_TOKEN)


def tokens_by(folder: Path) -> Callable[[str], int]:
    """Counts with the tokenizer in `folder`."""
    try:
        from ..text.tokenizer import load_tokenizer
    except ImportError as error:
        raise RecipeError(
            f"counting with a tokenizer needs `{error.name}`", "Install `stillhouse[train]`, or give `tokens` alone."
        ) from None
    backend = load_tokenizer(folder).backend_tokenizer
    return lambda text: len(backend.encode(text, add_special_tokens=False).ids)


def _with_tokenizer(folder: Path) -> Path:
    try:
        from ..models.generate import tokenizer_folder
    except ImportError as error:
        raise RecipeError(f"a model of this machine needs `{error.name}`", "Install `stillhouse[train]`.") from None
    return tokenizer_folder(folder)
