"""A matrix in the layout that a processor multiplies with fastest, for several products with it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Product = Callable[[Tensor], Tensor]
_TYPES = (torch.float32, torch.bfloat16)


def packable(weight: Tensor) -> bool:
    """Whether `Packed` takes a matrix: on a processor, in fp32 or bf16, where torch has oneDNN.

    Not where memory is estimated with tensors that hold nothing: oneDNN's layouts have no such form.
    """
    on_processor = weight.device.type == "cpu" and not isinstance(weight, FakeTensor)
    return on_processor and weight.dtype in _TYPES and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Packed:
    """`x @ weight.T` by the operators that torch.compile makes of a linear layer on a processor.

    A plain product rearranges the matrix each time, or reads it slowly.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        """Pack a matrix [out, in] for inputs of about `rows` rows."""
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # noqa: SLF001  # torch has no public name

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] → [rows, out]."""
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, None, "none", [], "")  # noqa: SLF001
        return product


def products_with(weight: Tensor, rows: int) -> Product:
    """`x @ weight.T` for many x of about `rows` rows each, with a packed matrix where the hardware supports it."""
    return Packed(weight, rows) if packable(weight) else lambda x: x @ weight.T
