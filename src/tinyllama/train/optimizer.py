"""Optimizers with their state allocated from the start; the learning rate is given at every step."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, overload

import torch
from torch.distributed.tensor import DTensor, Replicate, Shard

from tinyllama.recipe.training import ADAMW_STATE, MUON_MOMENTUM, MUON_STATE
from tinyllama.train.parallel import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh

    from tinyllama.recipe import Optimizer

_NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315
"""Coefficients of x, x³ and x⁵ that lift small singular values fastest (Jordan 2024)."""
_FACTOR = "factor"
"""Key of an optimizer's group: its learning rate as a multiple of the schedule's."""
_BATCH = 1 << 24
"""Most elements of matrices that a rank orthogonalizes together, which bounds the memory."""


def build_optimizer(
    settings: Optimizer, masters: dict[str, nn.Parameter], widening: float = 1.0
) -> torch.optim.Optimizer:
    """The recipe's optimizer over all weights, with moments allocated, at step 0; for `widening` see `group`."""
    return (_adamw if settings.kind == "adamw" else _Muon)(settings, masters, widening)


def _groups(
    settings: Optimizer, masters: dict[str, nn.Parameter], widening: float
) -> list[dict[str, object]]:  # PyTorch's form
    """Weights of one learning rate and decay together, as PyTorch's optimizers want them."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in masters.items():
        groups.setdefault(settings.group(name, widening), []).append(weight)
    return [{"params": weights, _FACTOR: factor, "weight_decay": decay} for (factor, decay), weights in groups.items()]


def _adamw(settings: Optimizer, masters: dict[str, nn.Parameter], widening: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019)."""
    optimizer = torch.optim.AdamW(
        _groups(settings, masters, widening),
        lr=0.0,  # set before every step from the plan
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )
    for weight in masters.values():
        moments = {name: torch.zeros_like(weight) for name in ADAMW_STATE}
        optimizer.state[weight] = {"step": torch.tensor(0.0, device=weight.device), **moments}
    return optimizer


class _Muon(torch.optim.Optimizer):
    """Muon (Jordan 2024) for the blocks' matrices, AdamW for embeddings, head and norms.

    Updates are scaled to the size of AdamW's (Liu et al. 2025, "Muon is Scalable for LLM Training"), so that one
    learning rate and weight decay serve both. It computes what `torch.optim.Muon` does, but many matrices at once,
    and also where ranks hold parts of them: each then orthogonalizes some of the whole matrices, sends the results to
    the others in bf16, in which they are computed, and takes its own parts of all.
    """

    def __init__(self, settings: Optimizer, masters: dict[str, nn.Parameter], widening: float) -> None:
        named = {name: weight for name, weight in masters.items() if settings.state_names(name) == MUON_STATE}
        super().__init__(_groups(settings, named, widening), {"lr": 0.0})
        rest = {name: weight for name, weight in masters.items() if name not in named}
        self._rest = _adamw(settings, rest, widening)
        self.param_groups += self._rest.param_groups  # so that `apply` sets their learning rate too
        self._groups = _by_size(named.values())
        for weight in named.values():
            self.state[weight] = {name: torch.zeros_like(weight) for name in MUON_STATE}
        self.state.update(self._rest.state)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update everything at the learning rates of the groups; the first has all matrices."""
        loss = None if closure is None else closure()
        rate, decay = (self.param_groups[0][key] for key in ("lr", "weight_decay"))
        self._rest.step()
        for weights in self._groups:
            # Rounded before they are sent; `orthogonal` would round them after.
            directions = [_wide(whole(self._direction(weight).bfloat16())) for weight in weights]
            for weight, update in zip(weights, _orthogonalized(directions, weights[0]), strict=False):
                shaped = update.T if weight.shape[0] > weight.shape[1] else update
                weight.mul_(1 - rate * decay)
                weight.add_(_part(shaped, weight).to(weight.dtype), alpha=-rate * 0.2 * max(weight.shape) ** 0.5)
        return loss

    def _direction(self, weight: nn.Parameter) -> Tensor:
        """The gradient with Nesterov's momentum."""
        gradient, momentum = cast("Tensor", weight.grad), self.state[weight][MUON_STATE[0]]
        momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
        return gradient.lerp(momentum, MUON_MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """About U Vᵀ of matrices U S Vᵀ, by the Newton-Schulz iteration of Jordan 2024, in bf16.

    Args:
        matrices: [N, A, B], A at most B, of any scale.

    Returns:
        [N, A, B], whose singular values lie about 1.
    """
    x = matrices.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    linear, cubic, quintic = _NEWTON_SCHULZ
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic), x, beta=linear)
    return x


def _orthogonalized(matrices: list[Tensor], weight: nn.Parameter) -> Tensor:
    """`orthogonal` of matrices that every rank has, each computed by one of the ranks that share the work.

    Args:
        matrices: N of [A, B].
        weight: one of theirs, which says how ranks share it.

    Returns:
        At least N of [A, B]: the last of the ranks may have fewer to do, and send zeros.
    """
    count = _sharing(weight)
    if count == 1:
        return orthogonal(torch.stack(matrices))
    mesh = cast("DTensor", weight).device_mesh
    dimension = _shared_dimension(mesh)
    share = -(-len(matrices) // count)
    own = matrices[mesh.get_local_rank(dimension) * share :][:share]
    updates = matrices[0].new_zeros(share, *matrices[0].shape)
    if own:
        updates[: len(own)] = orthogonal(torch.stack(own))
    placements = [Shard(0) if axis == dimension else Replicate() for axis in range(mesh.ndim)]
    return DTensor.from_local(updates, mesh, placements, run_check=False).full_tensor()


def _sharing(weight: nn.Parameter) -> int:
    """Number of ranks that share the work for a weight; 1 if it is whole and alone."""
    if not isinstance(weight, DTensor):
        return 1
    return weight.device_mesh.size(_shared_dimension(weight.device_mesh))


def _shared_dimension(mesh: DeviceMesh) -> int:
    """Of replicas x shards, the shards, which are closest; the replicas if each rank has a whole copy."""
    return 1 if mesh.size(1) > 1 else 0


def _by_size(weights: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Weights of one size (with rows and columns swapped where needed), in lists that are orthogonalized together."""
    by_size: dict[tuple[int, ...], list[nn.Parameter]] = {}
    for weight in weights:
        by_size.setdefault(tuple(sorted(weight.shape)), []).append(weight)
    return [
        part[start : start + count]
        for part in by_size.values()
        for count in [max(1, _BATCH // part[0].numel()) * _sharing(part[0])]
        for start in range(0, len(part), count)
    ]


def _wide(matrix: Tensor) -> Tensor:
    """At most as many rows as columns, which makes the products of the iteration smallest."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def _part(update: Tensor, weight: nn.Parameter) -> Tensor:
    """This rank's part of an update that every rank has."""
    if not isinstance(weight, DTensor):
        return update
    mesh = weight.device_mesh
    everywhere = DTensor.from_local(update, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(mesh, weight.placements)


def gradient_norm(weights: Iterable[nn.Parameter]) -> Tensor:
    """The global norm of all gradients, on their device."""
    return whole(torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None]))


def clip(weights: Iterable[nn.Parameter], most: float, norm: Tensor, found: float) -> None:
    """Scale all gradients down to a global norm of at most `most`.

    Args:
        weights: whose gradients are meant.
        most: the largest norm that stays.
        norm: what `gradient_norm` gave.
        found: its value, which the caller has read from the device.
    """
    if found > most:  # multiplying by 1 takes as long
        torch.nn.utils.clip_grads_with_norm_(weights, most, norm)


def set_step(optimizer: torch.optim.Optimizer, step: int) -> None:
    """Set the number of updates that the moments have seen, for bias correction."""
    for state in optimizer.state.values():
        if "step" in state:
            state["step"].fill_(float(step))


def apply(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One update at a learning rate computed from the recipe, and its multiples for groups of weights."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group[_FACTOR]
    optimizer.step()
