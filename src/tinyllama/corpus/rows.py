"""Rows: training sequences of T + 1 consecutive tokens whose targets are disjoint and cover a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tinyllama.corpus.shards import TokenStream

IGNORED = -100
"""Target of a position that is not predicted, because another row predicts it."""


def row_count(tokens: int, context: int) -> int:
    """Number of rows of `context` targets that cover a stream of `tokens` tokens."""
    return -(-(tokens - 1) // context)


class Rows:
    """The rows of one token stream.

    Row i reads tokens i·T … i·T + T and predicts all but the first. The last row is the last T + 1 tokens of
    the stream; targets that the row before it predicts are IGNORED. So there is no padding, and nothing is dropped.
    """

    def __init__(self, stream: TokenStream, context: int, name: str) -> None:
        """Cut `stream` into rows of `context` targets.

        Raises:
            CorpusError: the stream is shorter than a row.
        """
        if stream.tokens < context + 1:
            raise CorpusError(
                f"{name} has {stream.tokens} tokens, less than one row of {context + 1}; "
                "give it more text (or a larger held-out share), or make model.context or a stage's context smaller"
            )
        self.stream, self._context = stream, context

    @property
    def targets(self) -> int:
        """Number of predicted tokens in all rows."""
        return self.stream.tokens - 1

    def __len__(self) -> int:
        return row_count(self.stream.tokens, self._context)

    def predicted(self, index: int) -> int:
        """Number of targets that a row predicts: `context`, except in the last row."""
        return min(self._context, self.targets - index * self._context)

    def span(self, index: int) -> range:
        """The T + 1 tokens of the stream that a row reads."""
        start = min(index * self._context, self.targets - self._context)
        return range(start, start + self._context + 1)

    def predicting(self, start: int, end: int) -> range:
        """The rows that predict the tokens in [`start`, `end`) of the stream; no row predicts its first token."""
        return range((max(start, 1) - 1) // self._context, (end - 2) // self._context + 1)

    def row(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Inputs [T] and targets [T] of one row."""
        start = self.span(index).start
        tokens = self.stream.read(start, self._context + 1)
        targets = tokens[1:].copy()
        targets[: index * self._context - start] = IGNORED
        return tokens[:-1], targets
