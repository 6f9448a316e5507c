"""What jobs on other machines leave in the folder they share with the command."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from tinyllama.errors import CorpusError, SourceError, UserError
from tinyllama.prepare.cluster.queue import job_name, running_jobs
from tinyllama.prepare.cluster.watching import last_launch, new_launch, raise_recorded, recorded, watching
from tinyllama.prepare.job import Preparation, work_folder
from tinyllama.prepare.prepare import corpus_request
from tinyllama.prepare.task import Counts, TaskSettings
from tinyllama.prepare.tokenizer import obtain_tokenizer
from tinyllama.prepare.workers import open_worker_engine
from tinyllama.recipe import load_recipe
from tinyllama.sources.documents import plan_tasks
from tinyllama.tokenizer.bulk import open_engine
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

OVERRIDES = [
    "corpora.prose={size: 1K, license: none, held_out: {share: 20%}, sources: [{files: 0.txt}, {files: 1.txt}]}",
    "tokenizer.train={corpora: [arithmetic], vocab_size: 400}",
    "model.vocab_size=400",
]


@pytest.fixture
def preparation(tmp_path: Path) -> Preparation:
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text(f"text {number} " * 50)
    recipe = load_recipe("nano", OVERRIDES)
    tokenizer = obtain_tokenizer(recipe, tmp_path / "tokenizer", tmp_path, lambda _: None)
    corpus, work = recipe.corpora["prose"], work_folder(tmp_path / "prose")
    tasks = plan_tasks(corpus, tmp_path, lambda _: None)
    settings = TaskSettings(corpus, "prose", tokenizer, bos=True, eos=True, work=work, exact_all=False)
    request = corpus_request(recipe, "prose", tokenizer.sha256)
    return Preparation(settings, tasks, open_engine(tokenizer).name, tmp_path / "prose", request, [])


def test_progress_is_what_finished_tasks_left(preparation: Preparation) -> None:
    seen: list[Counts] = []
    with watching(preparation, seen.append):
        preparation.run(1, open_engine(preparation.settings.tokenizer))
    assert seen[-1]._replace(tokens=0) == Counts(documents=1, bytes=350, read=350, unread=350)
    assert preparation.pending() == [0]


def test_an_error_of_a_job_is_raised_where_the_command_waits(tmp_path: Path) -> None:
    logs = new_launch(tmp_path, "slurm")
    with pytest.raises(SourceError), recorded(logs, "tasks-00001"):
        raise SourceError("the hub refuses it")
    raise_recorded(new_launch(tmp_path, "slurm"))
    raise_recorded(last_launch(tmp_path, "slurm"))
    with pytest.raises(SourceError, match="the hub refuses it"):
        raise_recorded(logs)


def test_another_engine_on_one_machine_is_refused(preparation: Preparation) -> None:
    with pytest.raises(CorpusError, match=r"is used where the preparation was started; install the same packages"):
        open_worker_engine(replace(preparation, engine="fastokens 0.0.1"))


def test_a_tokenizer_finds_its_file_from_any_folder(
    preparation: Preparation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(SentencePieceTokenizer(Path("tokenizer/tokenizer.model")))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).sha256 == preparation.settings.tokenizer.sha256  # noqa: S301  # our own


def test_where_slurm_was_never_asked_for_nobody_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "squeue").write_text('#!/bin/sh\necho "7_[0-3]"; test "$3" = "--name=$EXPECTED"')
    (tmp_path / "squeue").chmod(0o755)
    work = tmp_path / "work"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("EXPECTED", job_name(work))
    assert running_jobs(work) == []
    new_launch(work, "slurm")
    assert running_jobs(work) == ["7_[0-3]"]
    monkeypatch.setenv("EXPECTED", "another")
    with pytest.raises(UserError, match="squeue fails"):
        running_jobs(work)
