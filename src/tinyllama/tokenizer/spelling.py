"""Whether a tokenizer can spell every text back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.tokenizer.base import Tokenizer

_PROBE = (
    "  A\u00e9 e\u0301 \u1112\u1161\u11ab \ufb01 \uff21 \u2460 \u00a0x\u2028 a\t b\r\n\n\u2026 \u0007\u200b "
    "\U0002000b \U0001f600 \u0130  "
)
"""What normalizers change: case, composed and decomposed accents and Hangul, ligatures, wide and circled characters,
kinds and runs of white space, controls; and characters that few vocabularies have."""


def spells_back(tokenizer: Tokenizer) -> bool:
    """Whether ids decode to the text that they encode, whatever it is.

    A tokenizer that normalizes text, or has no spelling for some characters, does not. (SentencePiece decodes U+2581 to
    a space in any case; see `can_spell`.)
    """
    return tokenizer.decode(tokenizer.encode([_PROBE])[0]) == _PROBE
