"""The tokenizer inside a GGUF file, as the files that other tools and our corpora read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.errors import CorpusError
from tinyllama.files import write_atomic, write_json
from tinyllama.tokenizer.byte_level import ByteLevel, tokenizer_json
from tinyllama.tokenizer.chat_template import TEMPLATE_FILE
from tinyllama.tokenizer.json_file import SETTINGS, TOKENIZER_JSON
from tinyllama.tokenizer.sentencepiece_writer import NORMAL, Piece, serialize_model

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.files import Json
    from tinyllama.formats.gguf.file import GgufFile

_KEY = "tokenizer.ggml."


def write_gguf_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write a GGUF file's tokenizer: `tokenizer.model` for SentencePiece, else tokenizer.json with its config.

    Raises:
        CorpusError: it is neither a SentencePiece BPE nor a byte-level BPE of a kind we know.
        ModelError: the file has no tokenizer.
    """
    match kind := file.require(f"{_KEY}model"):
        case "llama":
            write_atomic(folder / "tokenizer.model", _sentencepiece(file))
            if template := file.get("tokenizer.chat_template"):
                write_atomic(folder / TEMPLATE_FILE, template)
        case "gpt2":
            write_atomic(folder / TOKENIZER_JSON, _byte_level(file))
            write_json(folder / SETTINGS, _config(file))
        case _:
            raise CorpusError(
                f"{file.path}: its tokenizer is of kind {kind!r}, and only 'llama' and 'gpt2' are read; give the model "
                "as a Hugging Face folder"
            )


def _sentencepiece(file: GgufFile) -> bytes:
    tokens = file.require(f"{_KEY}tokens")
    pieces = map(Piece, tokens, file.require(f"{_KEY}scores"), file.require(f"{_KEY}token_type"))
    return serialize_model(
        pieces,
        unknown_id=file.get(f"{_KEY}unknown_token_id", 0),
        bos_id=file.require(f"{_KEY}bos_token_id"),
        eos_id=file.require(f"{_KEY}eos_token_id"),
        space_prefix=file.get(f"{_KEY}add_space_prefix", True),  # llama.cpp's default
    )


def _byte_level(file: GgufFile) -> str:
    tokens = file.require(f"{_KEY}tokens")
    kinds = file.get(f"{_KEY}token_type") or [NORMAL] * len(tokens)
    pieces = ByteLevel(file.get(f"{_KEY}pre", "gpt-2"), tokens, kinds, file.require(f"{_KEY}merges"))
    # Where a file does not say, llama.cpp adds BOS for Llama 3's rule only.
    adds_bos = file.get(f"{_KEY}add_bos_token", pieces.rule == "llama-bpe")
    return tokenizer_json(pieces, tokens[file.require(f"{_KEY}bos_token_id")] if adds_bos else None)


def _config(file: GgufFile) -> dict[str, Json]:
    tokens = file.require(f"{_KEY}tokens")
    config: dict[str, Json] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[file.require(f"{_KEY}bos_token_id")],
        "eos_token": tokens[file.require(f"{_KEY}eos_token_id")],
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.require("llama.context_length"),
    }
    template = file.get("tokenizer.chat_template")
    return config | ({"chat_template": template} if template else {})
