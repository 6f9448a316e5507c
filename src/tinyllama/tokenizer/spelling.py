"""Whether a tokenizer can spell every text back."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.tokenizer.base import Tokenizer

_CHANGED = (
    "A\u00e9 e\u0301 \u1112\u1161\u11ab \ufb01 \uff21 \u2460 \u00a0x\u2028 a\t b\r\n\n\u2026 \u0007\u200b it 's . "
    "\U0002000b \U0001f600 \u0130"
)
"""What tokenizers change: case, composed and decomposed accents and Hangul, ligatures, wide and circled characters,
kinds and runs of white space, controls, spaces before punctuation; and characters that few vocabularies have."""
_CODES = (range(0xC0), range(0xC0, 0x800, 0x40), [0x800], range(0x1000, 0x10000, 0x1000), [0x10000])
_EVERY_BYTE = "".join(map(chr, chain(*_CODES, range(0x40000, 0x110000, 0x40000))))
"""Characters that have each byte of UTF-8."""
_PROBES = (_CHANGED, f"  {_CHANGED}  ", _EVERY_BYTE)


def spells_back(tokenizer: Tokenizer) -> bool:
    """Whether ids decode to the text that they encode, whatever it is.

    A tokenizer that normalizes text, adds or drops spaces, or has no spelling for some characters, does not.
    (SentencePiece decodes U+2581 to a space in any case; see `can_spell`.)
    """
    return not tokenizer.may_respell and all(
        tokenizer.decode(ids) == text for text, ids in zip(_PROBES, tokenizer.encode(_PROBES), strict=True)
    )
