"""The tokenizer inside a GGUF file, as the files that other tools and our corpora read."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tinyllama.errors import CorpusError
from tinyllama.files import write_atomic, write_json
from tinyllama.tokenizer.byte_level import ByteLevel, tokenizer_json
from tinyllama.tokenizer.chat_template import TEMPLATE_FILE
from tinyllama.tokenizer.end_ids import GENERATION_CONFIG
from tinyllama.tokenizer.json_file import SETTINGS, TOKENIZER_JSON
from tinyllama.tokenizer.pretokenizers import BOS_FIRST, canonical
from tinyllama.tokenizer.sentencepiece_writer import BYTE, NORMAL, Piece, serialize_model

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.files import Json
    from tinyllama.formats.gguf.file import GgufFile

_KEY = "tokenizer.ggml."
_Number = TypeVar("_Number", int, float)


def write_gguf_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write a GGUF file's tokenizer: `tokenizer.model` for SentencePiece, else tokenizer.json with its config.

    Raises:
        CorpusError: it is neither a SentencePiece BPE nor a byte-level BPE of a kind we know.
        ModelError: the file has no tokenizer.
    """
    if len(ends := _end_ids(file)) > 1:
        write_json(folder / GENERATION_CONFIG, {"eos_token_id": list(ends)})
    match kind := file.require(f"{_KEY}model", str):
        case "llama":
            write_atomic(folder / "tokenizer.model", _sentencepiece(file))
            if template := file.get("tokenizer.chat_template", str, None):
                write_atomic(folder / TEMPLATE_FILE, template)
        case "gpt2":
            write_atomic(folder / TOKENIZER_JSON, _byte_level(file))
            write_json(folder / SETTINGS, _config(file))
        case _:
            raise CorpusError(
                f"{file.path}: its tokenizer is of kind {kind!r}, and only 'llama' and 'gpt2' are read; give the model "
                "as a Hugging Face folder"
            )


def _end_ids(file: GgufFile) -> list[int]:
    """Ids of the tokens that end a text or a turn."""
    stated = [file.get(f"{_KEY}{name}_token_id", int, None) for name in ("eos", "eot", "eom")]
    return sorted({token for token in stated if token is not None})


def _sentencepiece(file: GgufFile) -> bytes:
    tokens = _tokens(file)
    scores, kinds = (_of_tokens(file, key, tokens, kind) for key, kind in (("scores", float), ("token_type", int)))
    if wrong := next((kind for kind in kinds if not NORMAL <= kind <= BYTE), None):
        raise CorpusError(f"{file.path}: {_KEY}token_type: {wrong} is no kind of token; download the file again")
    return serialize_model(
        map(Piece, tokens, scores, map(int, kinds)),
        unknown_id=file.get(f"{_KEY}unknown_token_id", int, 0),
        bos_id=_token_id(file, "bos", tokens),
        eos_id=_token_id(file, "eos", tokens),
        space_prefix=file.get(f"{_KEY}add_space_prefix", bool, True),  # llama.cpp's default
    )


def _byte_level(file: GgufFile) -> str:
    tokens = _tokens(file)
    kinds = _of_tokens(file, "token_type", tokens, int) if file.holds(f"{_KEY}token_type") else [NORMAL] * len(tokens)
    merges = file.require(f"{_KEY}merges", list[str])
    pieces = ByteLevel(file.get(f"{_KEY}pre", str, "gpt-2"), tokens, kinds, merges)
    adds_bos = file.get(f"{_KEY}add_bos_token", bool, canonical(pieces.rule) in BOS_FIRST)
    return tokenizer_json(pieces, tokens[_token_id(file, "bos", tokens)] if adds_bos else None)


def _tokens(file: GgufFile) -> list[str]:
    return file.require(f"{_KEY}tokens", list[str])


def _of_tokens(file: GgufFile, key: str, tokens: list[str], kind: type[_Number]) -> list[_Number]:
    """A list with a value for each token.

    Raises:
        CorpusError: its length differs.
    """
    values = file.require(f"{_KEY}{key}", list[kind])  # type: ignore[valid-type]  # a type at run time
    if len(values) != len(tokens):
        raise CorpusError(
            f"{file.path}: {_KEY}{key} has {len(values)} values for {len(tokens)} tokens; download the file again"
        )
    return values


def _token_id(file: GgufFile, name: str, tokens: list[str]) -> int:
    """Id of BOS or EOS.

    Raises:
        CorpusError: no token has it.
    """
    token = file.require(f"{_KEY}{name}_token_id", int)
    if not 0 <= token < len(tokens):
        raise CorpusError(
            f"{file.path}: {_KEY}{name}_token_id is {token}, but there are {len(tokens)} tokens; download the file "
            "again"
        )
    return token


def _config(file: GgufFile) -> dict[str, Json]:
    tokens = _tokens(file)
    config: dict[str, Json] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[_token_id(file, "bos", tokens)],
        "eos_token": tokens[_token_id(file, "eos", tokens)],
        "clean_up_tokenization_spaces": False,
        "model_max_length": file.require("llama.context_length", int),
    }
    template = file.get("tokenizer.chat_template", str, None)
    return config | ({"chat_template": template} if template else {})
