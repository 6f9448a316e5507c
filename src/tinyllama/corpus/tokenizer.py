"""The tokenizer of a family: what SentencePiece gives, from Llama 2, a file, or the recipe's own corpora."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from tinyllama.corpus.chat_template import TEMPLATE_FILE, read_chat_template
from tinyllama.corpus.documents import read_documents
from tinyllama.corpus.llama2 import obtain_llama2
from tinyllama.corpus.tokenizer_files import write_tokenizer_json
from tinyllama.corpus.tokenizer_training import train_model
from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from tinyllama.corpus.rejection import Rejected
    from tinyllama.recipe import Recipe, TokenizerTraining

TRAINING_CHARACTERS = 100_000_000
"""How much of each corpus a tokenizer is trained on at most: the first characters in reading order."""


class Tokenizer(Protocol):
    """What the models' callers need of a tokenizer, whatever its kind."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; a text that spells a special token stays text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens give none."""

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text as tooling gives them to the model: after BOS, where this tokenizer has it so."""

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
    def adds_bos(self) -> bool:
        """Whether tooling puts BOS before a prompt."""

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
        self.threads = os.cpu_count() or 1
        """How many encode a list of texts."""
        self.chat_template = read_chat_template(model_file.parent)
        """The template beside it, in Jinja; None for a base model."""
        try:
            self._processor = SentencePieceProcessor(model_proto=model_file.read_bytes())
        except (OSError, RuntimeError) as error:
            raise CorpusError(f"{model_file}: no SentencePiece model can be read from it: {error}") from error
        if min(self.bos_id, self.eos_id) < 0:
            raise CorpusError(f"{model_file}: the model has no BOS or no EOS; documents could not be told apart")

    def __reduce__(self) -> tuple[type[TextTokenizer], tuple[Path]]:
        """Another process opens the file again, wherever it works."""
        return type(self), (self.model_file.absolute(),)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without BOS and EOS; a text that spells a special token stays text."""
        if len(texts) == 1:  # threads take longer to start than a text to cut
            return [self._processor.encode(texts[0], out_type=int)]
        ids: list[list[int]] = self._processor.encode(list(texts), out_type=int, num_threads=self.threads)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; BOS and EOS give none."""
        text: str = self._processor.decode(list(ids))
        return text

    def encode_prompt(self, text: str) -> list[int]:
        """Ids of a text as tooling gives them to the model: after BOS, where this tokenizer has it so."""
        return [self.bos_id] * self.adds_bos + self.encode([text])[0]

    def has_piece(self, text: str) -> bool:
        """Whether the vocabulary has a piece of this spelling."""
        return self._processor.piece_to_id(text) != self._processor.unk_id()

    @property
    def adds_bos(self) -> bool:
        """Whether tooling puts BOS before a prompt: for SentencePiece models of Llama's kind it does."""
        return True

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


def open_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer in a folder: its `tokenizer.model`, or the tokenizer.json of a model that has none.

    Raises:
        CorpusError: neither is there, or it cannot be read.
    """
    from tinyllama.corpus.json_tokenizer import JsonTokenizer  # noqa: PLC0415  # it extends this module

    model_file = folder / "tokenizer.model"
    if not model_file.is_file() and (folder / "tokenizer.json").is_file():
        return JsonTokenizer(folder / "tokenizer.json")
    return TextTokenizer(model_file)


def obtain_tokenizer(recipe: Recipe, folder: Path, root: Path, reject: Callable[[Rejected], None]) -> TextTokenizer:
    """The recipe's tokenizer, made in `folder` unless it is there already.

    Leaves `tokenizer.model`, `tokenizer.json` and `origin.json` (where it came from, SHA-256 of both); a tokenizer
    that exists only as tokenizer.json is left with its tokenizer_config.json instead. What is there is kept if it
    is undamaged and of the same origin: the same builtin, a file of the same content, or training with the same
    settings on the same corpora as the recipe states them (their text is not read again).

    Args:
        recipe: the recipe.
        folder: the family's tokenizer folder.
        root: folder that the recipe's relative paths start from.
        reject: receives documents that could not be read for training.

    Raises:
        CorpusError: the model is unusable, or does not have the recipe's vocab_size (one that comes with an
            imported model may have fewer ids than that model has embeddings).
        SourceError: Llama 2's tokenizer, or a builtin source of text, cannot be had.
    """
    origin = _origin(recipe, folder, root)
    if not _is_valid(folder, origin):
        files, version = _make_files(recipe, folder, root, reject)
        # Nothing of another kind of tokenizer may stay: a tokenizer.model would be opened before a tokenizer.json.
        for earlier in [folder / "origin.json", folder / TEMPLATE_FILE, *folder.glob("tokenizer*")]:
            earlier.unlink(missing_ok=True)
        for name, data in files.items():
            write_atomic(folder / name, data)
        model_file = open_tokenizer(folder).model_file
        if model_file.name == "tokenizer.model":
            write_tokenizer_json(model_file, folder / "tokenizer.json")
        hashes = {path.name: sha256_file(path) for path in folder.glob("tokenizer*")}
        write_json(folder / "origin.json", {"origin": origin, "version": version, "sha256": hashes})
    tokenizer = open_tokenizer(folder)
    fits = tokenizer.vocab_size == recipe.model.vocab_size
    if not fits and not (recipe.tokenizer.imported and tokenizer.vocab_size < recipe.model.vocab_size):
        raise CorpusError(
            f"the tokenizer has {tokenizer.vocab_size} ids but the recipe says model.vocab_size: "
            f"{recipe.model.vocab_size}; make them equal"
        )
    return tokenizer


def _origin(recipe: Recipe, folder: Path, root: Path) -> dict[str, Any]:
    """What decides the tokenizer, to compare with what is there."""
    settings = recipe.tokenizer
    if settings.builtin is not None:
        return {"builtin": settings.builtin}
    if settings.file is not None:
        path = root / settings.file
        if not path.is_file():
            raise CorpusError(f"tokenizer.file: {path} is not there; correct the path, relative to {root.absolute()}")
        return {"file": settings.file, "sha256": sha256_file(path)}
    if settings.imported:
        return {"imported": open_tokenizer(imported_folder(folder)).sha256}
    training = _training(recipe)
    corpora = {name: recipe.corpora[name] for name in training.corpora or recipe.corpora}
    texts = {name: corpus.model_dump(mode="json", include={"sources"}) for name, corpus in corpora.items()}
    return {"train": training.model_dump(mode="json"), "corpora": texts}


def _is_valid(folder: Path, origin: dict[str, Any]) -> bool:
    """Whether the folder holds an undamaged tokenizer of this origin."""
    try:
        record = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
        hashes: dict[str, str] = record["sha256"]
        return record["origin"] == origin and all(hashes[name] == sha256_file(folder / name) for name in hashes)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _make_files(
    recipe: Recipe, folder: Path, root: Path, reject: Callable[[Rejected], None]
) -> tuple[dict[str, bytes], str]:
    """The tokenizer's own files, name → bytes, and where they came from, in words."""
    settings = recipe.tokenizer
    if settings.imported:
        found = open_tokenizer(imported_folder(folder)).model_file
        return _with_config(found), "the imported model's"
    if settings.file is not None:
        return _with_config(root / settings.file), settings.file
    if settings.builtin is not None:
        data, version = obtain_llama2()
        return {"tokenizer.model": data}, version
    data = train_model(_training_texts(recipe, root, reject), _training(recipe).vocab_size)
    return {"tokenizer.model": data}, "trained on the recipe's corpora"


def imported_folder(folder: Path) -> Path:
    """Where an import leaves the tokenizer of the model it imports, beside the family's tokenizer folder."""
    return folder.parent / "imported"


def _with_config(path: Path) -> dict[str, bytes]:
    """A `tokenizer.model`, or a tokenizer.json with the tokenizer_config.json that belongs to it; and its template."""
    template = read_chat_template(path.parent)
    beside = {} if template is None else {TEMPLATE_FILE: template.encode()}
    if path.suffix != ".json":
        return beside | {"tokenizer.model": path.read_bytes()}
    config = path.with_name("tokenizer_config.json")
    if not config.is_file():
        raise CorpusError(f"{config} is not there; a tokenizer.json needs it, since it names BOS and EOS")
    return beside | {"tokenizer.json": path.read_bytes(), config.name: config.read_bytes()}


def _training(recipe: Recipe) -> TokenizerTraining:
    training = recipe.tokenizer.train
    if training is None:
        raise CorpusError("tokenizer: give exactly one of builtin, file, train or imported")
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
