"""A conversation with a model by its chat template; what the model has read of it is kept between turns."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from tinyllama.errors import ModelError, UserError
from tinyllama.inference.decode import decode_batch
from tinyllama.inference.text_stream import TextStream
from tinyllama.model import KeyValueCache
from tinyllama.tokenizer.chat_template import render_conversation

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from tinyllama.formats.model_source import OpenModel
    from tinyllama.inference.sampling import Sampling
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_TAIL = 32
"""Ids of a prompt before which nothing changes how an answer is spelled."""
_PROBE = "answer-probe"


class Ending(StrEnum):
    """Why an answer ended."""

    END = "end"
    """The model ended it."""
    LENGTH = "length"
    """It has as many tokens as were allowed."""
    CONTEXT = "context"
    """The conversation fills the model's context."""


def require_chat_template(tokenizer: Tokenizer, source: OpenModel) -> None:
    """Refuse a model that was not trained on conversations, before its weights are loaded.

    Raises:
        ModelError: it has no chat template.
    """
    if tokenizer.chat_template is None:
        raise ModelError(
            f"{source.origin}: has no chat template, so it holds no conversation; it continues texts: "
            f"`tinyllama generate {source.origin} TEXT`"
        )


class Conversation:
    """Messages, their answers, and the cache of what the model has read of them.

    Each turn is the whole conversation by the template, with the ids of transformers' `apply_chat_template`. Where it
    begins with what the model has read and written, these ids stay as they are, and only the rest is encoded and read.

    Args:
        model: see `decode_batch`.
        tokenizer: the model's, with a chat template.
        settings: how tokens are chosen.
        max_new_tokens: of each answer, at most.
        seed: of the sampling; the same messages get the same answers.
    """

    system: str | None = None
    """The system message; a change holds from the next turn on."""
    ending: Ending | None = None
    """Why the newest answer ended; None if the caller stopped it."""

    def __init__(
        self, model: Llama, tokenizer: Tokenizer, settings: Sampling, *, max_new_tokens: int, seed: int
    ) -> None:
        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        self._max_new_tokens, self._seed = max_new_tokens, seed
        self.turns: list[dict[str, str]] = []
        """Messages and answers, without the system message."""
        self._cache = KeyValueCache(model.shape.layers)
        self.ids: list[int] = []
        """Prompt and answer of the newest turn; the cache holds the first of them."""
        self._text: str | None = None
        """What these ids spell, as the template and the answer have it; None if the answer was stopped."""
        self._ends = tokenizer.end_ids | self._end_of_answers()

    def reset(self) -> None:
        """Forget the messages; the system message stays."""
        self.turns.clear()

    def answer(self, message: str) -> Generator[str]:
        """Yield the answer to a message as it comes.

        Where the caller stops, by closing the iterator or by an interrupt, the answer so far stays in the
        conversation. A message that got no answer is forgotten, after an error too.

        Raises:
            UserError: the template refuses the message, or the conversation leaves no room in the model's context.
        """
        self.ending, answer = None, ""
        self.turns.append({"role": "user", "content": message})
        try:
            for piece in self._continue():
                answer += piece
                yield piece
        finally:
            if answer or self.ending:
                self.turns.append({"role": "assistant", "content": answer})
                self._text = self._text + answer if self._text is not None and self.ending else None
            else:
                self.turns.pop()

    def _continue(self) -> Iterator[str]:
        text, prompt = self._prompt()
        left = self._model.shape.context - len(prompt)
        if left <= 0:
            raise UserError(
                f"the conversation has {len(prompt):,} tokens with this message, and the model's context of "
                f"{self._model.shape.context:,} has no room for an answer; begin a new conversation (/reset), or "
                "shorten the message"
            )
        same = zip(self.ids[: self._cache.length], prompt[:-1], strict=False)
        self._cache.truncate(next((i for i, (old, new) in enumerate(same) if old != new), len(prompt) - 1))
        self._text, self.ids = text, list(prompt)
        steps = decode_batch(
            self._model,
            [prompt],
            self._settings,
            end_ids=self._ends,
            max_new_tokens=self._max_new_tokens,
            seed=self._seed + len(self.turns),
            cache=self._cache,
        )
        stream = TextStream(self._tokenizer, prompt[-_TAIL:])
        for new in (token for row in steps for token in row if token is not None):
            self.ids.append(new)
            yield stream.push(new)
        yield stream.finish()
        written = len(self.ids) - len(prompt)
        if written == left:
            self.ending = Ending.CONTEXT
        else:
            self.ending = Ending.LENGTH if written == self._max_new_tokens else Ending.END

    def _prompt(self) -> tuple[str, list[int]]:
        """The conversation up to where the answer begins, as text and as ids."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        text = self._render([*system, *self.turns], answer=True)
        if self._text is not None and text.startswith(self._text):
            rest = text[len(self._text) :]
            if self._first_mark(rest) is not None:  # ids of text would depend on what stands before
                return text, self.ids + self._tokenizer.encode_marked(rest)
        return text, self._tokenizer.encode_marked(text)

    def _end_of_answers(self) -> frozenset[int]:
        """The special token that the template writes after an answer; it may not be among those that end texts."""
        probe = [{"role": role, "content": _PROBE} for role in ("user", "assistant")]
        try:
            _, _, after = self._render(probe, answer=False).rpartition(_PROBE)
        except UserError:  # a template may demand more than this
            return frozenset()
        mark = self._first_mark(after.lstrip())
        return frozenset() if mark is None else frozenset({mark})

    def _render(self, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
        template = self._tokenizer.chat_template or ""
        return render_conversation(template, messages, self._tokenizer.special_tokens, answer=answer)

    def _first_mark(self, text: str) -> int | None:
        """The special token that a text begins with."""
        for token in self._tokenizer.encode_marked(text)[:1]:
            if text.startswith(self._tokenizer.piece(token)) and not self._tokenizer.decode([token]):
                return token
        return None
