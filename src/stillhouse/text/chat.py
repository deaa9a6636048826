"""Conversations as token ids with the loss weights of an assistant: one rendering, read in one place.

Training, evaluation and serving must see the same ids for the same messages, so everything that turns messages into ids
goes through `ChatRenderer`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.errors import RecipeError, RowFault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]
"""`role` and `content`, and what else a template reads (`thinking`, `tool_calls`); None counts as absent."""

END = "<|end|>"
PAD = "<|pad|>"
ROLES = ("system", "user", "assistant", "tool")
PREFIX = "prefix"
"""The role of a lone message that is no turn: text, control tokens included, that a model goes on from as it is."""

DEFAULT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}"
    "{{- raise_exception('unknown role ' + message['role']) -}}"
    "{%- endif -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}"
    "{%- if message.get('thinking') -%}{{- '<think>' + message['thinking'] + '</think>' -}}{%- endif -%}"
    "{{- message['content'] + eos_token -}}"
    "{%- endgeneration -%}"
    "{%- else -%}{{- ' ' + message['content'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""The template of tokenizers trained here: a marker token before each message, the end token after each reply.

What the model reads begins with a space, so that a first word is the same token as that word elsewhere.
"""

_ASKED: tuple[Message, ...] = ({"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"})
PROBES: tuple[tuple[Message, ...], ...] = (_ASKED, ({"role": "system", "content": "told"}, *_ASKED))
"""Conversations that show how a template ends a reply; the second for those that want a system message first."""


@dataclass(frozen=True, slots=True)
class RoleSpan:
    """Tokens `start` to `stop` (exclusive) were written by `role`; markers of the template belong to nobody."""

    role: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as ids; `weights` are 1 on what the assistant writes, its end token included, else 0."""

    ids: list[int]
    weights: list[float]
    roles: tuple[RoleSpan, ...]
    text: str
    end_id: int
    """The token after which the assistant stops."""


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Rendered:
    """The ids, loss weights and role spans of one conversation.

    Raises `RowFault` where this conversation cannot be learnt from and `RecipeError` where the template or the
    tokenizer is at fault.
    """
    return ChatRenderer(tokenizer).render(messages)


class ChatRenderer:
    """Renders conversations with one tokenizer and its template; what holds for all of them is checked once.

    Assistant spans come from the template's `{% generation %}` marks. A template without marks is used where the prompt
    before each reply is a prefix of the whole text, which is checked for every conversation.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None = None) -> None:
        from ._chat import Renderer

        self._renderer = Renderer(tokenizer, template)

    def render(self, messages: Sequence[Message]) -> Rendered:
        """As the function `render`."""
        (rendered,) = self._renderer.render_many([messages])
        if isinstance(rendered, RowFault):
            raise rendered
        return rendered

    def render_many(self, conversations: Sequence[Sequence[Message]]) -> list[Rendered | RowFault]:
        """As `render` for each; a fault of one conversation stands in its place. One call of the tokenizer for all."""
        return self._renderer.render_many(conversations)

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids that ask for the next reply: what `render` gives up to the assistant's first learnt token.

        Raises `RowFault` where a message that is not the assistant's holds a control token.
        """
        return self._renderer.prompt(messages)

    def user_prefix(self, system: str | None = None, before: Sequence[Message] = ()) -> str:
        """The text before the words of a user, after the turns `before`: what a chat model goes on from as if it were
        the user.

        Spaces at its end are left out: the words bring them along. Raises `RecipeError` where it cannot be told, and
        `RowFault` where the template refuses the turns before, or a user's holds a control token.
        """
        return self._renderer.user_prefix(system, before)


def messages_of(value: object) -> list[dict[str, Any]]:
    """`value` of a `messages` column as plain messages; raises `RowFault` where it is none."""
    if not isinstance(value, (list, tuple)) or not value:
        raise RowFault("invalid", "`messages` is not a list with at least one message")
    messages: list[dict[str, Any]] = []
    for number, entry in enumerate(value):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("role"), str):
            raise RowFault("invalid", f"message {number} has no `role`")
        if not isinstance(entry.get("content"), (str, list)) and not entry.get("tool_calls"):
            raise RowFault("invalid", f"message {number} has no `content`")
        messages.append({key: field for key, field in entry.items() if field is not None})
    return messages


def check_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `RecipeError` where the tokenizer cannot be trained with: no offsets, no end token."""
    if not tokenizer.is_fast:
        raise RecipeError(
            f"the tokenizer `{type(tokenizer).__name__}` gives no offsets, so a reply's tokens cannot be told apart",
            "Use a tokenizer with a `tokenizer.json`.",
        )
    if tokenizer.eos_token_id is None:
        raise RecipeError(
            "the tokenizer has no end token, so a model trained with it would not know where to stop",
            "Set `eos_token` in its tokenizer_config.json.",
        )
