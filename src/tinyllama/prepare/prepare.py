"""Prepares a corpus: documents → token ids → shards and an index of documents, and last the manifest."""

from __future__ import annotations

import shutil
from dataclasses import replace as replace_fields
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from tinyllama.corpus.manifest import CORPUS_FOLDER, CorpusRequest, open_corpus
from tinyllama.errors import CorpusError, UserError
from tinyllama.files import sha256_json, write_atomic
from tinyllama.folders import claim
from tinyllama.installation import install_hint
from tinyllama.paths import printable_path
from tinyllama.prepare.cluster.queue import job_name, running_jobs
from tinyllama.prepare.job import IDENTITY, Preparation, present_corpus, remove_leftovers, work_folder
from tinyllama.prepare.task import Counts, TaskSettings
from tinyllama.prepare.workers import run_tasks
from tinyllama.processors import available_cores
from tinyllama.quality.requirements import package_versions, refuse_missing_packages, selects
from tinyllama.recipe.classification import without_absent
from tinyllama.sources.documents import TASK_BYTES, plan_tasks
from tinyllama.tokenizer.bulk import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.recipe import Recipe
    from tinyllama.sources.documents import ReadTask
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.tokenizer.bulk import Engine

Executor = Literal["local", "slurm", "ray"]


class PrepareOptions(NamedTuple):
    """How to prepare; nothing but `refresh` changes the result."""

    workers: int | None = None
    """Number of processes, or of jobs at a time; None for as many as there are cores, or as the cluster has room for,
    if there is enough text."""
    exact_all: bool = False
    """Compare every document with the tokenizer's own library, not a sample."""
    executor: Executor = "local"
    """Where it runs: in processes here, or in jobs on a cluster whose machines share the folder."""
    sbatch: Mapping[str, str] = MappingProxyType({})
    """Options for sbatch: long names without dashes → value ("" for a flag)."""
    say: Callable[[str], None] = lambda _text: None
    """Receives messages for people."""
    refresh: bool = False
    """If the sources of a corpus changed after models were trained on it, prepare a new one beside it."""
    reuse: Path | None = None
    """Folder of another family, whose tokenizer and corpora are linked where they are the same."""


_DEFAULT = PrepareOptions()


def prepare_corpus(  # noqa: PLR0913, PLR0917  # what to prepare (5), how, and whether
    recipe: Recipe,
    name: str,
    tokenizer: Tokenizer,
    folder: Path,
    root: Path,
    progress: Callable[[Counts], None] = lambda _counts: None,
    options: PrepareOptions = _DEFAULT,
    *,
    replace: bool = False,
    questions: Callable[[Sequence[str]], Mapping[str, list[str]]] = lambda _tasks: {},
    before: Sequence[PreparedCorpus] = (),
) -> PreparedCorpus:
    """Prepare one corpus of a recipe into `folder`, unless the folder holds it already.

    The work is divided into tasks of some files each. Their results stay in `.<name>.work` beside the folder until the
    corpus is complete, so that a preparation that was killed resumes where it was. The result is the same to the byte
    for any number of processes, on one machine or on many that share the folder.

    Args:
        recipe: the recipe.
        name: the corpus's name in it.
        tokenizer: the family's tokenizer.
        folder: folder of the corpus; it holds the complete corpus, or does not exist.
        root: folder that the recipe's relative paths start from.
        progress: called with what was done so far.
        options: workers, executor and checks.
        replace: prepare it even if the folder holds it, since its sources changed.
        questions: returns the texts of the questions of each task in `decontaminate`.
        before: the corpora whose documents come first where copies are dropped; see `corpora_before`.

    Raises:
        CorpusError: no document could be read or too many are damaged, a pattern matches nothing, the disk is full, or
            the engine's ids differ from the tokenizer's.
        SourceError: a builtin or remote source is unavailable.
        WorkerLostError: a worker was killed, or jobs ended before the corpus was complete.
        UserError: the cluster or a package is missing, or other jobs prepare the corpus.
    """
    corpus = recipe.corpora[name]
    request = corpus_request(recipe, name, tokenizer.sha256)
    remove_leftovers(folder)
    present = None if replace else present_corpus(folder, request)
    if present is not None:
        return present
    claim(folder, CORPUS_FOLDER, CorpusError)
    _check_installed(options.executor)
    refuse_missing_packages(corpus, name)
    skipped: list[Rejected] = []
    tasks = plan_tasks(corpus, root, skipped.append, name=name)
    engine, work = open_engine(tokenizer), work_folder(folder)
    settings = TaskSettings(
        corpus, name, tokenizer, recipe.tokenizer.bos, recipe.tokenizer.eos, work, options.exact_all
    )
    identity = [request.model_dump(mode="json"), engine.name, options.exact_all, *tasks_identity(tasks)]
    if selects(corpus):
        settings = replace_fields(
            settings,
            questions=questions(corpus.decontaminate) if corpus.decontaminate else {},
            libraries=package_versions(corpus),
        )
        identity += [sha256_json({**settings.questions}), {**settings.libraries}, [one.sha256 for one in before]]
    _claim(work, sha256_json(identity), options.executor)
    preparation = Preparation(settings, tasks, engine.name, folder.absolute(), request, skipped, before)
    if options.executor == "local":
        _prepare_here(preparation, engine, options.workers or _workers_worth(tasks), progress)
    else:
        _prepare_on_cluster(preparation, options, progress)
    preparation.clean_up()
    return open_corpus(folder)


def _check_installed(executor: Executor) -> None:
    needed = {"local": (), "slurm": ("datatrove",), "ray": ("datatrove", "ray")}[executor]
    if missing := [name for name in needed if find_spec(name) is None]:
        extra = "ray" if executor == "ray" else "cluster"
        raise UserError(f"--executor {executor} needs {' and '.join(missing)}: {install_hint(extra)}")


def _prepare_here(preparation: Preparation, engine: Engine, workers: int, progress: Callable[[Counts], None]) -> None:
    run_tasks(preparation, engine, workers, progress)
    preparation.finish(workers)


def _prepare_on_cluster(preparation: Preparation, options: PrepareOptions, progress: Callable[[Counts], None]) -> None:
    """Start jobs for the missing parts and wait for them."""
    if options.executor == "ray":
        from tinyllama.prepare.cluster.on_ray import prepare_on_ray  # an extra

        prepare_on_ray(preparation, options.workers, progress)
    else:
        from tinyllama.prepare.cluster.on_slurm import prepare_on_slurm  # an extra

        prepare_on_slurm(preparation, options.workers, progress, dict(options.sbatch), options.say)


def tasks_identity(tasks: Sequence[ReadTask]) -> list[JsonValue]:
    """What has to be equal for results of tasks to be kept: the same files or texts, unchanged, in the same tasks."""
    return [
        [
            task.source,
            [[printable_path(file.location), file.bytes, file.version] for file in task.files],
            *([task.instead] if task.instead else []),
        ]
        for task in tasks
    ]


def _workers_worth(tasks: Sequence[ReadTask]) -> int:
    """As many processes as there are cores, but none that takes longer to start than to do its part."""
    return min(available_cores(), 1 + sum(task.text_bytes for task in tasks) // TASK_BYTES)


def _claim(work: Path, identity: str, executor: Executor) -> None:
    """Take over the work folder: remove what another preparation or a killed worker left there.

    Raises:
        UserError: Slurm jobs work there, and the executor would not wait for them.
    """
    path = work / IDENTITY
    ours = path.is_file() and path.read_text(encoding="utf-8") == identity
    if jobs := running_jobs(work):
        if ours and executor == "slurm":
            return
        raise UserError(
            f"{work}: Slurm jobs {', '.join(jobs)} are preparing this corpus{'' if ours else ' from other text'}; "
            f"wait for them, or end them: scancel --me --name={job_name(work)}"
        )
    if not ours:
        shutil.rmtree(work, ignore_errors=True)
        write_atomic(path, identity)
    for partial in work.glob(".*"):
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def corpus_request(recipe: Recipe, name: str, tokenizer: str) -> CorpusRequest:
    """What decides the content of a recipe's corpus.

    A key with the value that its absence means is skipped, so that corpora which were prepared before the key existed
    stay valid.

    Args:
        recipe: the recipe.
        name: the corpus's name in it.
        tokenizer: SHA-256 of the family's tokenizer.
    """
    keys = without_absent(recipe.corpora[name]) | without_absent(recipe.tokenizer) | {"tokenizer": tokenizer}
    return CorpusRequest.model_validate(keys)
