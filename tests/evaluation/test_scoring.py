"""Trees of shared prefixes give each text what it gets alone."""

from __future__ import annotations

import random
from threading import Barrier, Event, Timer, get_ident
from typing import TYPE_CHECKING

import pytest
import torch
from torch.backends.cuda import cudnn_sdp_enabled

from tinyllama.evaluation.passes import PassLimits, within_memory
from tinyllama.evaluation.scoring import Window, plan_trees, score_windows
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = ModelShape(layers=2, width=32, ffn=64, heads=4, kv_heads=2, context=64, vocab_size=50)


@pytest.fixture(scope="module")
def model() -> Llama:
    model = Llama(SHAPE)
    model.initialize(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)), alpha=0.1)
    return model


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One pass at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


def sizes(lengths: list[int], limits: PassLimits) -> list[list[int]]:
    left, passes = sorted(lengths, reverse=True), list[list[int]]()
    while left:
        rows = limits.rows_of(left[0])
        passes.append(left[:rows])
        left = left[rows:]
    return passes


def test_a_pass_is_bounded_by_its_tokens_times_its_longest_row() -> None:
    lengths = [*[4096] * 5, *[2048] * 20, *[100] * 400]
    passes = sizes(lengths, PassLimits(32768, 1 << 26))
    assert [length for batch in passes for length in batch] == sorted(lengths, reverse=True)
    assert max(len(batch) * batch[0] ** 2 for batch in passes) <= 1 << 26
    assert [len(batch) for batch in passes if batch[0] == 4096] == [4, 4], "16 rows of 2,048 make as many pairs"
    assert [batch[0] for batch in sizes([9000, 9000], PassLimits(32768, 1 << 26))] == [9000, 9000], (
        "too large, so alone"
    )


def test_a_cpu_computes_the_passes_that_it_always_did() -> None:
    rng = random.Random(1)  # noqa: S311  # any lengths will do
    for _ in range(30):
        lengths = [rng.randint(1, rng.choice([20, 300, 3000])) for _ in range(80)]
        expected, batch = list[list[int]](), list[int]()
        for length in sorted(lengths, reverse=True):
            if batch and (len(batch) + 1) * batch[0] > 1024:
                expected.append(batch)
                batch = []
            batch.append(length)
        assert sizes(lengths, PassLimits(1024, 1 << 20)) == [*expected, batch]


def test_an_accelerator_with_little_free_memory_computes_small_passes() -> None:
    limits, llama_7b = PassLimits(32768, 1 << 26), ModelShape(
        layers=32, width=4096, ffn=11008, heads=32, kv_heads=32, context=4096, vocab_size=32000
    )  # fmt: skip
    assert within_memory(limits, llama_7b, 2, 60 * 2**30) == limits
    small = within_memory(limits, llama_7b, 2, 2**30)
    assert 2000 < small.tokens < 3000
    assert small.tokens * (4 * 4096 + 3 * 11008) * 2 + small.pairs * 3 <= 2**29
    assert within_memory(limits, llama_7b, 2, 0).rows_of(100) == 1, "one row is tried"


@pytest.mark.usefixtures("one_thread")
def test_passes_at_the_same_time_give_what_they_give_one_by_one(model: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    windows, hidden, seen = questions(12), model.hidden, list[tuple[int, int]]()
    expected = scores(model, windows, 3)
    barrier = Barrier(2)

    def together(*given: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        seen.append((get_ident(), torch.get_num_threads()))
        if len(seen) <= 2:
            barrier.wait(30)  # for a pass in another thread
        return hidden(*given, **others)

    monkeypatch.setattr(model, "hidden", together)
    torch.set_num_threads(2)
    assert scores(model, windows, 3) == expected
    assert {threads for _, threads in seen} == {1}
    assert len({thread for thread, _ in seen}) == 2
    assert torch.get_num_threads() == 2
    error = RuntimeError("no such kernel")
    monkeypatch.setattr(model, "hidden", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(RuntimeError, match="no such kernel"):
        scores(model, windows, 3)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("one_thread")
def test_passes_that_are_given_up_end_with_their_layer(model: Llama, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = model.layers[0].forward, model.layers[1].forward
    windows, computed, begun, release = questions(12), list[int](), Event(), Event()
    longest, *lengths = [len(tree.tokens) for tree in plan_trees(windows)]
    assert longest not in lengths

    def wait(states: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        if states.shape[1] < longest:  # not of the first pass
            begun.set()
            assert release.wait(60)
        return first(states, *others)

    monkeypatch.setattr(model.layers[0], "forward", wait)
    monkeypatch.setattr(model.layers[1], "forward", lambda *given: (computed.append(1), second(*given))[1])
    torch.set_num_threads(2)
    scored = score_windows(model, windows, 1)
    assert next(scored)
    assert begun.wait(60)
    Timer(0.2, release.set).start()
    scored.close()
    assert computed == [1]
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("rows", [None, 7])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: out of memory")])
def test_a_pass_that_is_out_of_memory_is_halved_and_the_scores_are_the_same(
    model: Llama, monkeypatch: pytest.MonkeyPatch, rows: int | None, error: Exception
) -> None:
    windows, hidden, tried = questions(12), model.hidden, list[int]()

    def small_device(ids: torch.Tensor, **others: torch.Tensor) -> torch.Tensor:
        tried.append(ids.numel())
        if ids.numel() > 250:
            raise error
        return hidden(ids, **others)

    expected = scores(model, windows, rows)
    monkeypatch.setattr(model, "hidden", small_device)
    found = scores(model, windows, rows)
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert 1 <= sum(size > 250 for size in tried) <= 3, "what was too large once is not tried again"
    monkeypatch.setattr(model, "hidden", lambda *_, **__: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        scores(model, windows)


@pytest.mark.usefixtures("one_thread")
def test_scores_do_not_wait_for_kernels_that_are_planned_for_each_shape(
    model: Llama, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed, hidden = list[bool](), model.hidden
    monkeypatch.setattr(model, "hidden", lambda *a, **k: (allowed.append(cudnn_sdp_enabled()), hidden(*a, **k))[1])
    scores(model, questions(2), rows=1)
    monkeypatch.setattr("tinyllama.model.attention.PLANS_SHAPES", {"cpu"})
    there = len(allowed)
    scores(model, questions(2), rows=1)
    assert set(allowed[:there]) == {True}
    assert set(allowed[there:]) == {False}
    assert cudnn_sdp_enabled()
