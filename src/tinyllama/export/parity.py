"""The gate of an export: another library, reading the files, must compute what our model computes."""

from __future__ import annotations

import logging
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import torch

from tinyllama.errors import ExportError
from tinyllama.export.transformers_streaming import stream_folder, stream_gguf
from tinyllama.formats.gguf.file import parts_of
from tinyllama.formats.huggingface.rope import rope_parameters
from tinyllama.model import Llama
from tinyllama.model.stored_weights import EMBEDDING, HEAD
from tinyllama.model.streaming import stream_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

    from tinyllama.formats.huggingface.tensors import JsonObject
    from tinyllama.recipe import ModelShape

TOLERANCE = 1e-5
"""Largest difference of two logits, relative to the largest logit where that exceeds 1: about 80 times the
rounding of fp32, and below what any wrong name, transposition, norm or rotation causes."""

WHOLE = 200_000_000
"""Parameters up to which transformers' own loader is used. It holds the whole model; a larger one is streamed
through transformers' classes instead, so that checking needs no more memory than writing."""

_PROMPTS, _LENGTH = 2, 128


@dataclass(frozen=True)
class ParityResult:
    """How far another library's logits are from ours: weights as stored, both computed in fp32 on the CPU."""

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


def check_parity(
    weights: Mapping[str, Tensor], shape: ModelShape, path: Path, dtype: torch.dtype, whole: int = WHOLE
) -> ParityResult:
    """Compare our logits with those of the model that transformers reads from a folder or a GGUF file.

    Both use the weights as stored, i.e. ours are rounded to `dtype` first, and compute in fp32 on the CPU.
    The prompts are fixed: two of at most 128 random ids.

    Args:
        weights: ours, by our names.
        shape: of the model.
        path: a Hugging Face folder or a GGUF file.
        dtype: that `weights` are rounded to.
        whole: parameters up to which transformers loads the model at once.

    Raises:
        ExportError: the logits differ by more than the tolerance, or are not finite.
    """
    size = (_PROMPTS, min(_LENGTH, shape.context))
    tokens = torch.randint(shape.vocab_size, size, generator=torch.Generator().manual_seed(0))
    ours = _our_logits(weights, shape, tokens, dtype)
    plain = shape.rope_scaling is None and len(parts_of(path)) == 1  # what transformers reads of GGUF by itself
    at_once = not _can_stream(path) or (shape.parameters <= whole and (plain or path.is_dir()))
    theirs, version = _their_logits(path, tokens, rope_parameters(shape), at_once=at_once)
    result = ParityResult(
        largest_difference=float((ours - theirs).abs().max()),
        largest_logit=float(ours.abs().max()),
        tokens=tokens.numel(),
        transformers_version=version,
    )
    if not result.passed:
        raise ExportError(
            f"{path.name}: not written: logits of transformers {version} are off by "
            f"{result.largest_difference:.3g}, where rounding explains at most {result.tolerance:.3g}; "
            "if it is nan, the weights are not finite: use an earlier checkpoint"
        )
    return result


def our_model(shape: ModelShape, weights: Mapping[str, Tensor], dtype: torch.dtype) -> Llama:
    """Our model in fp32, reading its weights from a mapping, rounded to `dtype`, whenever they are needed."""
    with torch.device("meta"):
        model = Llama(shape)
    stream_parameters(model, _rounded(weights, dtype, tied=shape.tied_embeddings))
    return model


def _rounded(weights: Mapping[str, Tensor], dtype: torch.dtype, *, tied: bool) -> Callable[[str], Tensor]:
    def read(name: str) -> Tensor:
        stored = EMBEDDING if tied and name == HEAD else name
        return weights[stored].detach().to("cpu", dtype).float()

    return read


@torch.no_grad()
def _our_logits(weights: Mapping[str, Tensor], shape: ModelShape, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    logits: Tensor = our_model(shape, weights, dtype)(tokens)
    return logits


@torch.no_grad()
def _their_logits(path: Path, tokens: Tensor, rope: JsonObject, *, at_once: bool) -> tuple[Tensor, str]:
    import transformers  # takes seconds; only an export needs it

    with _quietly():
        model: Any
        if at_once:
            folder, file = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **file)
        else:
            model = stream_folder(path) if path.is_dir() else stream_gguf(path, rope)
    logits: Tensor = model(tokens, use_cache=False).logits
    return logits, transformers.__version__


def _can_stream(path: Path) -> bool:
    """Legacy `.bin` weights are read whole."""
    return path.is_file() or any(path.glob("*.safetensors"))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers' progress bars, and what torchao says of itself at its import, off the terminal.

    transformers' switch does not cover the bar for GGUF, so stderr is redirected too.
    """
    from transformers.utils import logging as bars

    was_enabled = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()  # type: ignore[no-untyped-call]  # not typed there
    loggers = [logging.getLogger(name) for name in ("torchao", "torch.utils._pytree")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with redirect_stderr(StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if was_enabled:
            bars.enable_progress_bar()  # type: ignore[no-untyped-call]
