"""Training of a Llama-style tokenizer: SentencePiece BPE with Llama 2's settings."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CHARACTER_COVERAGE = 0.99995
"""Llama 2's share of the text whose characters become pieces; the rest is spelled in bytes."""

_DROPS_LINES = "\u2585"
_BYTES_AND_CONTROLS = 256 + 3


def train_model(texts: Iterable[str], vocab_size: int) -> bytes:
    """Train a SentencePiece BPE with Llama 2's settings; the same texts give the same bytes.

    The settings: byte fallback, separate digits, no normalization, a space before the text, runs of white space kept.
    Training is on lines, so that line ends are always spelled as bytes, as in Llama 2. Characters are covered up to
    `CHARACTER_COVERAGE`, but take at most half of the pieces of a small vocabulary.

    Args:
        texts: the training text; held in memory.
        vocab_size: number of ids, of which 259 are the bytes, unknown, BOS and EOS.

    Raises:
        CorpusError: there is no text, or too little to fill the vocabulary.
    """
    from sentencepiece import SentencePieceTrainer  # only needed to train

    interrupts: list[KeyboardInterrupt] = []
    lines = [line for text in texts for line in text.split("\n") if line]
    room = vocab_size - _BYTES_AND_CONTROLS
    if not lines or room < 2:
        problem = "there is no text to learn from" if room >= 2 else f"vocab_size must be at least {259 + 2}"
        raise CorpusError(f"the tokenizer cannot be trained: {problem}")
    rare = _rare_characters(lines, room // 2)
    model = BytesIO()
    try:
        SentencePieceTrainer.train(
            # Digits never merge, so one of them can stand for any character that gets no piece.
            sentence_iterator=_until_interrupted((line.translate(rare) for line in lines), interrupts),
            model_writer=model,
            model_type="bpe",
            vocab_size=vocab_size,
            character_coverage=1.0,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=True,
            allow_whitespace_only_pieces=True,
            max_sentence_length=1 << 30,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        if interrupts:
            raise interrupts[0] from None
        reason = str(error).rpartition("] ")[2] or str(error)
        raise CorpusError(
            f"the tokenizer cannot be trained with vocab_size {vocab_size}: {reason} "
            "Give it more text or a smaller vocab_size."
        ) from error
    return model.getvalue()


def _until_interrupted(lines: Iterable[str], interrupts: list[KeyboardInterrupt]) -> Iterator[str]:
    """The lines; Ctrl-C is noted, since the library turns whatever an iterator raises into its own error."""
    try:
        yield from lines
    except KeyboardInterrupt as interrupt:
        interrupts.append(interrupt)
        raise


def _rare_characters(lines: Iterable[str], most: int) -> dict[int, str]:
    """A table that replaces characters without a piece by "0": those beyond the coverage or the `most` frequent.

    Also the one with which the trainer marks what it does not know: it would leave out lines that have it.

    The trainer's own setting has a minimum of 0.98, and a small vocabulary needs less for Chinese.
    """
    counts = Counter[str]()
    for line in lines:
        counts.update(line)
    total, covered = counts.total(), 0
    rare: dict[int, str] = {}
    for rank, (character, count) in enumerate(sorted(counts.items(), key=lambda item: (-item[1], item[0]))):
        beyond = rank >= most - 2 or covered >= CHARACTER_COVERAGE * total
        if character == _DROPS_LINES or (character not in " 0" and beyond):
            rare[ord(character)] = "0"
        covered += count
    return rare
