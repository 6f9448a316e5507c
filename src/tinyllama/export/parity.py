"""The gate of an export: transformers, reading the files, must compute what our model computes."""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tinyllama.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import Tensor

    from tinyllama.model import Llama

TOLERANCE = 1e-5
"""Largest difference of two logits, relative to the largest logit where that exceeds 1: about 80 times the
rounding of fp32, and below what any wrong name, transposition, norm or rotation gives."""

_PROMPTS, _LENGTH = 2, 128


@dataclass(frozen=True)
class ParityResult:
    """How far transformers' logits are from ours: weights as stored, both computed in fp32 on the CPU."""

    largest_difference: float
    """Between any two logits."""
    largest_logit: float
    """Largest magnitude among ours."""
    tokens: int
    """Positions compared, each over the whole vocabulary."""
    transformers_version: str

    @property
    def tolerance(self) -> float:
        """What `largest_difference` must not exceed."""
        return TOLERANCE * max(1.0, self.largest_logit)

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance; never so with a NaN."""
        return self.largest_difference <= self.tolerance


def check_parity(model: Llama, folder: Path, dtype: torch.dtype) -> ParityResult:
    """Compare our logits with those of the model that transformers reads from `folder`.

    Both use the weights as stored, i.e. ours are rounded to `dtype` first, and compute in fp32 on the CPU.
    The prompts are fixed: two of at most 128 random ids.

    Raises:
        ExportError: the logits differ by more than the tolerance, or are not finite.
    """
    shape = model.shape
    size = (_PROMPTS, min(_LENGTH, shape.context))
    tokens = torch.randint(shape.vocab_size, size, generator=torch.Generator().manual_seed(0))
    ours = _our_logits(model, tokens, dtype)
    theirs, version = _their_logits(folder, tokens)
    result = ParityResult(
        largest_difference=float((ours - theirs).abs().max()),
        largest_logit=float(ours.abs().max()),
        tokens=tokens.numel(),
        transformers_version=version,
    )
    if not result.passed:
        raise ExportError(
            f"the export was not written: logits of transformers {version} are off by "
            f"{result.largest_difference:.3g}, where rounding explains at most {result.tolerance:.3g}; "
            "if it is nan, the weights are not finite: export an earlier checkpoint"
        )
    return result


@torch.no_grad()
def _our_logits(model: Llama, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    stored = copy.deepcopy(model).to("cpu", dtype).float()
    return stored(tokens)  # type: ignore[no-any-return]  # nn.Module's call is untyped


@torch.no_grad()
def _their_logits(folder: Path, tokens: Tensor) -> tuple[Tensor, str]:
    import transformers  # noqa: PLC0415  # takes seconds; only an export needs it

    with _without_progress_bar():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model(tokens).logits, transformers.__version__


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers' bar for loading weights, which nobody waits for here, off the terminal."""
    from transformers.utils import logging  # noqa: PLC0415  # as above

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # not typed there
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # as above
