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
from typing import TYPE_CHECKING, Any

from tinyllama.corpus.manifest import FORMAT, MANIFEST, TRAIN, PreparedCorpus, file_facts, open_corpus
from tinyllama.corpus.shards import token_dtype
from tinyllama.errors import CorpusError, WorkerLostError
from tinyllama.files import new_directory, write_json
from tinyllama.prepare.assembly import assemble, plan_shards
from tinyllama.prepare.task import REJECTED, Counts, finished_task, finished_tasks, run_task, task_counts
from tinyllama.sources.builtin.registry import builtin_facts
from tinyllama.sources.rejected import Quarantine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tinyllama.prepare.assembly import Shard
    from tinyllama.prepare.task import Settings
    from tinyllama.sources.documents import Task
    from tinyllama.sources.rejected import Rejected
    from tinyllama.tokenizer.base import Tokenizer
    from tinyllama.tokenizer.bulk import Engine

_ENOUGH = 100
"""Documents that a corpus must have for its share of damaged ones to mean something."""


@dataclass(frozen=True)
class Preparation:
    """What one corpus is made of and where it goes; other processes get it pickled."""

    settings: Settings
    tasks: Sequence[Task]
    tokenizer: Tokenizer
    engine: str
    """Name of the engine that every process must use."""
    folder: Path
    request: dict[str, Any]
    """What decides the corpus."""
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
        return Counts(unread=self.tasks[index].size) if result is None else task_counts(result)

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
        kept_aside = self._check_damage(results)
        dtype = token_dtype(self.tokenizer.vocab_size)
        with new_directory(self.folder) as beside:
            with (beside / REJECTED).open("w", encoding="utf-8") as file:
                quarantine = Quarantine(file)
                for rejected in self.skipped:
                    quarantine(rejected)
            splits = assemble(work, results, dtype, beside, workers)
            known = {shard["file"]: shard["sha256"] for part in splits.values() for shard in part["shards"]}
            manifest = self._facts(results, kept_aside) | {"dtype": dtype.name, "splits": splits}
            write_json(beside / MANIFEST, manifest | {"files": file_facts(beside, known)})

    def clean_up(self) -> None:
        """Remove what the corpus was made of; `remove_leftovers` does the rest if this is killed."""
        self.settings.work.rename(_removed(self.folder))
        remove_leftovers(self.folder)

    def _results(self) -> list[dict[str, Any]]:
        results = [finished_task(self.settings.work, index) for index in range(len(self.tasks))]
        done = [result for result in results if result is not None]
        if len(done) < len(results):
            raise WorkerLostError(
                f"corpus {self.settings.name}: {len(results) - len(done)} of {len(results)} tasks are not done; "
                "run the same command again"
            )
        return done

    def _facts(self, results: Sequence[dict[str, Any]], kept_aside: dict[str, int]) -> dict[str, Any]:
        corpus = self.settings.corpus
        return {
            "format": FORMAT,
            "corpus": self.settings.name,
            "license": corpus.license,
            "request": self.request,
            "bos_id": self.tokenizer.bos_id,
            "eos_id": self.tokenizer.eos_id,
            "rejected": sum(count for kind, count in kept_aside.items() if kind != "repaired"),
            "kept_aside": kept_aside,
            "sources": [builtin_facts(s.builtin) if s.builtin else {"files": s.files} for s in corpus.sources],
            "engine": {"name": self.engine, "checked": sum(result["checked"] for result in results)},
        }

    def _check_damage(self, results: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Count what was kept aside, by kind."""
        name, corpus, work = self.settings.name, self.settings.corpus, self.settings.work
        kinds = Counter(rejected.kind for rejected in self.skipped)
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
                f"({float(corpus.max_damaged):.1%}) allows; see why in {work}/task-*/{REJECTED}, then repair the "
                f"source or raise corpora.{name}.max_damaged"
            )
        return dict(sorted(kinds.items()))


def work_folder(folder: Path) -> Path:
    """Where a corpus is made that goes to `folder`."""
    return folder.absolute().with_name(f".{folder.name}.work")


def remove_leftovers(folder: Path) -> None:
    """Remove what a corpus was made of if it is complete and a clean-up was killed."""
    shutil.rmtree(_removed(folder), ignore_errors=True)


def _removed(folder: Path) -> Path:
    return folder.absolute().with_name(f".{folder.name}.done")


def present_corpus(folder: Path, request: dict[str, Any]) -> PreparedCorpus | None:
    """The corpus in `folder` if it is complete and of this request."""
    try:
        corpus = open_corpus(folder)
    except CorpusError:
        return None
    return corpus if corpus.manifest["request"] == request else None
