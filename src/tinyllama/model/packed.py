"""A matrix in the layout that a CPU multiplies with fastest, for several products with it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tinyllama.model.torch_internals import can_pack, pack_linear, packed_linear

Product = Callable[[Tensor], Tensor]


class Packed:
    """`x @ weight.T` by the operators that torch.compile makes of a linear layer on a CPU.

    A plain product rearranges the matrix each time, or reads it slowly.
    """

    def __init__(self, weight: Tensor, rows: int) -> None:
        """Pack a matrix [out, in] for inputs of about `rows` rows."""
        self._weight = pack_linear(weight, rows)

    def __call__(self, x: Tensor) -> Tensor:
        """[rows, in] → [rows, out]."""
        return packed_linear(x, self._weight)


def products_with(weight: Tensor, rows: int) -> Product:
    """`x @ weight.T` for many x of about `rows` rows each, with a packed matrix where the hardware supports it."""
    return Packed(weight, rows) if can_pack(weight) else lambda x: x @ weight.T
