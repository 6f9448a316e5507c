"""The tokenizer of a family: what SentencePiece gives, from Llama 2, a file, or the recipe's own corpora."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from tinyllama.corpus.documents import read_documents
from tinyllama.corpus.llama2 import obtain_llama2
from tinyllama.corpus.tokenizer_files import write_tokenizer_json
from tinyllama.corpus.tokenizer_training import train_model
from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tinyllama.corpus.documents import Rejected
    from tinyllama.recipe.schema import Recipe, TokenizerTraining

TRAINING_CHARACTERS = 100_000_000
"""How much of each corpus a tokenizer is trained on at most: the first characters in reading order."""


class Tokenizer(Protocol):
    """What the models' callers need of a tokenizer, whatever its kind."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; a text that spells a special token stays text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens give none."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""

    @property
    def bos_id(self) -> int:
        """Id that begins a document."""

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of what decides the ids."""


class TextTokenizer:
    """A SentencePiece model; its ids are the reference for every other reader of the tokenizer."""

    def __init__(self, model_file: Path) -> None:
        """Load a `tokenizer.model`.

        Raises:
            CorpusError: it is not there, no SentencePiece model, or one without BOS or EOS.
        """
        from sentencepiece import SentencePieceProcessor  # noqa: PLC0415  # commands that need none start faster

        self.model_file = model_file
        try:
            self._processor = SentencePieceProcessor(model_proto=model_file.read_bytes())
        except (OSError, RuntimeError) as error:
            raise CorpusError(f"{model_file}: no SentencePiece model can be read from it: {error}") from error
        if min(self.bos_id, self.eos_id) < 0:
            raise CorpusError(f"{model_file}: the model has no BOS or no EOS; documents could not be told apart")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; a text that spells a special token stays text."""
        ids: list[list[int]] = self._processor.encode(list(texts), out_type=int, num_threads=os.cpu_count() or 1)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; BOS and EOS give none."""
        text: str = self._processor.decode(list(ids))
        return text

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self._processor.piece_size()

    @property
    def bos_id(self) -> int:
        """Id that begins a document."""
        return self._processor.bos_id()

    @property
    def eos_id(self) -> int:
        """Id that ends a document."""
        return self._processor.eos_id()

    @cached_property
    def sha256(self) -> str:
        """Hex SHA-256 of the model file."""
        return sha256_file(self.model_file)


def obtain_tokenizer(recipe: Recipe, folder: Path, root: Path, reject: Callable[[Rejected], None]) -> TextTokenizer:
    """The recipe's tokenizer, made in `folder` unless it is there already.

    Leaves `tokenizer.model`, `tokenizer.json` and `origin.json` (where it came from, SHA-256 of both). What
    is there is kept if it is undamaged and of the same origin: the same builtin, a file of the same content,
    or training with the same settings on the same corpora as the recipe states them (their text is not read
    again).

    Args:
        recipe: the recipe.
        folder: the family's tokenizer folder.
        root: folder that the recipe's relative paths start from.
        reject: receives documents that could not be read for training.

    Raises:
        CorpusError: the model is unusable, or does not have the recipe's vocab_size.
        SourceError: Llama 2's tokenizer, or a builtin source of text, cannot be had.
    """
    origin = _origin(recipe, root)
    model_file = folder / "tokenizer.model"
    if not _is_valid(folder, origin):
        data, version = _make_model(recipe, root, reject)
        (folder / "origin.json").unlink(missing_ok=True)
        write_atomic(model_file, data)
        TextTokenizer(model_file)
        write_tokenizer_json(model_file, folder / "tokenizer.json")
        hashes = {name: sha256_file(folder / name) for name in ("tokenizer.model", "tokenizer.json")}
        write_json(folder / "origin.json", {"origin": origin, "version": version, "sha256": hashes})
    tokenizer = TextTokenizer(model_file)
    if tokenizer.vocab_size != recipe.model.vocab_size:
        raise CorpusError(
            f"the tokenizer has {tokenizer.vocab_size} ids but the recipe says model.vocab_size: "
            f"{recipe.model.vocab_size}; make them equal"
        )
    return tokenizer


def _origin(recipe: Recipe, root: Path) -> dict[str, Any]:
    """What decides the tokenizer, to compare with what is there."""
    settings = recipe.tokenizer
    if settings.builtin is not None:
        return {"builtin": settings.builtin}
    if settings.file is not None:
        path = root / settings.file
        if not path.is_file():
            raise CorpusError(f"tokenizer.file: {path} is not there; correct the path, relative to {root.absolute()}")
        return {"file": settings.file, "sha256": sha256_file(path)}
    training = _training(recipe)
    corpora = {name: recipe.corpora[name] for name in training.corpora or recipe.corpora}
    texts = {name: corpus.model_dump(mode="json", include={"sources"}) for name, corpus in corpora.items()}
    return {"train": training.model_dump(mode="json"), "corpora": texts}


def _is_valid(folder: Path, origin: dict[str, Any]) -> bool:
    """Whether the folder holds an undamaged tokenizer of this origin."""
    try:
        record = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        hashes: dict[str, str] = record["sha256"]
        return record["origin"] == origin and all(
            hashes[name] == sha256_file(folder / name) for name in ("tokenizer.model", "tokenizer.json")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make_model(recipe: Recipe, root: Path, reject: Callable[[Rejected], None]) -> tuple[bytes, str]:
    """The bytes of a `tokenizer.model`, and where they came from, in words."""
    settings = recipe.tokenizer
    if settings.builtin is not None:
        return obtain_llama2()
    if settings.file is not None:
        return (root / settings.file).read_bytes(), settings.file
    model = train_model(_training_texts(recipe, root, reject), _training(recipe).vocab_size)
    return model, "trained on the recipe's corpora"


def _training(recipe: Recipe) -> TokenizerTraining:
    training = recipe.tokenizer.train
    if training is None:
        raise CorpusError("tokenizer: give exactly one of builtin, file or train")
    return training


def _training_texts(recipe: Recipe, root: Path, reject: Callable[[Rejected], None]) -> Iterator[str]:
    """Texts of the corpora named for training (all, if none is), held out or not."""
    for name in _training(recipe).corpora or recipe.corpora:
        characters = 0
        for document in read_documents(recipe.corpora[name], root, reject, name=name):
            yield document.text
            characters += len(document.text)
            if characters >= TRAINING_CHARACTERS:
                break
