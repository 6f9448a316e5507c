"""A quantized GGUF file: written by llama.cpp's quantizer, and accepted if it is close to the F32 model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinyllama.errors import ExportError
from tinyllama.export.divergence import CHARACTERS, measure, split_text, windows_of
from tinyllama.export.importance import importance_matrix
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.quantizer import TypeShare, load_llama_cpp, quantize_file, type_shares
from tinyllama.record_files import FileRecord
from tinyllama.text import listing, markdown_table, percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

QUANTIZATION = "quantization.json"
LIMITS = {"Q6_K": 0.01, "Q5_K_M": 0.03, "Q4_K_M": 0.1, "IQ4_NL": 0.1, "Q4_0": 0.2}
"""Largest mean KL divergence from the F32 model, in nats per token."""
_MOST = {"Q4_K_M": "Q4_K", "Q5_K_M": "Q5_K"}
"""Tensor type that a mixture is named after; the others are named after themselves."""
_IMPORTANCE_CHARACTERS = 2 * CHARACTERS
"""Of text for the importance matrix, which the measurement does not see."""


@dataclass(frozen=True)
class HeldOutText:
    """Text that a quantized model is measured on."""

    texts: Mapping[str, Iterable[tuple[str, int]]]
    """Name of a text → its documents, each with its size in bytes of UTF-8."""
    bos: bool
    """Whether the model expects BOS before a text."""
    importance: bool = False
    """Whether more of the text gives the quantizer an importance matrix."""


class QuantizationRecord(FileRecord):
    """`quantization.json` in an export: what the quantized file stores, and how far it is from the F32 model."""

    format: int = 1
    type: str
    kl_divergence: float
    """Of the F32 model's distributions from the file's, in nats per token."""
    limit: float
    """Largest that is accepted."""
    bits_per_byte: float
    bits_per_byte_f32: float
    tokens: int
    """Measured on."""
    texts: list[str]
    importance_tokens: int
    """That the importance matrix was computed on; 0 without one."""
    llama_cpp_python: str
    tensor_types: dict[str, TypeShare]

    @property
    def share(self) -> float:
        """Share of the weights that have the type asked for."""
        found = self.tensor_types.get(_MOST.get(self.type, self.type))
        return (found.weights if found else 0) / sum(share.weights for share in self.tensor_types.values())

    @property
    def warning(self) -> str | None:
        """What a user should know if less than half of the weights have the type asked for."""
        if self.share >= 1 / 2:
            return None
        used = listing([f"{percent(share, 0)}% {kind}" for kind, share in self._shares().items()])
        return (
            f"only {percent(self.share, 0)}% of the weights are {_MOST.get(self.type, self.type)}, since llama.cpp "
            f"chooses another type for matrices whose rows are not whole blocks of it, and for some of them a more "
            f"precise one; the file has {used}"
        )

    def _shares(self) -> dict[str, float]:
        total = sum(share.weights for share in self.tensor_types.values())
        return {kind: share.weights / total for kind, share in self.tensor_types.items()}

    def describe(self) -> str:
        """Markdown for the card: what the file stores."""
        shares = self._shares()
        rows = [[kind, str(of.tensors), f"{percent(shares[kind], 1)}%"] for kind, of in self.tensor_types.items()]
        table = markdown_table(["type", "tensors", "share of weights"], rows)
        return table + (f"\n\nNote: {self.warning}." if self.warning else "")

    def result(self) -> str:
        """One sentence or two for the card: how the file compares with the F32 model."""
        others = f", with an importance matrix from {self.importance_tokens:,} other tokens"
        importance = others if self.importance_tokens else ""
        return (
            f"llama.cpp (llama-cpp-python {self.llama_cpp_python}) quantized the F32 model{importance}, and ran the "
            f"file on {self.tokens:,} tokens of held-out text ({listing(self.texts)}). Its KL divergence from the F32 "
            f"model is {self.kl_divergence:.2g} nats per token, where {self.limit} is allowed; it needs "
            f"{self.bits_per_byte:.4f} bits per byte, the F32 model {self.bits_per_byte_f32:.4f}."
        )


def check_request(kind: str, text: HeldOutText | None) -> HeldOutText:
    """Refuse what could not be quantized, before anything is written.

    Raises:
        ExportError: there is no text, or llama-cpp-python is not installed.
    """
    if text is None:
        raise ExportError(
            f"{kind} loses precision, which is measured on held-out text: give some with --text FILE, text that the "
            "model was not trained on"
        )
    load_llama_cpp()
    return text


def quantize(path: Path, kind: str, model: Llama, tokenizer: Tokenizer, text: HeldOutText) -> QuantizationRecord:
    """Replace a GGUF file in F32 by a quantized one, and measure that on held-out text.

    Args:
        path: the file.
        kind: a key of `LIMITS`.
        model: ours, in F32.
        tokenizer: the model's.
        text: to measure on.

    Raises:
        ExportError: there is too little text, llama.cpp failed, or the divergence is above the limit.
    """
    pieces = split_text(text.texts, CHARACTERS, _IMPORTANCE_CHARACTERS)[: 1 + text.importance]
    windows, *more = [windows_of(piece, tokenizer, bos=text.bos, context=model.shape.context) for piece in pieces]
    source = path.replace(path.with_suffix(".f32"))
    quantize_file(source, path, kind, importance_matrix(model, more[0]) if more else {})
    source.unlink()
    found, limit = measure(model, path, windows), LIMITS[kind]
    divergence = found.kl / windows.count
    if not divergence <= limit:  # nor is NaN
        raise ExportError(
            f"{path.name}: not written: its KL divergence from the F32 model is {divergence:.3g} nats per token on "
            f"{listing(list(text.texts))}, above {limit}, the limit of {kind}; choose a type of more bits, such as "
            f"Q8_0{'' if more else ', or give --imatrix'}"
        )
    per_byte = 1 / (math.log(2) * windows.bytes)
    return QuantizationRecord(
        type=kind,
        kl_divergence=divergence,
        limit=limit,
        bits_per_byte=found.loss * per_byte,
        bits_per_byte_f32=found.reference_loss * per_byte,
        tokens=windows.count,
        texts=list(text.texts),
        importance_tokens=more[0].count if more else 0,
        llama_cpp_python=load_llama_cpp().__version__,
        tensor_types=type_shares(GgufFile(path)),
    )
