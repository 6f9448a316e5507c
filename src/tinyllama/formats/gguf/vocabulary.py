"""A tokenizer as GGUF metadata, so that llama.cpp gives the ids that ours gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tinyllama.tokenizer.added_tokens import read_added_tokens
from tinyllama.tokenizer.byte_level import UNUSED, USER_DEFINED, read_byte_level
from tinyllama.tokenizer.sentencepiece_writer import CONTROL

if TYPE_CHECKING:
    from gguf import GGUFWriter

    from tinyllama.tokenizer.base import Tokenizer


_ADDED_SCORE = -1000.0
"""llama.cpp's own tool gives it to tokens that are no pieces; it decides nothing."""


def add_vocabulary(writer: GGUFWriter, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Add a tokenizer to a GGUF file's metadata.

    Ids that the model has an embedding for but the tokenizer no token become unused tokens.

    Args:
        writer: before it writes its header.
        tokenizer: SentencePiece, or byte-level BPE.
        vocab_size: embeddings of the model.

    Raises:
        CorpusError: it is of a kind that llama.cpp does not know.
    """
    if tokenizer.library == "tokenizers":
        _add_byte_level(writer, tokenizer, vocab_size)
    else:
        _add_sentencepiece(writer, tokenizer, vocab_size)
    writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    for add, token in zip((writer.add_eot_token_id, writer.add_eom_token_id), _other_ends(tokenizer), strict=False):
        add(token)
    writer.add_add_bos_token(tokenizer.adds_bos)
    writer.add_add_eos_token(value=False)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template)


def _other_ends(tokenizer: Tokenizer) -> list[int]:
    """Ids that end a turn, of which GGUF names two."""
    return sorted(tokenizer.end_ids - {tokenizer.eos_id})


def _add_sentencepiece(writer: GGUFWriter, tokenizer: Tokenizer, vocab_size: int) -> None:
    from sentencepiece import sentencepiece_model_pb2  # loads protobuf

    proto: Any = sentencepiece_model_pb2  # its classes are made at run time
    model = proto.ModelProto.FromString(tokenizer.model_file.read_bytes())
    added = read_added_tokens(tokenizer.model_file.parent, len(model.pieces))
    spare = range(len(model.pieces) + len(added), vocab_size)
    texts = [*(piece.piece for piece in model.pieces), *(token.text for token in added)]
    kinds = [int(piece.type) for piece in model.pieces]
    kinds += [CONTROL if token.special else USER_DEFINED for token in added]
    scores = [piece.score for piece in model.pieces] + [_ADDED_SCORE for _ in added]
    # The kinds of pieces have the same numbers in both formats.
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts + [f"[PAD{index}]" for index in spare])
    writer.add_token_scores(scores + [-1e4 for _ in spare])
    writer.add_token_types(kinds + [UNUSED for _ in spare])
    writer.add_unk_token_id(model.trainer_spec.unk_id)
    writer.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)


def _add_byte_level(writer: GGUFWriter, tokenizer: Tokenizer, vocab_size: int) -> None:
    path = tokenizer.model_file
    pieces = read_byte_level(json.loads(path.read_text(encoding="utf-8")), vocab_size, str(path))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pieces.rule)
    writer.add_token_list(pieces.tokens)
    writer.add_token_types(pieces.kinds)
    writer.add_token_merges(pieces.merges)
    writer.add_add_space_prefix(value=False)
