"""Products with a matrix in the layout that a CPU multiplies with fastest."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tinyllama.model.torch_internals import can_pack, pack_linear, packed_linear

Product = Callable[[Tensor], Tensor]


def products_with(weight: Tensor, rows: int) -> Product:
    """`x @ weight.T` for a matrix [out, in] and many x of about `rows` rows each.

    Where the hardware supports it, the matrix is packed for the operators that torch.compile makes of a linear layer
    on a CPU: a plain product rearranges the matrix each time, or reads it slowly.
    """
    if not can_pack(weight):
        return lambda x: x @ weight.T
    packed = pack_linear(weight, rows)
    return lambda x: packed_linear(x, packed)
