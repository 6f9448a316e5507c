"""Converts a SentencePiece model to the files that other tools read: tokenizer.json and transformers' files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.errors import CorpusError
from tinyllama.files import write_atomic, write_json
from tinyllama.record_files import read_object
from tinyllama.tokenizer.added_tokens import read_added_tokens
from tinyllama.tokenizer.chat_template import read_chat_template
from tinyllama.tokenizer.json_file import portable_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyllama.files import Json

_SPACE = "▁"
"""How SentencePiece writes a space in a piece."""


class _Pieces(NamedTuple):
    texts: Sequence[str]
    scores: dict[str, float]
    """Scores of the pieces that merges can make, so not of control symbols and bytes."""
    controls: Sequence[str]
    """Unknown, BOS and EOS."""


def write_tokenizer_json(model_file: Path, target: Path) -> None:
    """Write `tokenizer_json` to a file.

    Args:
        model_file: a SentencePiece BPE with byte fallback and identity normalization.
        target: the tokenizer.json to write.

    Raises:
        CorpusError: the model is of another kind, whose ids would differ.
    """
    write_json(target, tokenizer_json(model_file))


def tokenizer_json(model_file: Path) -> dict[str, Any]:  # the tokenizers library's own JSON
    """A SentencePiece BPE as `tokenizers` reads it: the same ids, after BOS.

    The normalizer puts a space before the text and writes spaces as U+2581; characters without a piece become
    bytes. The spellings of unknown, BOS and EOS in a text become these tokens, as in Llama tooling (in prepared corpora
    they stay text).

    Args:
        model_file: a SentencePiece BPE with byte fallback and identity normalization.

    Raises:
        CorpusError: the model is of another kind, whose ids would differ.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    pieces = _read_pieces(model_file)
    vocabulary = {text: index for index, text in enumerate(pieces.texts)}
    unknown, bos, _ = pieces.controls
    model = models.BPE(
        vocab=vocabulary, merges=_merges(pieces), unk_token=unknown, fuse_unk=True, byte_fallback=True
    )  # fmt: skip
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in pieces.controls])
    for token in read_added_tokens(model_file.parent, len(pieces.texts)):
        add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
        add([AddedToken(token.text, normalized=False, special=token.special)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, vocabulary[bos])]
    )
    state = json.loads(tokenizer.to_str())
    # The older spelling of merges: tokenizers below 0.20, as transformers 4.31 has it, reads no other.
    state["model"]["merges"] = [f"{left} {right}" for left, right in state["model"]["merges"]]
    return dict(state)


def write_transformers_files(model_file: Path, folder: Path, *, context: int) -> None:
    """Write tokenizer.model, tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    `tokenizer_class` names the plain reader of tokenizer.json, since transformers 5's own class for Llama rebuilds the
    tokenizer and gives other ids for texts that begin with a space. LlamaTokenizer of transformers 4 reads
    tokenizer.model; `legacy` makes it give SentencePiece's ids.

    Args:
        model_file: a SentencePiece BPE with byte fallback and identity normalization; or a tokenizer.json, which
            is copied with the tokenizer_config.json beside it, so that older releases read it, and without truncation,
            padding and dropout.
        folder: the model's folder.
        context: tokens in the model's context.

    Raises:
        CorpusError: the model is of another kind.
    """
    if model_file.suffix == ".json":
        _copy_json_tokenizer(model_file, folder)
        return
    pieces = _read_pieces(model_file)
    unknown, bos, eos = pieces.controls
    special = {"bos_token": bos, "eos_token": eos, "unk_token": unknown}
    write_atomic(folder / "tokenizer.model", model_file.read_bytes())
    write_tokenizer_json(model_file, folder / "tokenizer.json")
    write_json(folder / "special_tokens_map.json", special)
    settings: dict[str, Json] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": True,
        "add_eos_token": False,
        "legacy": True,
    }
    write_json(
        folder / "tokenizer_config.json",
        settings | special | _chat_template(model_file) | _added_tokens(model_file, len(pieces.texts)),
    )


def _copy_json_tokenizer(model_file: Path, folder: Path) -> None:
    settings = read_object(model_file.with_name("tokenizer_config.json"), CorpusError, "download the file again")
    special = {key: value for key, value in settings.items() if key.endswith("_token") and value is not None}
    write_atomic(folder / "tokenizer.json", portable_json(model_file))
    write_json(folder / "tokenizer_config.json", {**settings, **_chat_template(model_file)})
    write_json(folder / "special_tokens_map.json", special)


def _chat_template(model_file: Path) -> dict[str, str]:
    """The setting that every version of transformers reads, if there is a template beside the tokenizer."""
    template = read_chat_template(model_file.parent)
    return {} if template is None else {"chat_template": template}


def _added_tokens(model_file: Path, pieces: int) -> dict[str, Json]:
    """The setting by which LlamaTokenizer of transformers 4 knows tokens that are no pieces."""
    plain: dict[str, Json] = {"normalized": False, "lstrip": False, "rstrip": False, "single_word": False}
    added = enumerate(read_added_tokens(model_file.parent, pieces), pieces)
    entries: dict[str, Json] = {
        str(index): {"content": token.text, "special": token.special, **plain} for index, token in added
    }
    return {"added_tokens_decoder": entries} if entries else {}


def _read_pieces(model_file: Path) -> _Pieces:
    from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2  # loads protobuf

    proto: Any = sentencepiece_model_pb2  # its classes are made at run time
    data = model_file.read_bytes()
    model = proto.ModelProto.FromString(data)
    kind = proto.ModelProto.SentencePiece
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    if (
        trainer.model_type != proto.TrainerSpec.BPE
        or not trainer.byte_fallback
        or normalizer.precompiled_charsmap
        or normalizer.remove_extra_whitespaces
        or not normalizer.add_dummy_prefix
        or any(piece.type in {kind.USER_DEFINED, kind.UNUSED} for piece in model.pieces)
    ):
        raise CorpusError(
            f"{model_file}: is not a tokenizer of Llama's kind (BPE with byte fallback, identity normalization, "
            "a space before the text, white space kept, no user-defined pieces); other tools could not read "
            "the same ids from it"
        )
    processor = SentencePieceProcessor(model_proto=data)
    controls = [processor.id_to_piece(i) for i in (processor.unk_id(), processor.bos_id(), processor.eos_id())]
    scores = {piece.piece: piece.score for piece in model.pieces if piece.type == kind.NORMAL}
    return _Pieces([piece.piece for piece in model.pieces], scores, controls)


def _merges(pieces: _Pieces) -> list[tuple[str, str]]:
    """Pairs in the order in which SentencePiece merges them: by the score of the piece that they make.

    SentencePiece merges any neighbors that make a piece, and with equal scores the leftmost. Among the pairs that make
    the same piece, or white space of any length, the pair with the longer left part comes first, since a run that is
    merged from the left grows there.
    """
    found: list[tuple[float, int, int, str, str]] = []
    for text, score in pieces.scores.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in pieces.scores and right in pieces.scores:
                found.append((-score, -len(left), -len(right), left, right))
    return [(left, right) for *_, left, right in sorted(found)]
