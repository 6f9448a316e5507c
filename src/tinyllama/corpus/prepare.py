"""Prepare a corpus: documents → token ids → shards, an index of documents, and the manifest, written last."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from tinyllama.corpus.assembly import assemble
from tinyllama.corpus.builtin import builtin_facts
from tinyllama.corpus.documents import TASK_BYTES, plan_tasks
from tinyllama.corpus.encoding import open_engine
from tinyllama.corpus.manifest import FORMAT, MANIFEST, TRAIN, PreparedCorpus, file_facts, open_corpus
from tinyllama.corpus.pool import available_cores, run_tasks
from tinyllama.corpus.rejection import Quarantine
from tinyllama.corpus.shards import token_dtype
from tinyllama.corpus.space import check_space
from tinyllama.corpus.tasks import REJECTED, Counts, Settings, finished_task
from tinyllama.errors import CorpusError
from tinyllama.files import new_directory, sha256_json, write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np

    from tinyllama.corpus.documents import Task
    from tinyllama.corpus.rejection import Rejected
    from tinyllama.corpus.tokenizer import TextTokenizer
    from tinyllama.recipe import Corpus, Recipe

_IDENTITY = "identity"
_ENOUGH = 100
"""Documents that a corpus must have for its share of damaged ones to mean something."""


class How(NamedTuple):
    """How to prepare; nothing here changes what comes out."""

    workers: int | None = None
    """Processes; None: as many as there are cores, if there is text for them."""
    exact_all: bool = False
    """Have every document encoded by the tokenizer's own library too, not a sample."""


def prepare_corpus(  # noqa: PLR0913, PLR0917  # each is named where it is called
    recipe: Recipe,
    name: str,
    tokenizer: TextTokenizer,
    folder: Path,
    root: Path,
    progress: Callable[[Counts], None] = lambda _counts: None,
    how: How = How(),  # noqa: B008  # a constant
) -> PreparedCorpus:
    """Prepare one corpus of a recipe into `folder`, unless exactly that is there already.

    The work is divided into tasks of some files each, which are kept in `.<name>.work` beside the folder until
    all are done: a preparation that was killed goes on where it was. The result is the same to the byte for any
    number of processes.

    Args:
        recipe: the recipe.
        name: the corpus's name in it.
        tokenizer: the family's tokenizer.
        folder: where the corpus goes; complete or not there.
        root: folder that the recipe's relative paths start from.
        progress: told what was done so far.
        how: with what means.

    Raises:
        CorpusError: no document could be read or too many are damaged, a pattern matches nothing, there is no room
            on the disk, or the engine's ids are not the tokenizer's.
        SourceError: a builtin or remote source cannot be had.
        WorkerLostError: a worker was killed.
    """
    corpus = recipe.corpora[name]
    request = _request(recipe, corpus, tokenizer)
    present = _present(folder, request)
    if present is not None:
        return present
    skipped: list[Rejected] = []
    tasks = plan_tasks(corpus, root, skipped.append, name=name)
    engine, work = open_engine(tokenizer), folder.with_name(f".{folder.name}.work")
    check_space(corpus, name, tasks, folder)
    _claim(work, sha256_json([request, engine.name, how.exact_all, *tasks_identity(tasks)]))
    settings = Settings(corpus, name, recipe.tokenizer.bos, recipe.tokenizer.eos, work, how.exact_all)
    workers = how.workers or _workers_worth(tasks)
    run_tasks(settings, tasks, tokenizer, engine, workers, progress)
    results = [result for index in range(len(tasks)) if (result := finished_task(work, index)) is not None]
    kept_aside = _check_damage(name, corpus, work, results, skipped)
    _assemble(work, results, folder, token_dtype(tokenizer.vocab_size), workers, skipped, {
        "format": FORMAT,
        "corpus": name,
        "license": corpus.license,
        "request": request,
        "bos_id": tokenizer.bos_id,
        "eos_id": tokenizer.eos_id,
        "rejected": sum(count for kind, count in kept_aside.items() if kind != "repaired"),
        "kept_aside": kept_aside,
        "sources": [builtin_facts(s.builtin) if s.builtin else {"files": s.files} for s in corpus.sources],
        "engine": {"name": engine.name, "checked": sum(result["checked"] for result in results)},
    })  # fmt: skip
    shutil.rmtree(work)
    return open_corpus(folder)


def _assemble(  # noqa: PLR0913, PLR0917  # what becomes of finished tasks
    work: Path,
    results: Sequence[dict[str, Any]],
    folder: Path,
    dtype: np.dtype[Any],
    workers: int,
    skipped: Sequence[Rejected],
    facts: dict[str, Any],
) -> None:
    """Make the corpus out of finished tasks; its manifest has `facts`, and what only the files tell."""
    with new_directory(folder) as beside:
        with (beside / REJECTED).open("w", encoding="utf-8") as file:
            quarantine = Quarantine(file)
            for rejected in skipped:
                quarantine(rejected)
        manifest = facts | {"dtype": dtype.name, "splits": assemble(work, results, dtype, beside, workers)}
        known = {shard["file"]: shard["sha256"] for part in manifest["splits"].values() for shard in part["shards"]}
        manifest["files"] = file_facts(beside, known)
        write_json(beside / MANIFEST, manifest)


def tasks_identity(tasks: Sequence[Task]) -> list[Any]:
    """What makes the results of tasks worth keeping: the same files, unchanged, in the same tasks."""
    return [[task.source, [[file.place, file.bytes, file.version] for file in task.files]] for task in tasks]


def _workers_worth(tasks: Sequence[Task]) -> int:
    """As many processes as there are cores, but none that would take longer to start than to do its part."""
    size = sum(task.text_bytes for task in tasks)
    return min(available_cores(), 1 + size // TASK_BYTES)


def _claim(work: Path, identity: str) -> None:
    """Make the work folder this preparation's: what another one left there goes, and what a killed worker had open."""
    path = work / _IDENTITY
    if not path.is_file() or path.read_text(encoding="utf-8") != identity:
        shutil.rmtree(work, ignore_errors=True)
        write_atomic(path, identity)
    for partial in work.glob(".*"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def _check_damage(
    name: str, corpus: Corpus, work: Path, results: list[dict[str, Any]], skipped: list[Rejected]
) -> dict[str, int]:
    """Count what was kept aside, by kind.

    Raises:
        CorpusError: no document is left, or more are damaged than the recipe allows.
    """
    kinds = Counter(rejected.kind for rejected in skipped)
    for result in results:
        kinds.update(result["kept_aside"])
    good = sum(part["documents"] for result in results for part in result["splits"].values())
    damaged = kinds["damaged"]
    if not sum(result["splits"][TRAIN]["documents"] for result in results):
        rejected = sum(kinds.values()) - kinds["repaired"]
        raise CorpusError(f"corpus {name}: no document could be read ({rejected} rejected); check its sources")
    if good + damaged >= _ENOUGH and damaged > corpus.max_damaged * (good + damaged):
        raise CorpusError(
            f"corpus {name}: {damaged} of {good + damaged} documents are damaged, more than max_damaged "
            f"({float(corpus.max_damaged):.1%}) allows; see why in {work}/task-*/{REJECTED}, then repair the source "
            f"or raise corpora.{name}.max_damaged"
        )
    return dict(sorted(kinds.items()))


def _request(recipe: Recipe, corpus: Corpus, tokenizer: TextTokenizer) -> dict[str, Any]:
    """What decides a prepared corpus: another request makes another corpus."""
    return {
        "sources": [source.model_dump(mode="json") for source in corpus.sources],
        "cut": corpus.cut,
        "held_out": corpus.held_out.model_dump(mode="json"),
        "tokenizer": tokenizer.sha256,
        "bos": recipe.tokenizer.bos,
        "eos": recipe.tokenizer.eos,
    }


def _present(folder: Path, request: dict[str, Any]) -> PreparedCorpus | None:
    """The corpus in `folder` if it is complete and of this request."""
    try:
        corpus = open_corpus(folder)
    except CorpusError:
        return None
    return corpus if corpus.manifest["request"] == request else None
