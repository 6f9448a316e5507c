"""Preparing in several processes, killed at random: the same bytes."""

import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing import active_children
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from tests.prepare.texts import write_damaged_texts
from tests.train.processes import CONTEXT, silently
from tinyllama.corpus.manifest import open_corpus
from tinyllama.errors import WorkerLostError
from tinyllama.prepare import workers as worker_pool
from tinyllama.prepare.prepare import PrepareOptions, prepare_corpus
from tinyllama.prepare.task import Counts
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

SOURCES = 7
OVERRIDES = [
    "corpora.prose={size: 1K, license: none, held_out: {share: 20%}, sources: ["
    + ", ".join(f"{{files: texts/{n}.jsonl}}" for n in range(SOURCES))
    + "]}",
    "tokenizer.train.corpora=[arithmetic]",
    "tokenizer.train.vocab_size=400",
    "model.vocab_size=400",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts of seven sources, some of them damaged, and the corpus that one process makes of them."""
    root = tmp_path_factory.mktemp("root")
    write_damaged_texts(root, SOURCES)
    prepare(root, "one", 1)
    return root


def recipe_and_tokenizer(root: Path) -> tuple[Recipe, SentencePieceTokenizer]:
    recipe = load_recipe("nano", OVERRIDES)
    return recipe, obtain_tokenizer(recipe, root / "tokenizer", root, lambda _: None)


def prepare(root: Path, folder: str, workers: int) -> None:
    recipe, tokenizer = recipe_and_tokenizer(root)
    prepare_corpus(recipe, "prose", tokenizer, root / folder, root, options=PrepareOptions(workers))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("workers", [2, 5])
def test_any_number_of_workers_gives_the_same_bytes(root: Path, workers: int) -> None:
    prepare(root, f"by-{workers}", workers)
    assert contents(root / f"by-{workers}") == contents(root / "one")
    assert open_corpus(root / "one").manifest.rejected == SOURCES
    assert not list(root.glob(".*.work"))


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_preparation_killed_at_random_goes_on_to_the_same_bytes(root: Path, kills: int) -> None:
    dice, name = random.Random(kills), f"killed-{kills}"  # noqa: S311  # a test's variety
    for _ in range(kills):
        process = start(prepare, root, name, dice.choice([1, 2, 5]))
        time.sleep(dice.uniform(0.1, 1.5))
        process.kill()
        process.join()
    process = start(prepare, root, name, 2)
    process.join()
    assert process.exitcode == 0
    assert contents(root / name) == contents(root / "one")


def start(work: Callable[[Path, str, int], object], root: Path, folder: str, workers: int) -> ForkServerProcess:
    """Prepare in a process that need not import what this one has imported."""
    process = CONTEXT.Process(target=silently, args=(work, root, folder, workers))
    process.start()
    return process


def test_killed_workers_are_said_and_what_was_finished_is_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, tokenizer = recipe_and_tokenizer(root)
    # A report of progress must come while tasks are left, and on a fast machine all end within half a second.
    monkeypatch.setattr(worker_pool, "_SECONDS", 0.01)

    def kill_all(counts: Counts) -> None:
        if counts.documents:
            for worker in active_children():
                os.kill(int(worker.pid or 0), signal.SIGKILL)

    with pytest.raises(WorkerLostError, match="run the same command again"):
        prepare_corpus(recipe, "prose", tokenizer, root / "lost", root, kill_all, PrepareOptions(2))
    kept = len(list((root / ".lost.work").glob("task-*")))
    prepare(root, "lost", 2)
    assert contents(root / "lost") == contents(root / "one")
    assert 0 <= kept < SOURCES


def test_finished_tasks_are_not_done_again_but_other_sources_are(root: Path) -> None:
    recipe, tokenizer = recipe_and_tokenizer(root)

    def stop(counts: Counts) -> None:
        if counts.documents > 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(recipe, "prose", tokenizer, root / "stopped", root, stop, PrepareOptions(1))
    work = root / ".stopped.work"
    finished = {path: path.stat().st_mtime_ns for path in work.glob("task-*/task.json")}
    assert 2 <= len(finished) < SOURCES
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(recipe, "prose", tokenizer, root / "stopped", root, stop, PrepareOptions(1))
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in finished.items())
    os.utime(root / "texts/0.jsonl", (1, 1))
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(recipe, "prose", tokenizer, root / "stopped", root, stop, PrepareOptions(1))
    assert all(path.stat().st_mtime_ns != time_ for path, time_ in finished.items())
