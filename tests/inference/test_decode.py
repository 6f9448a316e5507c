from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.backends.cuda import cudnn_sdp_enabled
from transformers import AutoModelForCausalLM, set_seed

from tinyllama.errors import UserError
from tinyllama.files import write_json
from tinyllama.formats.huggingface.config import config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.inference import Sampling, decode_batch
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import LlamaForCausalLM

SHAPE = ModelShape(layers=2, width=64, ffn=172, heads=4, kv_heads=2, context=48, vocab_size=200)
NO_EOS = 199
GREEDY = Sampling(temperature=0, repetition_penalty=1.0)


def random_model(seed: int, shape: ModelShape = SHAPE) -> Llama:
    model = Llama(shape)
    model.initialize(seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # peaked like a trained model's, so that no two logits are a rounding apart
    return model


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return torch.randint(SHAPE.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def in_transformers(model: Llama, folder: Path) -> LlamaForCausalLM:
    write_json(folder / "config.json", config_of_shape(model.shape, dtype=torch.float32, bos_id=1, eos_id=NO_EOS))
    write_weights(model.state_dict(), model.shape, folder, torch.float32)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def from_transformers(twin: LlamaForCausalLM, prompt: list[int], **options: object) -> list[int]:
    """Its 30 new ids, up to EOS."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    new = twin.generate(ids, attention_mask=mask, max_new_tokens=30, pad_token_id=NO_EOS, **options)[0, len(prompt) :]
    return [token for token in new.tolist() if token != NO_EOS]


def continued(model: Llama, prompt: list[int], settings: Sampling, **changes: int | None) -> list[int]:
    arguments = {"end_ids": (), "max_new_tokens": 30, "seed": 0} | changes
    return [new for (new,) in decode_batch(model, [prompt], settings, **arguments)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE.model_copy(update={"kv_heads": 1, "tied_embeddings": True})])
def test_greedy_equals_transformers_greedy(tmp_path: Path, seed: int, penalty: float, shape: ModelShape) -> None:
    model, prompt = random_model(seed, shape), prompt_of(9, seed)
    theirs = from_transformers(in_transformers(model, tmp_path), prompt, do_sample=False, repetition_penalty=penalty)
    ours = continued(model, prompt, Sampling(temperature=0, repetition_penalty=penalty))
    assert ours == theirs
    assert len(ours) > 3


def test_samples_equal_those_of_transformers_with_the_same_seed(tmp_path: Path) -> None:
    model, prompt, settings = random_model(0), prompt_of(9), Sampling(0.9, 20, 0.95, 1.5)
    twin = in_transformers(model, tmp_path)
    set_seed(7)
    options = {"temperature": 0.9, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.5}
    assert continued(model, prompt, settings, seed=7) == from_transformers(twin, prompt, do_sample=True, **options)


def test_the_seed_decides_the_text() -> None:
    model, prompt, settings = random_model(0), prompt_of(9), Sampling(temperature=2.0, top_k=0)
    assert continued(model, prompt, settings, seed=1) == continued(model, prompt, settings, seed=1)
    assert continued(model, prompt, settings, seed=1) != continued(model, prompt, settings, seed=2)


def test_eos_ends_the_text_and_is_not_part_of_it() -> None:
    model, prompt = random_model(0), prompt_of(9)
    endless = continued(model, prompt, GREEDY, end_ids=())
    stop = endless[5]
    assert continued(model, prompt, GREEDY, end_ids={stop}) == endless[: endless.index(stop)]


def test_no_more_than_max_new_tokens_come() -> None:
    assert len(continued(random_model(0), prompt_of(9), GREEDY, end_ids=(), max_new_tokens=4)) == 4


def test_the_text_ends_where_the_context_is_full() -> None:
    ids = continued(random_model(0), prompt_of(40), GREEDY, end_ids=(), max_new_tokens=1000)
    assert len(ids) == SHAPE.context - 40


@pytest.mark.parametrize("length", [0, 48, 60])
def test_a_prompt_without_room_is_refused_before_the_first_token(length: int) -> None:
    with pytest.raises(UserError, match=f"the prompt has {length} tokens.*context is 48"):
        decode_batch(random_model(0), [prompt_of(length)], GREEDY, end_ids=(), max_new_tokens=1, seed=0)


def test_tokens_are_yielded_one_at_a_time() -> None:
    class Counting(Llama):
        passes = 0

        def hidden(self, *arguments: object, **named: object) -> torch.Tensor:
            type(self).passes += 1
            return super().hidden(*arguments, **named)

    model = Counting(SHAPE)
    model.initialize(0)
    stream = decode_batch(model, [prompt_of(9)], GREEDY, end_ids=(), max_new_tokens=10, seed=0)
    assert Counting.passes == 0
    next(stream)
    assert Counting.passes == 1


def test_generation_leaves_gradients_on_for_the_caller() -> None:
    stream = decode_batch(random_model(0), [prompt_of(9)], GREEDY, end_ids=(), max_new_tokens=3, seed=0)
    next(stream)
    assert torch.is_grad_enabled()


def test_no_token_waits_for_a_kernel_that_is_planned_for_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(0)
    allowed, hidden = list[bool](), model.hidden
    monkeypatch.setattr(model, "hidden", lambda *a, **k: (allowed.append(cudnn_sdp_enabled()), hidden(*a, **k))[1])
    monkeypatch.setattr("tinyllama.model.attention.PLANS_SHAPES", {"cpu"})
    continued(model, prompt_of(5), GREEDY)
    assert len(allowed) > 1
    assert not any(allowed)
    assert cudnn_sdp_enabled(), "as before, between tokens"


def side_by_side(
    model: Llama, prompts: list[list[int]], settings: Sampling, **changes: int | None
) -> list[list[int | None]]:
    """What each row of a batch yields, the None of rows that ended included."""
    arguments = {"end_ids": (), "max_new_tokens": 30, "seed": 0} | changes
    return list(map(list, zip(*decode_batch(model, prompts, settings, **arguments), strict=True)))


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE.model_copy(update={"kv_heads": 4})])
def test_greedy_texts_side_by_side_are_those_of_each_prompt_alone(penalty: float, shape: ModelShape) -> None:
    model, settings = random_model(0, shape), Sampling(temperature=0, repetition_penalty=penalty)
    prompts = [prompt_of(length, seed=length) for length in (9, 1, 17, 17)]
    for prompt, row in zip(prompts, side_by_side(model, prompts, settings), strict=True):
        assert [new for new in row if new is not None] == continued(model, prompt, settings)


def test_bans_side_by_side_are_those_of_each_prompt_alone() -> None:
    prompts = [[5, 5, 9, 5, 5], [5], [9, 5, 5]]
    free = continued(random_model(0), prompts[1], GREEDY)
    word = (5, 5, free[0])  # two tokens of padding before the second prompt would spell its beginning
    banned = Sampling(temperature=0, repetition_penalty=1.5, no_repeat_ngram_size=2, bad_words_ids=(word,))
    rows = side_by_side(random_model(0), prompts, banned)
    assert rows == [continued(random_model(0), prompt, banned) for prompt in prompts]
    assert rows[1][0] == free[0]


def test_samples_side_by_side_equal_those_of_transformers_with_the_same_seed(tmp_path: Path) -> None:
    model, prompts, settings = random_model(0), [prompt_of(9, seed) for seed in range(3)], Sampling(0.9, 20, 0.95, 1.5)
    twin = in_transformers(model, tmp_path)
    set_seed(7)
    ids = torch.tensor(prompts)
    theirs = twin.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        temperature=0.9,
        top_k=20,
        top_p=0.95,
        repetition_penalty=1.5,
        max_new_tokens=8,
        min_new_tokens=8,
        pad_token_id=0,
    )
    assert side_by_side(model, prompts, settings, seed=7, end_ids=(), max_new_tokens=8) == theirs[:, 9:].tolist()


def test_a_text_that_ended_yields_none_while_others_go_on() -> None:
    model, prompts = random_model(0), [prompt_of(9, 0), prompt_of(6, 1)]
    endless = side_by_side(model, prompts, GREEDY, end_ids=())
    stop = endless[0][4]
    assert stop not in endless[0][:4]
    assert stop not in endless[1]
    rows = side_by_side(model, prompts, GREEDY, end_ids={stop})
    assert rows == [endless[0][:4] + [None] * 26, endless[1]]


def test_each_text_ends_where_its_own_context_is_full() -> None:
    rows = side_by_side(random_model(0), [prompt_of(40), prompt_of(46)], GREEDY, end_ids=(), max_new_tokens=1000)
    assert [sum(new is not None for new in row) for row in rows] == [8, 2]


def test_no_prompts_yield_nothing() -> None:
    assert list(decode_batch(random_model(0), [], GREEDY, end_ids=(), max_new_tokens=3, seed=0)) == []


@pytest.mark.parametrize("settings", [GREEDY, Sampling(0.9, 20, 0.95, 1.5)])
def test_samples_of_a_prompt_are_those_of_as_many_equal_prompts(settings: Sampling) -> None:
    model, prompts = random_model(0), [prompt_of(9), prompt_of(6)]
    together = side_by_side(model, prompts, settings, samples=3)
    assert together == side_by_side(model, prompts * 3, settings)
