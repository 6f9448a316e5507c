"""The importance matrix of llama.cpp's quantizer: how much each column of a matrix matters on held-out text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tinyllama.formats.gguf.tensors import gguf_name
from tinyllama.model.llama import Linear

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from tinyllama.export.divergence import Windows
    from tinyllama.model import Llama


@torch.no_grad()
def importance_matrix(model: Llama, windows: Windows) -> dict[str, NDArray[np.float32]]:
    """Mean square of each input of each matrix in the blocks, as llama.cpp's `llama-imatrix` computes it.

    The quantizer weights the error of a column with it. As there, embedding and head are left without.

    Args:
        model: in F32.
        windows: of text.

    Returns:
        llama.cpp's name of a matrix → [columns].
    """
    real = windows.targets >= 0
    found: dict[str, NDArray[np.float32]] = {}

    def observer(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor]) -> None:
            found[name] = inputs[0][real].square().mean(0).numpy()

        return hook

    linear = {name: part for name, part in model.layers.named_modules(prefix="layers") if isinstance(part, Linear)}
    handles = [
        part.register_forward_pre_hook(observer(gguf_name(f"{name}.weight"))) for name, part in linear.items()
    ]  # fmt: skip
    model.hidden(windows.tokens)
    for handle in handles:
        handle.remove()
    return found
