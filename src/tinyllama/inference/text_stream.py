"""Text of a growing sequence of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tinyllama.tokenizer.base import Tokenizer

_UNFINISHED = "\ufffd"


class TextStream:
    """The text of new tokens as it becomes final: never part of a character, nor of a possible stop string.

    Byte-fallback tokens spell one character over several tokens; until the last has come, decoding gives
    U+FFFD at the end, which is held back. The pieces joined are the text of prompt and new tokens without
    the prompt's, up to the stop string that is complete first.

    The whole sequence is decoded at each token, since the text of a token depends on those before it
    (a leading space, unfinished bytes). That is quadratic, but it is a fraction of a millisecond in a full
    context of 2,048 tokens, small compared with the model's forward pass.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_ids: Sequence[int], stops: Sequence[str] = ()) -> None:
        """Begin after a prompt.

        Args:
            tokenizer: of the model.
            prompt_ids: what is continued; its text is not part of the stream, and stop strings in it do not count.
            stops: strings that end the text and are no part of it; none is empty.
        """
        self._tokenizer, self._stops = tokenizer, tuple(stops)
        self._ids = list(prompt_ids)
        self._text = self._prompt = tokenizer.decode(self._ids)
        self._given = 0
        self.stopped = False
        """Whether a stop string came; no token is needed after it."""

    def push(self, new_id: int) -> str:
        """Add the next token; returns the text that is final now, maybe empty."""
        if self.stopped:
            return ""
        self._ids.append(new_id)
        self._text = self._tokenizer.decode(self._ids)
        if not self._text.startswith(self._prompt):
            # The new token finished a character whose first bytes end the prompt: it is new as a whole.
            self._prompt = self._prompt.rstrip(_UNFINISHED)
        new = self._text[len(self._prompt) :]
        found = [place for stop in self._stops if (place := new.find(stop)) >= 0]
        self.stopped = bool(found)
        if found:
            return self._give(new[: min(found)])
        whole = new.rstrip(_UNFINISHED)
        return self._give(whole[: len(whole) - self._begun(whole)])

    def finish(self) -> str:
        """The text that was held back; call it after the last token."""
        return "" if self.stopped else self._give(self._text[len(self._prompt) :])

    def _give(self, text: str) -> str:
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece

    def _begun(self, text: str) -> int:
        """Length of the longest suffix of a text that is a prefix of a stop string."""
        ends = (length for stop in self._stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
        return max(ends, default=0)


def stream_batch(
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    steps: Iterable[Sequence[int | None]],
    stops: Sequence[str] = (),
    on_token: Callable[[int, int], None] = lambda _row, _new: None,
) -> Iterator[list[str]]:
    """Yield what each step of `decode_batch` adds to each text, until every text has ended; see `TextStream`.

    Args:
        tokenizer: of the model.
        prompts: what each row continues.
        steps: one new id per row, None for rows that have ended; none is read once all texts have ended.
        stops: strings that end a text and are no part of it.
        on_token: called with the number of the text and each of its tokens.
    """
    streams = [TextStream(tokenizer, prompt, stops) for prompt in prompts]
    for step in steps:
        for row, (new, stream) in enumerate(zip(step, streams, strict=True)):
            if new is not None and not stream.stopped:
                on_token(row, new)
        yield ["" if new is None else stream.push(new) for new, stream in zip(step, streams, strict=True)]
        if all(stream.stopped or new is None for new, stream in zip(step, streams, strict=True)):
            break
    yield [stream.finish() for stream in streams]
