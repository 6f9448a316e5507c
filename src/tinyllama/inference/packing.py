"""Weights in a layout that a CPU reads fast once per token, which is most of generating, and for many tokens too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

from tinyllama.model.torch_internals import can_pack, pack_linear, packed_linear

if TYPE_CHECKING:
    from torch import Tensor

    from tinyllama.model import Llama

_ROWS = 4
"""Rows of input for which oneDNN reads packed weights fastest; fewer are padded."""
_SMALL = 1 << 18
"""Matrices with fewer numbers stay in a core's cache, where the plain product is as fast and cheaper to call."""


def pack(model: Llama) -> None:
    """Replace a model's linear layers by packed ones, in place; the model can then only generate and score.

    A plain product of one position with a matrix rearranges the matrix, or reads it slowly, at every token. Each
    layer's own weights are freed as soon as they are packed, so this needs little memory. Without oneDNN, on a GPU,
    and for types other than fp32 and bf16, the model stays as it is.
    """
    if not can_pack(model.embed_tokens.weight):
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear) and child.weight.numel() >= _SMALL:
                setattr(parent, name, PackedLinear(child.weight.detach()))


class PackedLinear(nn.Module):
    """A linear layer without bias."""

    def __init__(self, weight: Tensor) -> None:
        """Pack a matrix [out, in]."""
        super().__init__()
        self.out, _ = weight.shape
        self._packed = pack_linear(weight, _ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        rows = x.reshape(-1, x.shape[-1])
        count = rows.shape[0]
        if count < _ROWS:
            rows = functional.pad(rows, (0, 0, 0, _ROWS - count))
        return packed_linear(rows, self._packed)[:count].view(*x.shape[:-1], self.out)
