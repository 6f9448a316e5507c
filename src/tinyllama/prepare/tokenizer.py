"""Obtains the tokenizer of a family: builtin, from a file or an imported model, or trained on the recipe's corpora."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from tinyllama.errors import CorpusError
from tinyllama.files import link_or_copy, sha256_file, write_atomic
from tinyllama.folders import FolderKind, claim, replaced_folder
from tinyllama.paths import expand_path
from tinyllama.quality.refinement import Refinement
from tinyllama.quality.requirements import refuse_missing_packages
from tinyllama.recipe.classification import without_absent
from tinyllama.record_files import FileRecord, holds_record, read_record, write_record
from tinyllama.sources.documents import read_documents
from tinyllama.sources.rejected import Reasons
from tinyllama.tokenizer.chat_template import TEMPLATE_FILE, read_chat_template
from tinyllama.tokenizer.convert import write_tokenizer_json
from tinyllama.tokenizer.json_file import JsonTokenizer
from tinyllama.tokenizer.llama2 import obtain_llama2
from tinyllama.tokenizer.opening import TOKENIZER_FILES, open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tinyllama.recipe import Corpus, Recipe, TokenizerTraining
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
        claim(folder, _TOKENIZER, CorpusError)
        files, version = _make_files(recipe, folder, root, reject)
        with replaced_folder(folder, _TOKENIZER, CorpusError) as beside:
            for name, data in files.items():
                write_atomic(beside / name, data)
            model_file = open_tokenizer(beside).model_file
            if model_file.name == "tokenizer.model":
                write_tokenizer_json(model_file, beside / "tokenizer.json")
            hashes = {
                name: sha256_file(beside / name) for name in sorted(path.name for path in beside.glob("tokenizer*"))
            }
            write_record(beside / ORIGIN, TokenizerOrigin(origin=origin, version=version, sha256=hashes))
    tokenizer = open_tokenizer(folder)
    refuse_other_size(tokenizer.vocab_size, recipe)
    return tokenizer


def holds_tokenizer(recipe: Recipe, folder: Path, root: Path) -> bool:
    """Whether a folder holds an undamaged tokenizer of the recipe's origin, which may have been trained on other text.

    Raises:
        CorpusError: `tokenizer.file` does not exist.
    """
    return _is_valid(folder, _origin(recipe, folder, root))


def link_tokenizer(folder: Path, other: Path) -> None:
    """Link the files of another family's tokenizer into `folder`, or copy them on a file system without links.

    Raises:
        CorpusError: the folder holds something else.
    """
    with replaced_folder(folder, _TOKENIZER, CorpusError) as beside:
        for file in other.iterdir():
            if file.is_file() and _TOKENIZER.writes(file.name):
                link_or_copy(file.resolve(), beside / file.name)


def refuse_other_size(ids: int, recipe: Recipe) -> None:
    """Compare a tokenizer's number of ids with the model's embeddings; an imported one may have fewer.

    Raises:
        CorpusError: they do not fit.
    """
    embeddings = recipe.model.vocab_size
    if ids != embeddings and not (recipe.tokenizer.imported and ids < embeddings):
        raise CorpusError(
            f"the tokenizer has {ids} ids but the recipe says model.vocab_size: {embeddings}; make them equal"
        )


def open_stated(recipe: Recipe, root: Path) -> Tokenizer | None:
    """The tokenizer in the recipe's `tokenizer.file`, where it is; None for a tokenizer of another origin.

    Raises:
        CorpusError: the file does not exist, or no tokenizer can be read from it.
    """
    if recipe.tokenizer.file is None:
        return None
    path = _stated_file(recipe.tokenizer.file, root)
    return JsonTokenizer(path) if path.suffix == ".json" else SentencePieceTokenizer(path)


def _stated_file(file: str, root: Path) -> Path:
    path = expand_path(file, root)
    if not path.is_file():
        raise CorpusError(f"tokenizer.file: {path} does not exist; correct the path, relative to {root.absolute()}")
    return path


def _origin(recipe: Recipe, folder: Path, root: Path) -> dict[str, JsonValue]:
    """What decides the tokenizer, for comparison with the origin of the one in the folder."""
    settings = recipe.tokenizer
    if settings.builtin is not None:
        return {"builtin": settings.builtin}
    if settings.file is not None:
        return {"file": settings.file, "sha256": sha256_file(_stated_file(settings.file, root))}
    if settings.imported:
        return {"imported": open_tokenizer(imported_folder(folder)).sha256}
    corpora = {name: recipe.corpora[name] for name in training_corpora(recipe)}
    texts: dict[str, JsonValue] = {name: text_keys(corpus) for name, corpus in corpora.items()}
    return {"train": without_absent(_training(recipe)), "corpora": texts}


def training_corpora(recipe: Recipe) -> list[str]:
    """The corpora that the recipe's tokenizer is trained on: those that are named for it, or all."""
    return list(_training(recipe).corpora or recipe.corpora)


def text_keys(corpus: Corpus) -> dict[str, JsonValue]:
    """The keys of a corpus that decide what a tokenizer is trained on."""
    refined = {key: value for key, value in without_absent(corpus).items() if key in {"filters", "pii"}}
    return {"sources": [without_absent(source) for source in corpus.sources], **refined}


def is_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer that this or an earlier version wrote, of whatever origin."""
    return holds_record(TokenizerOrigin, folder / ORIGIN)


_TOKENIZER = FolderKind("a tokenizer", (ORIGIN, *TOKENIZER_FILES), is_tokenizer)


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
        return _with_config(expand_path(settings.file, root)), settings.file
    if settings.builtin is not None:
        data, version = obtain_llama2()
        return {"tokenizer.model": data}, version
    reasons = Reasons()

    def note(rejected: Rejected) -> None:
        reasons(rejected)
        reject(rejected)

    try:
        data = train_model(_training_texts(recipe, root, note), _training(recipe).vocab_size)
    except CorpusError as error:
        raise CorpusError(f"{error}{reasons}") from error
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
    """Texts of the corpora that are named for training (of all, if none is), the held-out ones and copies included."""
    for name in training_corpora(recipe):
        characters, corpus = 0, recipe.corpora[name]
        refuse_missing_packages(corpus, name)
        for document in read_documents(corpus, root, reject, name=name, refine=Refinement(corpus)):
            yield document.text
            characters += len(document.text)
            if characters >= TRAINING_CHARACTERS:
                break
