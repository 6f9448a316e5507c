"""Run a model whose weights are never in memory together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def stream_parameters(model: nn.Module, read: Callable[[str], Tensor]) -> None:
    """Let each part of a model read its own parameters when it is called, and drop them when it has answered.

    Peak memory of a forward pass is then that of the largest part and the activations. The parameters themselves may
    be on the meta device; buffers must not.

    Args:
        model: changed in place; for inference alone.
        read: gives a parameter by its full name in the model.
    """
    for prefix, part in model.named_modules():
        names = [name for name, _ in part.named_parameters(recurse=False)]
        if names:
            empty = dict(part.named_parameters(recurse=False))
            part.register_forward_pre_hook(_reader(prefix, names, read))
            part.register_forward_hook(_dropper(empty))


def _reader(prefix: str, names: list[str], read: Callable[[str], Tensor]) -> Callable[..., None]:
    def hook(part: nn.Module, _inputs: Any) -> None:  # noqa: ANN401  # any module's
        for name in names:
            part._parameters[name] = nn.Parameter(read(f"{prefix}.{name}"), requires_grad=False)  # noqa: SLF001  # torch has no public way to swap a parameter in place

    return hook


def _dropper(empty: dict[str, nn.Parameter]) -> Callable[..., None]:
    def hook(part: nn.Module, _inputs: Any, _outputs: Any) -> None:  # noqa: ANN401
        part._parameters.update(empty)  # noqa: SLF001

    return hook
