"""The bytes of a `tokenizer.model` from its pieces: a SentencePiece BPE of Llama's kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Kinds of pieces, as SentencePiece and GGUF number them."""


class Piece(NamedTuple):
    """One entry of the vocabulary; its position is its id."""

    text: str
    score: float
    kind: int


def serialize_model(
    pieces: Iterable[Piece], *, unknown_id: int = 0, bos_id: int = 1, eos_id: int = 2, space_prefix: bool = True
) -> bytes:
    """A model with byte fallback and identity normalization; the same pieces give the same bytes.

    Args:
        pieces: the vocabulary in the order of ids; BPE first merges the pair that makes the piece of highest score.
        unknown_id: id of the unknown piece.
        bos_id: id of BOS.
        eos_id: id of EOS.
        space_prefix: put a space before every text.
    """
    from sentencepiece import sentencepiece_model_pb2  # loads protobuf

    proto: Any = sentencepiece_model_pb2  # its classes are made at run time
    model = proto.ModelProto()
    for piece in pieces:
        model.pieces.add(piece=piece.text, score=piece.score, type=piece.kind)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    trainer.model_type = proto.TrainerSpec.BPE
    trainer.vocab_size = len(model.pieces)
    trainer.byte_fallback = True
    trainer.split_digits = True
    trainer.allow_whitespace_only_pieces = True
    trainer.character_coverage = 0.99995
    for key, value, default in (("unk_id", unknown_id, 0), ("bos_id", bos_id, 1), ("eos_id", eos_id, 2)):
        if value != default:
            setattr(trainer, key, value)
    normalizer.name = "identity"
    normalizer.add_dummy_prefix = space_prefix
    normalizer.remove_extra_whitespaces = False
    data: bytes = model.SerializeToString(deterministic=True)
    return data
