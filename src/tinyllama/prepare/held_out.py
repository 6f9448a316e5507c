"""Decides which documents are held out, by a hash of names, so that neighbors stay together."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.recipe import HeldOut
    from tinyllama.sources.documents import Document


def is_held_out(document: Document, rule: HeldOut, corpus: str) -> bool:
    """Whether a document belongs to the held-out part.

    With `document`, all pieces of one source document share the decision; with `block`, runs of `rule.block`
    consecutive pieces do. The decision depends on names only, never on the order or number of documents.
    """
    block = document.part // rule.block if rule.by == "block" else 0
    digest = hashlib.sha256(f"{corpus}\0{document.group}\0{block}".encode()).digest()
    # In integers: the digest's first 64 bits over 2^64 < share.
    return int.from_bytes(digest[:8]) * rule.share.denominator < rule.share.numerator << 64
