"""Text of a growing sequence of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tinyllama.corpus.tokenizer import Tokenizer

_UNFINISHED = "\ufffd"


def stream_text(tokenizer: Tokenizer, prompt_ids: Sequence[int], new_ids: Iterable[int]) -> Iterator[str]:
    """Yield the text of new tokens as it becomes final, never half of a character.

    Byte-fallback tokens spell one character over several tokens; until the last has come, decoding gives
    U+FFFD at the end, which is held back. The pieces joined are the text of prompt and new tokens without
    the prompt's.

    The whole sequence is decoded at each token, since the text of a token depends on what stands before it
    (a leading space, unfinished bytes). That is quadratic, but it is a fraction of a millisecond in a full
    context of 2,048 tokens, small beside the model's forward pass.

    Args:
        tokenizer: of the model.
        prompt_ids: what was continued; its text is not yielded.
        new_ids: the continuation, e.g. from `generate`; read one at a time.
    """
    ids = list(prompt_ids)
    text = prompt = tokenizer.decode(ids)
    done = len(prompt)
    for new_id in new_ids:
        ids.append(new_id)
        text = tokenizer.decode(ids)
        if not text.startswith(prompt):
            # The new token finished a character whose first bytes end the prompt: it is new as a whole.
            prompt = prompt.rstrip(_UNFINISHED)
            done = len(prompt)
        final = text.rstrip(_UNFINISHED)
        if len(final) > done:
            yield final[done:]
            done = len(final)
    if len(text) > done:
        yield text[done:]
