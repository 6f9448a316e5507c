"""Trees of shared prefixes give each text what it gets alone."""

from __future__ import annotations

import random

import pytest
import torch

from tinyllama.evaluation.scoring import Window, plan_trees, score_windows
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape

SHAPE = ModelShape(layers=2, width=32, ffn=64, heads=4, kv_heads=2, context=64, vocab_size=50)


@pytest.fixture(scope="module")
def model() -> Llama:
    model = Llama(SHAPE)
    model.initialize(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)), alpha=0.1)
    return model


def questions(count: int, seed: int = 3) -> list[Window]:
    """Options that share prompts of several lengths, one of them the prompt itself, and texts that share nothing."""
    rng = random.Random(seed)  # noqa: S311  # any ids will do
    windows = []
    for _ in range(count):
        prompt = rng.choices(range(50), k=rng.randint(1, 40))
        for length in (0, 1, rng.randint(1, 20), rng.randint(1, 20)):
            inputs = (prompt + rng.choices(range(50), k=length))[-64:]
            targets = rng.choices(range(50), k=rng.randint(1, min(len(inputs), length + 1)))
            windows.append(Window(tuple(inputs), tuple(targets)))
    rng.shuffle(windows)
    return windows


def scores(model: Llama, windows: list[Window], rows: int | None = None) -> list[tuple[float, bool]]:
    found = dict(pair for batch in score_windows(model, windows, rows) for pair in batch)
    return [found[index] for index in range(len(windows))]


def alone(model: Llama, window: Window) -> float:
    logps = model(torch.tensor([window.inputs])).detach().log_softmax(-1)[0, -len(window.targets) :]
    return float(logps.gather(1, torch.tensor(window.targets)[:, None]).sum())


@pytest.mark.parametrize("rows", [None, 1, 3])
def test_each_text_in_a_tree_gets_what_it_gets_alone(model: Llama, rows: int | None) -> None:
    windows = questions(12)
    for window, (score, _) in zip(windows, scores(model, windows, rows), strict=True):
        assert score == pytest.approx(alone(model, window), abs=1e-4)


def test_a_shared_prefix_is_computed_once() -> None:
    prompt = tuple(range(30))
    windows = [Window((*prompt, option, option), (1, 2)) for option in (31, 32, 33, 34)]
    (tree,) = plan_trees(windows)
    assert len(tree.tokens) == 30 + 4 * 2
    assert sorted(tree.windows) == [0, 1, 2, 3]
    assert max(tree.positions) == 31


def test_every_window_is_in_exactly_one_tree_and_can_be_read_back() -> None:
    windows = questions(40)
    trees = plan_trees(windows)
    assert sorted(index for tree in trees for index in tree.windows) == list(range(len(windows)))
    for tree in trees:
        for path, index in zip(tree.paths, tree.windows, strict=True):
            assert tuple(tree.tokens[i] for i in path) == windows[index].inputs
            assert [tree.positions[i] for i in path] == list(range(len(path)))


def test_texts_that_share_little_stay_apart() -> None:
    windows = [Window((1, 2, *range(first, first + 20)), (1,)) for first in (3, 25)]
    assert all(tree.is_chain for tree in plan_trees(windows))
    assert len(plan_trees(windows)) == 2


def test_choices_are_the_same_in_bf16_up_to_ties(model: Llama) -> None:
    import copy

    rough, windows = copy.deepcopy(model).bfloat16(), questions(4)
    for (fine, _), (coarse, _) in zip(scores(model, windows), scores(rough, windows), strict=True):
        assert coarse == pytest.approx(fine, rel=0.05, abs=0.5)
