"""Exports in other environments than ours: `make test-compat`, which builds them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch

from tests.compat.conftest import TEXTS, run_in, work_in
from tests.compat.workers import NEW
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, decode_batch
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.recipe import Recipe

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("environment", ["oldest", "newest"])
def test_the_quick_start_of_the_card_runs_unchanged(export: Path, recipe: Recipe, environment: str) -> None:
    code = re.search(r"```python\n(.*?)```", (export / "README.md").read_text(), re.DOTALL)
    assert code is not None
    printed = run_in(environment, "-c", code[1], folder=export.parents[2])
    assert printed.startswith(f"Result: {recipe.evaluation.prompts[0]}")


@pytest.mark.parametrize(
    ("environment", "work"),
    [("oldest", "transformers_logits"), ("newest", "transformers_logits"), ("onnx", "onnx_logits")],
)
@torch.no_grad()
def test_ids_and_logits_are_ours(export: Path, environment: str, work: str) -> None:
    theirs = work_in(environment, work, export)
    ids = [open_tokenizer(export).encode_prompt(text) for text in TEXTS]
    assert theirs["ids"] == ids
    ours = open_model(export).load()
    for row, logits in zip(ids, theirs["logits"], strict=True):
        torch.testing.assert_close(torch.tensor(logits), ours(torch.tensor([row]))[0], rtol=0, atol=1e-5)


def test_ctranslate2_continues_with_our_greedy_tokens(export: Path) -> None:
    theirs = work_in("newest", "ctranslate2_greedy", export)
    ids = [open_tokenizer(export).encode_prompt(text) for text in TEXTS]
    assert theirs["ids"] == ids
    greedy = Sampling(temperature=0, repetition_penalty=1.0)
    ours = open_model(export).load()
    for row, continuation in zip(ids, theirs["continuations"], strict=True):
        steps = decode_batch(ours, [row], greedy, end_ids=(), max_new_tokens=NEW, seed=0)
        assert continuation == [new for (new,) in steps]
