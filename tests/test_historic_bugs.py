"""One test for each bug of the first TinyLlama run, named after it."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoint.states import made_up_state
from tests.conftest import MakeFamily
from tests.train.processes import train_on
from tests.train.runs import deterministic_metrics
from tinyllama.checkpoint.format import Checkpoint, save_checkpoint, steps_saved
from tinyllama.checkpoint.store import CheckpointStore
from tinyllama.corpus.manifest import open_corpus
from tinyllama.corpus.rows import IGNORED, Rows
from tinyllama.corpus.shards import ShardWriter, TokenStream, token_dtype
from tinyllama.errors import CheckpointError, RecipeError
from tinyllama.plan import compile_plan
from tinyllama.recipe import load_recipe
from tinyllama.sampler import Sampler, rank_part
from tinyllama.train.feeder import read_step

ROWS = {"prose": 97, "code": 31, "arithmetic": 11}


def test_data_ranks_that_shuffled_different_file_lists_so_that_some_were_read_twice_and_others_never() -> None:
    plan = compile_plan(load_recipe("nano"), "math_code")
    for ranks in (1, 2, 3, 4):
        # Each rank has a sampler of its own and takes its part of every step.
        samplers = [Sampler(plan, 1, ROWS) for _ in range(ranks)]
        seen: Counter[tuple[int, int]] = Counter()
        for step in range(plan.steps):
            for rank, sampler in enumerate(samplers):
                chosen = sampler.step(step)
                own = rank_part(len(chosen.row), rank, ranks)
                seen.update(zip(chosen.corpus[own].tolist(), chosen.row[own].tolist(), strict=True))
        for corpus, (name, size) in enumerate(ROWS.items()):
            taken = [count for (index, _), count in seen.items() if index == corpus]
            assert len(taken) == size, name
            assert max(taken) - min(taken) <= 1, name


def test_end_of_shard_padding_with_bos_tokens_that_was_trained_on(tmp_path: Path) -> None:
    bos, writer = 1, ShardWriter(tmp_path, "train", token_dtype(100), 10)
    writer.append(range(2, 25))
    writer.close()
    files = [tmp_path / shard.file for shard in writer.shards]
    stream = TokenStream(files, [shard.tokens for shard in writer.shards], token_dtype(100))
    assert sum(path.stat().st_size for path in files) == 23 * 2
    rows = Rows(stream, 9, "it")
    trained = np.concatenate([targets[targets != IGNORED] for _, targets in map(rows.row, range(len(rows)))])
    assert trained.tolist() == list(range(3, 25))
    assert bos not in trained


def test_bos_eos_policy_that_changed_between_commits(make_trained: MakeFamily) -> None:
    family = make_trained()
    before = {name: open_corpus(family.folder / "corpora" / name).sha256 for name in family.recipe.corpora}
    changed = make_trained("family", "tokenizer.eos=false")
    with pytest.raises(CheckpointError, match=r"corpora\.prose|tokenizer\.eos"):
        changed.train("base")
    after = {name: [open_corpus(path).sha256 for path in family.layout.corpus_versions(name)] for name in before}
    assert all(after[name][-1] != before[name] for name in before), "a corpus of another policy was taken for the same"
    assert all(after[name][0] == before[name] for name in family.recipe.base), "a corpus that was trained on was lost"


def test_minimum_lr_equal_to_the_peak() -> None:
    with pytest.raises(RecipeError, match=r"minimum .* must be below peak"):
        load_recipe("tinyllama-v1.1", ["optimizer.learning_rate.minimum=4e-4"])
    plan = compile_plan(load_recipe("tinyllama-v1.1"), "v1.1")
    assert plan.lr[-1] == pytest.approx(plan.lr.max() / 10)


def test_checkpoints_sorted_by_name_past_999999(tmp_path: Path) -> None:
    import torch

    for step in (1_000_000, 999_999, 200_000):
        save_checkpoint(tmp_path, {"model.a": torch.zeros(1)}, made_up_state(step))
    assert steps_saved(tmp_path) == [200_000, 999_999, 1_000_000]
    newest = next(CheckpointStore(tmp_path).newest())
    assert isinstance(newest, Checkpoint)
    assert newest.step == 1_000_000


def test_a_resume_that_replays_every_batch(make_family: MakeFamily) -> None:
    run = make_family().training_run("math_code")
    rows = {name: run.corpora[name].rows("train", run.plan.context) for name in run.plan.corpora}
    asked: list[int] = []

    class Recording(Sampler):
        def step(self, step: int):  # noqa: ANN202  # as Sampler
            asked.append(step)
            return super().step(step)

    sampler = Recording(run.plan, 1, {name: len(part) for name, part in rows.items()})
    read_step(run.plan, sampler, rows, run.plan.steps - 1)
    assert asked == [run.plan.steps - 1], "a resume at a late step must not walk through the steps before it"


def test_a_dropped_tail_of_files_that_depends_on_the_number_of_ranks(tmp_path: Path) -> None:
    # A corpus of 7 shards, which no number of ranks but 1 and 7 divides: every token is in some row.
    writer = ShardWriter(tmp_path, "train", token_dtype(1000), 13)
    writer.append(range(7 * 13 - 4))
    writer.close()
    assert len(writer.shards) == 7
    files = [tmp_path / shard.file for shard in writer.shards]
    rows = Rows(TokenStream(files, [s.tokens for s in writer.shards], token_dtype(1000)), 8, "it")
    predicted = sorted(t for i in range(len(rows)) for t in rows.row(i)[1].tolist() if t != IGNORED)
    assert predicted == list(range(1, 7 * 13 - 4))


def test_a_batch_size_that_silently_grows_with_the_number_of_nodes() -> None:
    recipe = load_recipe("tinyllama-v1.1")
    plan = compile_plan(recipe, "v1.1")
    # The batch is a column of the plan, and the plan reads no hardware key.
    other = load_recipe("tinyllama-v1.1", ["hardware.micro_batch=1", "hardware.threads=64"])
    assert (compile_plan(other, "v1.1").batch == plan.batch).all()
    assert set(plan.batch.tolist()) == {880, 3520}


def test_a_logged_loss_of_one_rank_only(prepared: Path, tmp_path: Path) -> None:
    # Two ranks see half a step's rows each, whose mean loss is not that of all rows.
    for ranks in (1, 2):
        folder = shutil.copytree(prepared, tmp_path / str(ranks))
        assert train_on(folder, ranks, ranks) == [0] * ranks
    one, two = ([r["loss"] for r in deterministic_metrics(tmp_path / ranks / "base") if "loss" in r] for ranks in "12")
    assert len(one) == 6
    assert two == pytest.approx(one, rel=2e-6)
