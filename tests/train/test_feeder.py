import pytest
import torch

from tests.conftest import MakeFamily
from tinyllama.corpus.digest import from_limbs, limbs, row_digest
from tinyllama.corpus.rows import IGNORED
from tinyllama.sampler import Sampler
from tinyllama.train.feeder import read_step
from tinyllama.train.ranks import Ranks


@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 16, 20])
def test_ranks_read_the_rows_of_one_process_in_its_order_and_equally_many(make_family: MakeFamily, count: int) -> None:
    run = make_family().training_run("math_code")
    rows = {name: run.corpora[name].rows("train", run.plan.context) for name in run.plan.corpora}
    sampler = Sampler(run.plan, 1, {name: len(part) for name, part in rows.items()})
    for step in (0, 8, run.plan.steps - 1):
        alone = read_step(run.plan, sampler, rows, step)
        parts = [read_step(run.plan, sampler, rows, step, Ranks(rank, count, count)) for rank in range(count)]
        assert len({len(part.inputs) for part in parts}) == 1
        assert {part.predicted for part in parts} == {alone.predicted}
        inputs, targets = (torch.cat([part[at] for part in parts]) for at in (2, 3))
        own = (targets != IGNORED).any(dim=1)
        assert torch.equal(inputs[own], alone.inputs)
        assert torch.equal(targets[own], alone.targets)
        assert len(own) - int(own.sum()) < count


def test_predicted_targets_are_counted_without_reading_the_rows(make_family: MakeFamily) -> None:
    run = make_family().training_run("base")
    rows = run.corpora["prose"].rows("train", run.plan.context)
    for index in (0, 1, len(rows) - 2, len(rows) - 1):
        assert rows.predicted(index) == int((rows.row(index)[1] != IGNORED).sum())
    assert sum(rows.predicted(index) for index in range(len(rows))) == rows.targets


def test_the_digest_of_a_step_is_of_the_rows_that_are_fed_whatever_the_ranks(make_family: MakeFamily) -> None:
    run = make_family().training_run("math_code")
    rows = {name: run.corpora[name].rows("train", run.plan.context) for name in run.plan.corpora}
    sampler = Sampler(run.plan, 1, {name: len(part) for name, part in rows.items()})
    alone = read_step(run.plan, sampler, rows, 8)
    names = [name.rpartition(":")[0] for name in alone.named_rows(run.plan)]
    fed = zip(names, alone.rows.row.tolist(), alone.inputs.numpy(), alone.targets.numpy(), strict=True)
    assert alone.digest == sum(row_digest(*row) for row in fed)
    for count in (3, 7):
        parts = [read_step(run.plan, sampler, rows, 8, Ranks(rank, count, count)).digest for rank in range(count)]
        assert sum(parts) == alone.digest
        summed = [sum(part) for part in zip(*map(limbs, parts), strict=True)]
        assert from_limbs(summed) == from_limbs(limbs(alone.digest))
