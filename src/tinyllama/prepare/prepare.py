"""Prepare a corpus: documents → token ids → shards, an index of documents, and the manifest, written last."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tinyllama.corpus.manifest import open_corpus
from tinyllama.errors import UserError
from tinyllama.files import sha256_json, write_atomic
from tinyllama.installation import install_hint
from tinyllama.prepare.cluster.queue import job_name, running_jobs
from tinyllama.prepare.disk_space import check_space
from tinyllama.prepare.job import Preparation, present_corpus, remove_leftovers, work_folder
from tinyllama.prepare.task import Counts, Settings
from tinyllama.prepare.workers import available_cores, run_tasks
from tinyllama.sources.documents import TASK_BYTES, plan_tasks
from tinyllama.tokenizer.bulk import open_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import PreparedCorpus
    from tinyllama.recipe import Corpus, Recipe
    from tinyllama.sources.documents import Task
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.tokenizer.bulk import Engine

_IDENTITY = "identity"

Executor = Literal["local", "slurm", "ray"]


class PrepareOptions(NamedTuple):
    """How to prepare; nothing here changes what comes out."""

    workers: int | None = None
    """Processes, or jobs at a time; None: as many as there are cores, or as the cluster has room for, if there is
    text for them."""
    exact_all: bool = False
    """Have every document encoded by the tokenizer's own library too, not a sample."""
    executor: Executor = "local"
    """Who does it: processes here, or jobs on a cluster whose machines share the folder."""
    sbatch: Mapping[str, str] = MappingProxyType({})
    """Options for sbatch: long names without dashes → value ("" for a flag)."""
    say: Callable[[str], None] = lambda _text: None
    """Told what a person should know meanwhile."""


def prepare_corpus(  # noqa: PLR0913, PLR0917  # each is named where it is called
    recipe: Recipe,
    name: str,
    tokenizer: Tokenizer,
    folder: Path,
    root: Path,
    progress: Callable[[Counts], None] = lambda _counts: None,
    options: PrepareOptions = PrepareOptions(),  # noqa: B008  # a constant
) -> PreparedCorpus:
    """Prepare one corpus of a recipe into `folder`, unless exactly that is there already.

    The work is divided into tasks of some files each, which are kept in `.<name>.work` beside the folder until
    all are done: a preparation that was killed goes on where it was. The result is the same to the byte for any
    number of processes, on one machine or on many that share the folder.

    Args:
        recipe: the recipe.
        name: the corpus's name in it.
        tokenizer: the family's tokenizer.
        folder: where the corpus goes; complete or not there.
        root: folder that the recipe's relative paths start from.
        progress: told what was done so far.
        options: workers, executor and checks; they change nothing in the result.

    Raises:
        CorpusError: no document could be read or too many are damaged, a pattern matches nothing, there is no room
            on the disk, or the engine's ids are not the tokenizer's.
        SourceError: a builtin or remote source cannot be had.
        WorkerLostError: a worker was killed, or jobs ended before all was done.
        UserError: a cluster or what its executor needs is not there, or other jobs prepare the corpus.
    """
    corpus = recipe.corpora[name]
    request = _request(recipe, corpus, tokenizer)
    remove_leftovers(folder)
    present = present_corpus(folder, request)
    if present is not None:
        return present
    _check_installed(options.executor)
    skipped: list[Rejected] = []
    tasks = plan_tasks(corpus, root, skipped.append, name=name)
    engine, work = open_engine(tokenizer), work_folder(folder)
    check_space(corpus, name, tasks, folder)
    _claim(work, sha256_json([request, engine.name, options.exact_all, *tasks_identity(tasks)]), options.executor)
    settings = Settings(corpus, name, recipe.tokenizer.bos, recipe.tokenizer.eos, work, options.exact_all)
    preparation = Preparation(settings, tasks, tokenizer, engine.name, folder.absolute(), request, skipped)
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
    """Start jobs for what is missing and wait for them."""
    if options.executor == "ray":
        from tinyllama.prepare.cluster.on_ray import prepare_on_ray  # an extra

        prepare_on_ray(preparation, options.workers, progress)
    else:
        from tinyllama.prepare.cluster.on_slurm import prepare_on_slurm  # an extra

        prepare_on_slurm(preparation, options.workers, progress, dict(options.sbatch), options.say)


def tasks_identity(tasks: Sequence[Task]) -> list[Any]:
    """What makes the results of tasks worth keeping: the same files, unchanged, in the same tasks."""
    return [[task.source, [[file.place, file.bytes, file.version] for file in task.files]] for task in tasks]


def _workers_worth(tasks: Sequence[Task]) -> int:
    """As many processes as there are cores, but none that would take longer to start than to do its part."""
    return min(available_cores(), 1 + sum(task.text_bytes for task in tasks) // TASK_BYTES)


def _claim(work: Path, identity: str, executor: Executor) -> None:
    """Make the work folder this preparation's: what another one left there goes, and what a killed worker had open.

    Raises:
        UserError: Slurm jobs work there, and it is not these that the executor would wait for.
    """
    path = work / _IDENTITY
    ours = path.is_file() and path.read_text(encoding="utf-8") == identity
    if jobs := running_jobs(work):
        if ours and executor == "slurm":
            return
        raise UserError(
            f"{work}: Slurm jobs {', '.join(jobs)} are preparing this corpus{'' if ours else ' of other text'}; "
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


def _request(recipe: Recipe, corpus: Corpus, tokenizer: Tokenizer) -> dict[str, Any]:
    """What decides a prepared corpus: another request makes another corpus."""
    return {
        "sources": [source.model_dump(mode="json") for source in corpus.sources],
        "cut": corpus.cut,
        "held_out": corpus.held_out.model_dump(mode="json"),
        "tokenizer": tokenizer.sha256,
        "bos": recipe.tokenizer.bos,
        "eos": recipe.tokenizer.eos,
    }
