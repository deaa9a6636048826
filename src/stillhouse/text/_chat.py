"""The work behind `chat`: rendering by jinja, assistant spans in characters, then in tokens by offsets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from ..core.errors import RecipeError, RowFault
from .chat import PROBES, Message, Rendered, RoleSpan, check_tokenizer, messages_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_RENDERING = threading.Lock()
"""transformers compiles a template once for all threads and keeps its spans there: two at once would mix them."""


class Span(NamedTuple):
    """Characters `start` to `stop` (exclusive)."""

    start: int
    stop: int


class Encoded(NamedTuple):
    ids: list[int]
    offsets: list[tuple[int, int]]


class _Text(NamedTuple):
    """One conversation as text."""

    messages: list[dict[str, Any]]
    text: str
    spans: list[Span]


class Renderer:
    """See `ChatRenderer`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
        check_tokenizer(tokenizer)
        self._tokenizer = tokenizer
        self._template = template or _template_of(tokenizer)
        self._has_marks = "endgeneration" in self._template
        self._backend = tokenizer.backend_tokenizer
        added = tokenizer.added_tokens_decoder
        self._control = sorted({token.content for token in added.values() if token.special and token.content.strip()})
        self._probed = self._end_of_probe()
        self._ends = [str(tokenizer.eos_token), *(self._probed or ())]
        self._end_ids = {tokenizer.convert_tokens_to_ids(end) for end in self._ends}

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        found = messages_of(list(messages))
        self._check_contents(found, but="assistant")
        text, _ = self._jinja(found, add_generation_prompt=True)
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        self._check_start(ids)
        return ids

    def user_prefix(self, system: str | None, before: Sequence[Message] = ()) -> str:
        words = "WORDS-OF-THE-USER"
        opening = [] if system is None else [{"role": "system", "content": system}]
        turns = [dict(message) for message in before]
        self._check_contents(turns, but="assistant")
        text, _ = self._jinja([*opening, *turns, {"role": "user", "content": words}])
        earlier, found, _ = text.rpartition(words)
        if not found:
            raise RecipeError(
                "the chat template does not write the user's words as they are", "Give the prefix itself."
            )
        return earlier.rstrip(" ")

    def render_many(self, conversations: Sequence[Sequence[Message]]) -> list[Rendered | RowFault]:
        texts = [self._text(conversation) for conversation in conversations]
        good = [text.text for text in texts if isinstance(text, _Text)]
        encodings = iter(self._backend.encode_batch(good, add_special_tokens=False))
        results: list[Rendered | RowFault] = []
        for text in texts:
            if isinstance(text, RowFault):
                results.append(text)
            else:
                encoding = next(encodings)
                results.append(self._rendered(text, Encoded(encoding.ids, encoding.offsets)))
        return results

    def _text(self, conversation: Sequence[Message]) -> _Text | RowFault:
        try:
            messages = messages_of(list(conversation))
            if not any(message["role"] == "assistant" for message in messages):
                raise RowFault("invalid", "no message of the assistant: nothing to learn")
            self._check_contents(messages)
            text, spans = self._jinja(messages)
        except RowFault as fault:
            return fault
        if not self._has_marks:
            spans = self._spans_by_prefix(messages, text)
        return _Text(messages, text, [span for span in spans if span.stop > span.start])

    def _check_contents(self, messages: Sequence[dict[str, Any]], but: str | None = None) -> None:
        """Raise `RowFault` where a message holds a control token; those of the role `but` are taken as they are."""
        for number, message in enumerate(messages):
            if message["role"] == but:
                continue
            for text in _texts_in(message):
                found = [token for token in self._control if token in text]
                if found:
                    # It would be read as the real token: a user could end the turn, or the reply end early.
                    raise RowFault("invalid", f"message {number} contains the control token `{found[0]}`", text)

    def _jinja(self, messages: list[dict[str, Any]], *, add_generation_prompt: bool = False) -> tuple[str, list[Span]]:
        try:
            with _RENDERING:
                rendered: Any = render_jinja_template(
                    conversations=[messages],
                    chat_template=self._template,
                    return_assistant_tokens_mask=self._has_marks and not add_generation_prompt,
                    add_generation_prompt=add_generation_prompt,
                    **cast("dict[str, Any]", self._tokenizer.special_tokens_map),
                )
        except (TemplateError, TypeError, ValueError) as error:
            raise RowFault("invalid", f"the chat template refuses these messages: {error}") from error
        texts, spans = rendered
        if not texts[0].isascii():
            try:
                texts[0].encode()
            except UnicodeEncodeError as error:
                place = texts[0][max(0, error.start - 20) : error.start]
                raise RowFault("invalid", f"half a character (a lone surrogate) stands after {place!r}") from None
        return texts[0], [Span(*span) for span in spans[0]] if spans else []

    def _spans_by_prefix(self, messages: list[dict[str, Any]], text: str) -> list[Span]:
        spans: list[Span] = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt, _ = self._jinja(messages[:number], add_generation_prompt=True)
            start = len(prompt)
            stop = self._end_of_turn(text, start)
            if not text.startswith(prompt) or stop is None or (spans and start < spans[-1].stop):
                raise RecipeError(
                    "the chat template has no `{% generation %}` marks and the prompt before a reply is not a prefix "
                    "of the whole conversation, so the assistant's tokens cannot be told apart",
                    "Give a template with `{% generation %}` … `{% endgeneration %}` around what the assistant writes.",
                )
            spans.append(Span(start, stop))
        return spans

    def _end_of_probe(self) -> list[str] | None:
        """The control token that the template writes after a reply, if it is another than the tokenizer's end token;
        None where it refuses all that it was asked with."""
        for probe in PROBES:
            try:
                text, _ = self._jinja([dict(message) for message in probe])
                break
            except RowFault:
                continue
        else:
            return None
        rest = text[text.rfind("answer") :]
        found = sorted((rest.find(token), token) for token in self._control if token in rest)
        return [found[0][1]] if found and self._tokenizer.eos_token not in rest else []

    def _end_of_turn(self, text: str, start: int) -> int | None:
        """Where the reply that begins at `start` ends: after its end token."""
        ends = [(text.find(token, start), len(token)) for token in self._ends]
        return min((position + length for position, length in ends if position >= 0), default=None)

    def _rendered(self, text: _Text, encoded: Encoded) -> Rendered:
        encoded = self._split_at_replies(text, encoded)
        ids, offsets = encoded
        self._check_start(ids)
        spans = [_tokens_of(span, offsets) for span in text.spans]
        spans = [self._with_end(span, ids) for span in spans if span.stop > span.start]
        weights = [0.0] * len(ids)
        for span in spans:
            weights[span.start : span.stop] = [1.0] * (span.stop - span.start)
        if not any(weights):
            raise RecipeError(
                "the chat template marks nothing as written by the assistant, though the conversation has a reply",
                "Put `{% generation %}` … `{% endgeneration %}` around the reply and its end token.",
            )
        if all(weights):
            raise RecipeError(
                "the chat template marks every token as written by the assistant, the prompt too",
                "Put `{% generation %}` … `{% endgeneration %}` around the reply and its end token only.",
            )
        roles = _roles(text, offsets, spans)
        return Rendered(ids, weights, roles, text.text, ids[spans[-1].stop - 1])

    def _with_end(self, span: Span, ids: list[int]) -> Span:
        """The span up to its end token: one that the template writes after its mark is learnt too."""
        ends = [number for number in range(span.start, span.stop) if ids[number] in self._end_ids]
        if ends:
            return Span(span.start, ends[-1] + 1)
        if span.stop < len(ids) and ids[span.stop] in self._end_ids:
            return Span(span.start, span.stop + 1)
        hint = f"Write `{self._tokenizer.eos_token}` after the reply, inside the `{{% generation %}}` marks."
        if self._probed is None:
            hint += " (Another token is not known to end it: the template refuses the conversations it was tried with.)"
        raise RecipeError(
            "the chat template writes no end token after the reply, so a model would not learn to stop", hint
        )

    def _check_start(self, ids: list[int]) -> None:
        bos = self._tokenizer.bos_token_id
        if bos is not None and ids[:2] == [bos, bos]:
            raise RecipeError(
                f"a conversation begins with the token `{self._tokenizer.bos_token}` twice",
                "Write it once in the chat template and nowhere else.",
            )

    def _split_at_replies(self, text: _Text, encoded: Encoded) -> Encoded:
        """Tokens must not reach over the start of a reply: at inference the prompt is encoded alone.

        Where one might (merged whitespace), the pieces are encoded apart, unless the tokenizer then writes another text
        (those that put a space before each piece).
        """
        borders = {start for start, _ in encoded.offsets} & {end for _, end in encoded.offsets}
        cuts = [span.start for span in text.spans if span.start > 0 and span.start not in borders]
        if not cuts:
            return encoded
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        for start, stop in pairwise([0, *cuts, len(text.text)]):
            piece = self._backend.encode(text.text[start:stop], add_special_tokens=False)
            ids += piece.ids
            offsets += [(first + start, last + start) for first, last in piece.offsets]
        decode = self._backend.decode
        if decode(ids, skip_special_tokens=False) != decode(encoded.ids, skip_special_tokens=False):
            return encoded
        return Encoded(ids, offsets)


def _template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        template: str = tokenizer.get_chat_template()
    except ValueError as error:
        raise RecipeError(
            "the tokenizer has no chat template",
            "Give one with `template=`, or use text mode (`text=` names the column).",
        ) from error
    return template


def _texts_in(value: object) -> Iterator[str]:
    """All texts in a message, however deep: which of them a template writes, only the template knows."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, field in value.items():
            yield str(name)
            yield from _texts_in(field)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _texts_in(entry)
        # Parts of a content are written one behind the other.
        yield "".join(str(part["text"]) for part in value if isinstance(part, Mapping) and "text" in part)


def _tokens_of(span: Span, offsets: list[tuple[int, int]]) -> Span:
    """The tokens that hold characters of `span`."""
    inside = [number for number, (start, end) in enumerate(offsets) if span.start < end > start < span.stop]
    return Span(inside[0], inside[-1] + 1) if inside else Span(0, 0)


def _roles(text: _Text, offsets: list[tuple[int, int]], replies: list[Span]) -> tuple[RoleSpan, ...]:
    """Replies as marked; the others where their content is found in the text, in order."""
    spans = [RoleSpan("assistant", span.start, span.stop) for span in replies]
    position = 0
    for message in text.messages:
        content = message.get("content")
        if not isinstance(content, str) or not content.strip():
            continue
        found = text.text.find(content.strip(), position)
        if found < 0:
            continue
        position = found + len(content.strip())
        if message["role"] != "assistant":
            start, stop = _tokens_of(Span(found, position), offsets)
            spans.append(RoleSpan(message["role"], start, stop))
    return tuple(sorted(spans, key=lambda span: span.start))
