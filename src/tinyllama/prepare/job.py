"""A preparation that is planned: all that is needed by whoever does a part of it, on this machine or another.

It is done in three stages. Every task and every shard can be made by any process, in any order, twice or at once:
what is there is kept, and what comes out is the same to the byte.

1. `run_task`: documents → token ids, a folder for each task.
2. `write_shard`: the tasks' tokens, one after another, as shards.
3. `Preparation.finish`: index of documents, quarantine, fingerprints, and the manifest, written last.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import (
    TRAIN,
    BuiltinEntry,
    CorpusManifest,
    EngineEntry,
    FilesEntry,
    PreparedCorpus,
    file_entries,
    open_corpus,
    write_manifest,
)
from tinyllama.corpus.shards import token_dtype
from tinyllama.errors import CorpusError, WorkerLostError
from tinyllama.files import new_directory
from tinyllama.prepare.assembly import assemble, plan_shards
from tinyllama.prepare.task import REJECTED, Counts, finished_task, finished_tasks, run_task
from tinyllama.sources.builtin.registry import builtin_version
from tinyllama.sources.rejected import Quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import CorpusRequest, SplitEntry
    from tinyllama.prepare.assembly import Shard
    from tinyllama.prepare.task import TaskResult, TaskSettings
    from tinyllama.recipe import Source
    from tinyllama.sources.documents import ReadTask
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.tokenizer.bulk import Engine

_ENOUGH = 100
"""Documents that a corpus must have for its share of damaged ones to mean something."""


@dataclass(frozen=True)
class Preparation:
    """What one corpus is made of and where it goes; other processes get it pickled."""

    settings: TaskSettings
    tasks: Sequence[ReadTask]
    tokenizer: Tokenizer
    engine: str
    """Name of the engine that every process must use."""
    folder: Path
    request: CorpusRequest
    skipped: Sequence[Rejected]
    """Files that no task reads."""

    def pending(self) -> list[int]:
        """Tasks that are not done, the largest first, so that none of them is left to the end, alone."""
        pending = sorted(set(range(len(self.tasks))) - finished_tasks(self.settings.work))
        return sorted(pending, key=lambda index: -self.tasks[index].text_bytes)

    def run(self, index: int, engine: Engine, progress: Callable[[Counts], None] = lambda _counts: None) -> None:
        """Do a task, unless it is done; see `run_task`."""
        run_task(self.settings, self.tasks[index], index, self.tokenizer, engine, progress)

    def counts(self, index: int) -> Counts:
        """What a task has done: all or nothing."""
        result = finished_task(self.settings.work, index)
        return Counts(unread=self.tasks[index].size) if result is None else result.counts

    def shards(self) -> list[tuple[Path, Shard, int]]:
        """Arguments of `write_shard` for every shard of the corpus.

        Raises:
            WorkerLostError: a task is not done.
            CorpusError: no document could be read, or too many are damaged.
        """
        results = self._results()
        self._check_damage(results)
        dtype, work = token_dtype(self.tokenizer.vocab_size), self.settings.work
        return [(work, shard, dtype.itemsize) for part in plan_shards(work, results, dtype).values() for shard in part]

    def finish(self, workers: int = 1) -> None:
        """Make the corpus out of tasks that are done; shards that are not are written here.

        Args:
            workers: threads; hashing and copying leave others free to run.

        Raises:
            WorkerLostError: a task is not done.
            CorpusError: no document could be read, or too many are damaged; see `write_shard`.
        """
        work, results = self.settings.work, self._results()
        quarantined = self._check_damage(results)
        dtype = token_dtype(self.tokenizer.vocab_size)
        with new_directory(self.folder) as beside:
            with (beside / REJECTED).open("w", encoding="utf-8") as file:
                quarantine = Quarantine(file)
                for rejected in self.skipped:
                    quarantine(rejected)
            splits = assemble(work, results, dtype, beside, workers)
            write_manifest(beside, self._manifest(results, quarantined, splits, beside))

    def clean_up(self) -> None:
        """Remove what the corpus was made of; `remove_leftovers` does the rest if this is killed."""
        self.settings.work.rename(_removed(self.folder))
        remove_leftovers(self.folder)

    def _results(self) -> list[TaskResult]:
        results = [finished_task(self.settings.work, index) for index in range(len(self.tasks))]
        done = [result for result in results if result is not None]
        if len(done) < len(results):
            raise WorkerLostError(
                f"corpus {self.settings.name}: {len(results) - len(done)} of {len(results)} tasks are not done; "
                "run the same command again"
            )
        return done

    def _manifest(
        self,
        results: Sequence[TaskResult],
        quarantined: dict[str, int],
        splits: dict[str, SplitEntry],
        folder: Path,
    ) -> CorpusManifest:
        """The manifest of the corpus whose other files are in `folder`."""
        known = {shard.file: shard.sha256 for part in splits.values() for shard in part.shards}
        return CorpusManifest(
            corpus=self.settings.name,
            license=self.settings.corpus.license,
            request=self.request,
            bos_id=self.tokenizer.bos_id,
            eos_id=self.tokenizer.eos_id,
            rejected=sum(count for kind, count in quarantined.items() if kind != "repaired"),
            quarantined=quarantined,
            sources=tuple(map(_source_entry, self.settings.corpus.sources)),
            engine=EngineEntry(name=self.engine, checked=sum(result.checked for result in results)),
            dtype=token_dtype(self.tokenizer.vocab_size).name,
            splits=splits,
            files=file_entries(folder, known),
        )

    def _check_damage(self, results: Sequence[TaskResult]) -> dict[str, int]:
        """Count the quarantined entries by kind, and refuse a corpus with too many of them."""
        name, corpus, work = self.settings.name, self.settings.corpus, self.settings.work
        kinds = Counter[str](rejected.kind for rejected in self.skipped)
        for result in results:
            kinds.update(result.quarantined)
        good = sum(part.documents for result in results for part in result.splits.values())
        damaged = kinds["damaged"]
        if not sum(result.splits[TRAIN].documents for result in results):
            rejected = sum(kinds.values()) - kinds["repaired"]
            raise CorpusError(f"corpus {name}: no document could be read ({rejected} rejected); check its sources")
        if good + damaged >= _ENOUGH and damaged > corpus.max_damaged * (good + damaged):
            raise CorpusError(
                f"corpus {name}: {damaged} of {good + damaged} documents are damaged, more than max_damaged "
                f"({float(corpus.max_damaged):.1%}) allows; see why in {work}/task-*/{REJECTED}, then repair the "
                f"source or raise corpora.{name}.max_damaged"
            )
        return dict(sorted(kinds.items()))


def _source_entry(source: Source) -> FilesEntry | BuiltinEntry:
    if source.builtin is None:
        return FilesEntry(files=str(source.files))
    found = builtin_version(source.builtin)
    return BuiltinEntry(version=found.version, sha256=found.sha256, license=found.license)


def work_folder(folder: Path) -> Path:
    """Where a corpus is made that goes to `folder`."""
    return folder.absolute().with_name(f".{folder.name}.work")


def remove_leftovers(folder: Path) -> None:
    """Remove what a corpus was made of if it is complete and a clean-up was killed."""
    shutil.rmtree(_removed(folder), ignore_errors=True)


def _removed(folder: Path) -> Path:
    return folder.absolute().with_name(f".{folder.name}.done")


def present_corpus(folder: Path, request: CorpusRequest) -> PreparedCorpus | None:
    """The corpus in `folder` if it is complete and of this request."""
    try:
        corpus = open_corpus(folder)
    except CorpusError:
        return None
    return corpus if corpus.manifest.request == request else None
