"""Obtains the tokenizer of a family: builtin, from a file or an imported model, or trained on the recipe's corpora."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from tinyllama.errors import CorpusError
from tinyllama.files import sha256_file, write_atomic
from tinyllama.recipe.classification import without_absent
from tinyllama.record_files import FileRecord, read_record, write_record
from tinyllama.sources.documents import read_documents
from tinyllama.tokenizer.chat_template import TEMPLATE_FILE, read_chat_template
from tinyllama.tokenizer.convert import write_tokenizer_json
from tinyllama.tokenizer.llama2 import obtain_llama2
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tinyllama.recipe import Recipe, TokenizerTraining
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer

TRAINING_CHARACTERS = 100_000_000
"""Characters of each corpus that a tokenizer is trained on at most, from the beginning."""


ORIGIN = "origin.json"


class TokenizerOrigin(FileRecord):
    """`origin.json`: where a family's tokenizer came from, and its files."""

    format: int = 1
    origin: dict[str, JsonValue]
    """What decides the tokenizer, as the recipe states it."""
    version: str
    """Where it came from, in words."""
    sha256: dict[str, str]
    """SHA-256 of each of its files, by name."""


def obtain_tokenizer(recipe: Recipe, folder: Path, root: Path, reject: Callable[[Rejected], None]) -> Tokenizer:
    """The recipe's tokenizer, made in `folder` unless the folder holds it already.

    The folder then has `tokenizer.model`, `tokenizer.json` and `origin.json`, or, for a tokenizer that exists only as
    tokenizer.json, that file and its tokenizer_config.json. A tokenizer in the folder is kept if it is undamaged and of
    the same origin: the same builtin, a file of the same content, or training with the same settings on the same
    corpora as the recipe states them (their text is not read again).

    Args:
        recipe: the recipe.
        folder: the family's tokenizer folder.
        root: folder that the recipe's relative paths start from.
        reject: receives documents that could not be read for training.

    Raises:
        CorpusError: the tokenizer is unusable, or does not have the recipe's vocab_size (the one of an imported model
            may have fewer ids than the model has embeddings).
        SourceError: Llama 2's tokenizer, or a builtin source of text, is unavailable.
    """
    origin = _origin(recipe, folder, root)
    if not _is_valid(folder, origin):
        files, version = _make_files(recipe, folder, root, reject)
        # Files of another kind of tokenizer have to go: a tokenizer.model is opened before a tokenizer.json.
        for earlier in [folder / ORIGIN, folder / TEMPLATE_FILE, *folder.glob("tokenizer*")]:
            earlier.unlink(missing_ok=True)
        for name, data in files.items():
            write_atomic(folder / name, data)
        model_file = open_tokenizer(folder).model_file
        if model_file.name == "tokenizer.model":
            write_tokenizer_json(model_file, folder / "tokenizer.json")
        hashes = {path.name: sha256_file(path) for path in folder.glob("tokenizer*")}
        write_record(folder / ORIGIN, TokenizerOrigin(origin=origin, version=version, sha256=hashes))
    tokenizer = open_tokenizer(folder)
    fits = tokenizer.vocab_size == recipe.model.vocab_size
    if not fits and not (recipe.tokenizer.imported and tokenizer.vocab_size < recipe.model.vocab_size):
        raise CorpusError(
            f"the tokenizer has {tokenizer.vocab_size} ids but the recipe says model.vocab_size: "
            f"{recipe.model.vocab_size}; make them equal"
        )
    return tokenizer


def _origin(recipe: Recipe, folder: Path, root: Path) -> dict[str, JsonValue]:
    """What decides the tokenizer, for comparison with the origin of the one in the folder."""
    settings = recipe.tokenizer
    if settings.builtin is not None:
        return {"builtin": settings.builtin}
    if settings.file is not None:
        path = root / settings.file
        if not path.is_file():
            raise CorpusError(f"tokenizer.file: {path} does not exist; correct the path, relative to {root.absolute()}")
        return {"file": settings.file, "sha256": sha256_file(path)}
    if settings.imported:
        return {"imported": open_tokenizer(imported_folder(folder)).sha256}
    training = _training(recipe)
    corpora = {name: recipe.corpora[name] for name in training.corpora or recipe.corpora}
    texts: dict[str, JsonValue] = {
        name: {"sources": [without_absent(source) for source in corpus.sources]} for name, corpus in corpora.items()
    }
    return {"train": without_absent(training), "corpora": texts}


def _is_valid(folder: Path, origin: dict[str, JsonValue]) -> bool:
    """Whether the folder holds an undamaged tokenizer of this origin."""
    try:
        record = read_record(TokenizerOrigin, folder / ORIGIN, CorpusError, "the tokenizer is made again")
        return record.origin == origin and all(
            sha256 == sha256_file(folder / name) for name, sha256 in record.sha256.items()
        )
    except (OSError, CorpusError):
        return False


def _make_files(
    recipe: Recipe, folder: Path, root: Path, reject: Callable[[Rejected], None]
) -> tuple[dict[str, bytes], str]:
    """The tokenizer's own files, name → content, and where they came from, in words."""
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
    """Folder of an imported model's tokenizer, beside the family's tokenizer folder."""
    return folder.parent / "imported"


def _with_config(path: Path) -> dict[str, bytes]:
    """The content of a tokenizer.model, or of a tokenizer.json and its tokenizer_config.json; and the chat template."""
    template = read_chat_template(path.parent)
    beside = {} if template is None else {TEMPLATE_FILE: template.encode()}
    if path.suffix != ".json":
        return beside | {"tokenizer.model": path.read_bytes()}
    config = path.with_name("tokenizer_config.json")
    if not config.is_file():
        raise CorpusError(f"{config} does not exist; a tokenizer.json needs it, since it names BOS and EOS")
    return beside | {"tokenizer.json": path.read_bytes(), config.name: config.read_bytes()}


def _training(recipe: Recipe) -> TokenizerTraining:
    training = recipe.tokenizer.train
    if training is None:
        raise CorpusError("tokenizer.train is not given; add it to the recipe")
    return training


def _training_texts(recipe: Recipe, root: Path, reject: Callable[[Rejected], None]) -> Iterator[str]:
    """Texts of the corpora that are named for training (of all, if none is), the held-out ones included."""
    for name in _training(recipe).corpora or recipe.corpora:
        characters = 0
        for document in read_documents(recipe.corpora[name], root, reject, name=name):
            yield document.text
            characters += len(document.text)
            if characters >= TRAINING_CHARACTERS:
                break
