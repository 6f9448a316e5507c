"""Byte-level BPE tokenizers of Llama models, as `tokenizers` and as llama.cpp describe them.

Both merge bytes by rank. They differ in how they name the rule that first divides a text into words: llama.cpp has a
name for each rule that it knows (`tokenizer.ggml.pre`), tokenizer.json spells the rule out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.errors import CorpusError
from tinyllama.tokenizer.pretokenizers import WHOLE_WORDS_FIRST, canonical, name_of, pre_tokenizer
from tinyllama.tokenizer.sentencepiece_writer import CONTROL, NORMAL

if TYPE_CHECKING:
    from collections.abc import Sequence

USER_DEFINED, UNUSED = 4, 5
"""Further kinds of tokens, as GGUF numbers them."""


class ByteLevel(NamedTuple):
    """A byte-level BPE: everything that decides its ids."""

    rule: str
    """llama.cpp's name of the rule for words."""
    tokens: Sequence[str]
    """Tokens in the order of ids, with bytes spelled as in GPT-2."""
    kinds: Sequence[int]
    """Kind of each token: NORMAL, CONTROL, USER_DEFINED or UNUSED."""
    merges: Sequence[str]
    """Pairs `left right` in the order of their ranks."""


def tokenizer_json(pieces: ByteLevel, bos: str | None) -> str:
    """The tokenizer.json of a byte-level BPE.

    Args:
        pieces: the tokenizer.
        bos: token that the tokenizer puts before every text; None for none.

    Raises:
        CorpusError: its rule for words is not known.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    rule = pre_tokenizer(pieces.rule)
    vocabulary = {text: index for index, text in enumerate(pieces.tokens)}
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in pieces.merges)]
    model = models.BPE(vocab=vocabulary, merges=merges, ignore_merges=canonical(pieces.rule) in WHOLE_WORDS_FIRST)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if bos is not None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, vocabulary[bos])]
        )
    for text, kind in zip(pieces.tokens, pieces.kinds, strict=True):
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(text, normalized=False)])
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = rule
    return json.dumps(state, ensure_ascii=False, indent=2)


def read_byte_level(
    state: dict[str, Any],  # the tokenizers library's own JSON
    vocab_size: int,
    where: str,
) -> ByteLevel:
    """The byte-level BPE in a parsed tokenizer.json; ids without a token, up to `vocab_size`, are UNUSED.

    Raises:
        CorpusError: it is another kind of tokenizer, or llama.cpp has no name for its rule for words.
    """
    model = state["model"]
    rule = name_of(state.get("pre_tokenizer"), whole_words_first=model.get("ignore_merges", False))
    if model["type"] != "BPE" or model.get("byte_fallback") or rule is None or state.get("normalizer"):
        raise CorpusError(
            f"{where}: is not a byte-level BPE whose rule for words llama.cpp knows, so GGUF cannot describe it; if it "
            "is a tokenizer of Llama 2's kind, put its tokenizer.model beside it"
        )
    tokens = [f"[PAD{index}]" for index in range(vocab_size)]
    kinds = [UNUSED] * vocab_size
    for text, index in model["vocab"].items():
        tokens[index], kinds[index] = text, NORMAL
    for added in state["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return ByteLevel(rule, tokens, kinds, merges)
