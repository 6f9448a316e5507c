from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tinyllama.model import Llama
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "the small cat sat on the mat and the other cat ran after that rat; then both slept all day. "
VOCABULARY = 300


@pytest.fixture(scope="session")
def tokenizer_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_model([TEXT * 20], VOCABULARY))
    return path


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return load_recipe("nano", [f"model.vocab_size={VOCABULARY}", f"tokenizer.train.vocab_size={VOCABULARY}"])


@pytest.fixture
def model(recipe: Recipe) -> Llama:
    """Random weights, norms and all."""
    model = Llama(recipe.model)
    model.initialize(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)), alpha=0.05)
    return model
