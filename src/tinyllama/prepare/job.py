"""A planned preparation: everything that a process needs to do a part of it, on this machine or another.

It has three stages. Any process may do any task or shard, in any order, repeatedly or at the same time as another:
finished parts are kept, and the result is the same to the byte.

1. `run_task`: documents → token ids, a folder for each task.
2. `write_shard`: the tokens of all tasks, in order → shards.
3. `Preparation.finish`: index of documents, quarantine, file fingerprints, and last the manifest.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.corpus.manifest import (
    CORPUS_FOLDER,
    HELD_OUT,
    RESPELLED,
    TRAIN,
    BuiltinEntry,
    CorpusManifest,
    EngineEntry,
    FilesEntry,
    PreparedCorpus,
    QualityEntry,
    open_corpus,
    write_manifest,
)
from tinyllama.corpus.shards import token_dtype
from tinyllama.errors import CorpusError, WorkerLostError
from tinyllama.files import sha256_json
from tinyllama.folders import replaced_folder
from tinyllama.prepare.assembly import assemble, kept_parts, plan_shards
from tinyllama.prepare.copies import find_copies, reject_copies, write_signatures
from tinyllama.prepare.task import FILES, REJECTED, Counts, finished_task, finished_tasks, run_task, task_folder
from tinyllama.quality.refinement import MASKED, SHORTENED
from tinyllama.quality.requirements import selects
from tinyllama.record_files import file_entries
from tinyllama.sources.builtin.registry import builtin_version
from tinyllama.sources.checks import explain_nothing
from tinyllama.sources.rejected import Quarantine, Reasons, read_rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tinyllama.corpus.manifest import CorpusRequest, SplitEntry
    from tinyllama.prepare.assembly import Part, Shard
    from tinyllama.prepare.task import TaskResult, TaskSettings
    from tinyllama.recipe import Corpus, Source
    from tinyllama.sources.documents import ReadTask
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.bulk import Engine

_log = logging.getLogger(__name__)

IDENTITY = "identity"
"""File in the work folder that says what is prepared there; written before anything is read."""
_ENOUGH = 100
"""Documents below which the share of damaged ones is not checked."""


@dataclass(frozen=True)
class Preparation:
    """What one corpus is made from, and its folder; passed to other processes by pickle."""

    settings: TaskSettings
    tasks: Sequence[ReadTask]
    engine: str
    """Name of the engine that every process has to use."""
    folder: Path
    request: CorpusRequest
    skipped: Sequence[Rejected]
    """Files that are not read by any task."""
    before: Sequence[PreparedCorpus] = ()
    """Corpora of whose documents this one holds no copies."""

    def pending(self) -> list[int]:
        """Unfinished tasks, the largest first, so that a large one does not run alone at the end."""
        pending = sorted(set(range(len(self.tasks))) - finished_tasks(self.settings.work))
        return sorted(pending, key=lambda index: -self.tasks[index].text_bytes)

    def run(self, index: int, engine: Engine, progress: Callable[[Counts], None] = lambda _counts: None) -> None:
        """Do a task, unless it is finished; see `run_task`."""
        run_task(self.settings, self.tasks[index], index, engine, progress)

    def counts(self, index: int) -> Counts:
        """What a task has done: everything, or nothing."""
        result = finished_task(self.settings.work, index)
        return Counts(unread=self.tasks[index].size) if result is None else result.counts

    def shards(self) -> list[tuple[Path, Shard, int]]:
        """Arguments of `write_shard` for every shard of the corpus.

        Raises:
            WorkerLostError: a task is not finished.
            CorpusError: no document could be read, or too many are damaged.
        """
        results = self._results()
        self._check_damage(results)
        dtype, parts = token_dtype(self.settings.tokenizer.vocab_size), self._parts(results)
        planned = plan_shards(parts, dtype).values()
        return [(self.settings.work, shard, dtype.itemsize) for shards in planned for shard in shards]

    def find_copies(self) -> None:
        """Find copies of documents among finished tasks, if the corpus is to hold none and this was not done before.

        Raises:
            WorkerLostError: a task is not finished.
            CorpusError: no document could be read, or too many are damaged; signatures cannot be read.
        """
        if (copies := self.settings.corpus.deduplicate) is not None:
            self._check_damage(self._results())
            find_copies(self.settings.work, self.settings.name, self._task_folders, copies, self.before)

    def finish(self, workers: int = 1) -> None:
        """Make the corpus from finished tasks; shards that are missing are written by this process.

        Args:
            workers: number of threads; hashing and copying release the interpreter lock.

        Raises:
            WorkerLostError: a task is not finished.
            CorpusError: no document could be read, or too many are damaged; see `write_shard`.
        """
        work, results = self.settings.work, self._results()
        quarantined = self._check_damage(results)
        if respelled := quarantined.get(RESPELLED):
            _log.warning(
                "corpus %s: the tokenizer does not spell back %d of %d documents as they are, since it "
                "normalizes text, changes spaces or lacks characters; models learn its spelling, while bytes are "
                "counted of the text itself",
                self.settings.name,
                respelled,
                sum(part.documents for result in results for part in result.splits.values()),
            )
        dtype, parts, copies = token_dtype(self.settings.tokenizer.vocab_size), self._parts(results), Counter[str]()
        with replaced_folder(self.folder, CORPUS_FOLDER, CorpusError) as beside:
            with (beside / REJECTED).open("w", encoding="utf-8") as file:
                quarantine = Quarantine(file)
                for rejected in self.skipped:
                    quarantine(rejected)
            splits = assemble(work, parts, dtype, beside, workers)
            if (deduplication := self.settings.corpus.deduplicate) is not None:
                copies = self._reject_copies(beside / REJECTED, deduplication.method)
                write_signatures(self._task_folders, deduplication, beside)
            if (work / IDENTITY).is_file():  # the time from which on a change of a source matters
                began = (work / IDENTITY).stat().st_mtime
                os.utime(beside / FILES, (began, began))
            kinds = dict(sorted((Counter(quarantined) + Counter(duplicate=copies.total())).items()))
            write_manifest(beside, self._manifest(results, kinds, splits, beside, copies))

    def clean_up(self) -> None:
        """Remove the work folder; `remove_leftovers` completes this if the process is killed."""
        self.settings.work.rename(_removed(self.folder))
        remove_leftovers(self.folder)

    def _results(self) -> list[TaskResult]:
        results = [finished_task(self.settings.work, index) for index in range(len(self.tasks))]
        done = [result for result in results if result is not None]
        if len(done) < len(results):
            raise WorkerLostError(
                f"corpus {self.settings.name}: {len(results) - len(done)} of {len(results)} tasks are not finished; "
                "run the same command again"
            )
        return done

    @property
    def _task_folders(self) -> list[Path]:
        return [task_folder(self.settings.work, index) for index in range(len(self.tasks))]

    def _parts(self, results: Sequence[TaskResult]) -> dict[str, list[Part]]:
        """What each task gives each split, without copies of documents."""
        self.find_copies()
        parts = kept_parts(self.settings.work, results, deduplicated=self.settings.corpus.deduplicate is not None)
        if not sum(part.kept.documents for part in parts[TRAIN]):
            raise CorpusError(
                f"corpus {self.settings.name}: all documents to train on are copies of others; give it other text, or "
                f"remove corpora.{self.settings.name}.deduplicate"
            )
        return parts

    def _reject_copies(self, path: Path, method: str) -> Counter[str]:
        """Append the copies of documents to the quarantine, and count them by reason."""
        reasons = Counter[str]()
        with path.open("a", encoding="utf-8") as file:
            quarantine = Quarantine(file)
            for task in self._task_folders:
                for rejected in reject_copies(task, method):
                    quarantine(rejected)
                    reasons[rejected.reason] += 1
        return reasons

    def _manifest(
        self,
        results: Sequence[TaskResult],
        quarantined: dict[str, int],
        splits: dict[str, SplitEntry],
        folder: Path,
        copies: Counter[str],
    ) -> CorpusManifest:
        """The manifest of the corpus whose other files are in `folder`."""
        sources = self._sources()
        known = {shard.file: shard.sha256 for part in splits.values() for shard in part.shards}
        return CorpusManifest(
            corpus=self.settings.name,
            license=license_of(self.settings.corpus, sources),
            request=self.request,
            bos_id=self.settings.tokenizer.bos_id,
            eos_id=self.settings.tokenizer.eos_id,
            rejected=sum(count for kind, count in quarantined.items() if kind not in {"repaired", RESPELLED}),
            quarantined=quarantined,
            sources=sources,
            held_out_documents=self._held_out_documents(results),
            engine=EngineEntry(name=self.engine, checked=sum(result.checked for result in results)),
            dtype=token_dtype(self.settings.tokenizer.vocab_size).name,
            splits=splits,
            files=file_entries(folder, known),
            quality=self._quality(results, copies) if selects(self.settings.corpus) else None,
        )

    def _sources(self) -> tuple[FilesEntry | BuiltinEntry, ...]:
        instead = {task.source: task.instead for task in self.tasks}
        sources = enumerate(self.settings.corpus.sources)
        return tuple(_source_entry(source, instead.get(index, "")) for index, source in sources)

    def _quality(self, results: Sequence[TaskResult], copies: Counter[str]) -> QualityEntry:
        counts = sum((Counter(result.dropped) for result in results), copies)
        questions = self.settings.questions
        return QualityEntry(
            dropped={reason: counts[reason] for reason in sorted(counts.keys() - {SHORTENED, MASKED})},
            shortened=counts[SHORTENED],
            masked=counts[MASKED],
            questions=sha256_json({**questions}) if questions else None,
            before={corpus.name: corpus.sha256 for corpus in self.before},
            libraries=dict(self.settings.libraries),
        )

    def _held_out_documents(self, results: Sequence[TaskResult]) -> tuple[int, ...]:
        """Held-out documents of each source."""
        counts = [0] * len(self.settings.corpus.sources)
        for task, result in zip(self.tasks, results, strict=True):
            counts[task.source] += result.splits[HELD_OUT].documents
        return tuple(counts)

    def _check_damage(self, results: Sequence[TaskResult]) -> dict[str, int]:
        """Count the quarantined entries by kind, and refuse a corpus with too many of them."""
        name, corpus, work = self.settings.name, self.settings.corpus, self.settings.work
        kinds = Counter[str](rejected.kind for rejected in self.skipped)
        for result in results:
            kinds.update(result.quarantined)
        good = sum(part.documents for result in results for part in result.splits.values())
        damaged = kinds["damaged"]
        if not sum(result.splits[TRAIN].documents for result in results):
            raise CorpusError(self._nothing_to_train_on(good))
        if good + damaged >= _ENOUGH and damaged > corpus.max_damaged * (good + damaged):
            raise CorpusError(
                f"corpus {name}: {damaged} of {good + damaged} documents are damaged, more than max_damaged "
                f"({float(corpus.max_damaged):.1%}) allows; all reasons are in {work}/task-*/{REJECTED}; repair the "
                f"source or raise corpora.{name}.max_damaged{self._reasons()}"
            )
        return dict(sorted(kinds.items()))

    def _nothing_to_train_on(self, held_out: int) -> str:
        where, reasons = f"corpus {self.settings.name}", self._reasons()
        if held_out:
            return (
                f"{where}: all {held_out} documents are held out, so none is left to train on; add documents, or cut "
                f"them (corpora.{self.settings.name}.cut) and hold out blocks (held_out.by: block){reasons}"
            )
        return explain_nothing(self.settings.corpus, self.settings.name, reasons)

    def _reasons(self) -> Reasons:
        """The most common reasons why something is not in the corpus, a line each."""
        reasons = Reasons()
        for rejected in self.skipped:
            reasons(rejected)
        for index in range(len(self.tasks)):
            for rejected in read_rejected(task_folder(self.settings.work, index) / REJECTED):
                reasons(rejected)
        return reasons


def license_of(corpus: Corpus, sources: Sequence[FilesEntry | BuiltinEntry]) -> str:
    """The recipe's license of a corpus, and those of builtin sources that replace others."""
    replacing = [one.license for one in sources if isinstance(one, BuiltinEntry) and one.replaces is not None]
    own = [] if len(replacing) == len(sources) else [corpus.license]
    return "; ".join(dict.fromkeys([*own, *replacing]))


def _source_entry(source: Source, instead: str) -> FilesEntry | BuiltinEntry:
    if source.builtin is None:
        return FilesEntry(files=str(source.files))
    found = builtin_version(instead or source.builtin)
    if not instead:
        return BuiltinEntry(version=found.version, sha256=found.sha256, license=found.license)
    version = f"{instead} {found.version}"
    return BuiltinEntry(version=version, sha256=found.sha256, license=found.license, replaces=source.builtin)


def work_folder(folder: Path) -> Path:
    """The folder in which the parts of a corpus are made, beside its final `folder`."""
    return folder.absolute().with_name(f".{folder.name}.work")


def remove_leftovers(folder: Path) -> None:
    """Complete the clean-up of a finished corpus, if it was killed."""
    shutil.rmtree(_removed(folder), ignore_errors=True)


def _removed(folder: Path) -> Path:
    return folder.absolute().with_name(f".{folder.name}.done")


def present_corpus(folder: Path, request: CorpusRequest) -> PreparedCorpus | None:
    """The corpus in `folder`, if it is complete and was prepared for this request."""
    try:
        corpus = open_corpus(folder)
    except CorpusError:
        return None
    return corpus if request.is_met_by(corpus.manifest.request) else None
