"""Where the time of a training step goes: python benchmarks/step.py [--quick]."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING

import torch
from runner import Result, Table, publish, speed_family, standard_arguments
from runner.inputs import RECIPE, open_feed
from runner.shapes import TINY, M, S
from torch.profiler import ProfilerActivity, profile

from tinyllama.processors import available_cores
from tinyllama.recipe import load_recipe
from tinyllama.train.feeder import read_step
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.machine import measure_peak_flops, reuse_memory
from tinyllama.train.optimizer import clip, gradient_norm
from tinyllama.train.ranks import join_ranks
from tinyllama.train.training_state import TrainingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.shapes import Shape
    from torch.autograd.profiler_util import FunctionEvent

TEXT = """PyTorch's profile of whole steps on the rows of `tinyllama train`; each operator's own time is assigned to one
of these parts. The lower bound for matrix products is their FLOPs at the matrix peak, which is measured right after;
attention counts as causal. The profiler makes a step a little slower: the last row is the time without it."""

HEAD, BLOCKS, ATTENTION = "products of the head", "products of the blocks", "attention"
SOFTMAX, FUSED, UPDATE, OTHER = "softmax of the loss", "norms, RoPE, SwiGLU (compiled)", "clipping and update", "other"
PRODUCTS = ("aten::mm", "aten::addmm", "mkldnn::_linear_pointwise", "mkldnn::_reorder_linear_weight")


def main() -> None:
    """Profile the steps of two shapes."""
    asked = standard_arguments(__doc__).parse_args()
    shapes, steps = ((TINY,), 2) if asked.quick else ((S, M), 5)
    measured = {shape: _profile(shape, asked.out / "work", steps) for shape in shapes}
    tables = [_table(shape, *found) for shape, found in measured.items()]
    facts = {
        shape.name: {"ms": dict(found[0]), "step_ms": found[1], "peak": found[2]} for shape, found in measured.items()
    }
    publish(Result("step", "Where a step's time goes", TEXT, tables, [], facts=facts), asked.out)


def _profile(shape: Shape, work: Path, steps: int) -> tuple[Counter[str], float, float]:
    """Milliseconds of a step by part, of a whole step without the profiler, and the peak in FLOP/s."""
    family = speed_family(work, f"step-{shape.name}", shape.overrides)
    recipe = load_recipe(str(RECIPE), shape.overrides)
    plan, sampler, rows = open_feed(family, recipe)
    torch.set_num_threads(available_cores())
    reuse_memory()
    with join_ranks(recipe.hardware.collective_timeout) as ranks:
        state = TrainingState(recipe, ranks)
    gradients = Gradients(state.model, micro_batch=recipe.micro_batch, documents=None, compiled=recipe.hardware.compile)

    def one_step() -> None:
        gradients(read_step(plan, sampler, rows, state.step))
        norm = gradient_norm(state.weights.masters.values())
        clip(state.weights.masters.values(), recipe.optimizer.clip, norm, float(norm))
        state.update(float(plan.lr[state.step]))

    _times(one_step, 3)
    whole = statistics.median(_times(one_step, 2 * steps))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        _times(one_step, steps)
    parts: Counter[str] = Counter()
    for event in profiled.events():
        parts[_part(event)] += event.self_cpu_time_total / steps / 1e3
    # The best of a second: one look alone may fall on a moment in which the machine does something else.
    peak = max(measure_peak_flops(recipe.precision, ranks.device) for _ in range(20))
    return parts, 1e3 * whole, peak


def _times(work: Callable[[], None], count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def _part(event: FunctionEvent) -> str:
    """Of a step, to which an operator belongs: by its name, and by what called it."""
    callers = " ".join(_callers(event))
    if "_HeadLoss" in callers:
        return HEAD if event.name in PRODUCTS else SOFTMAX
    if "attend_in_blocks" in callers or "scaled_dot_product" in callers:
        return ATTENTION
    if event.name in PRODUCTS:
        return BLOCKS
    if "Call CompiledFxGraph" in event.name:
        return FUSED
    if any(name in callers for name in ("_fused_adamw_", "_foreach_", "Optimizer", "vector_norm")):
        return UPDATE
    return OTHER


def _callers(event: FunctionEvent) -> Iterator[str]:
    """An operator's name, its caller's, and so on."""
    at: FunctionEvent | None = event
    while at is not None:
        yield at.name
        at = at.cpu_parent


def _table(shape: Shape, parts: Counter[str], whole: float, peak: float) -> Table:
    """Rows in the order of their time."""
    layers, width, *_, context = shape.model
    head = 6 * shape.vocabulary * width
    attention = 6 * layers * width * context
    flops = {HEAD: head, ATTENTION: attention, BLOCKS: shape.flops_per_token - head - attention}
    least = {part: f"{1e3 * shape.tokens * one / peak:.0f}" for part, one in flops.items()}
    total = parts.total()
    rows = [[part, f"{ms:.0f}", f"{ms / total:.1%}", least.get(part, "")] for part, ms in parts.most_common()]
    all_least = f"{1e3 * shape.tokens * shape.flops_per_token / peak:.0f}"
    rows += [["all", f"{total:.0f}", "100%", all_least], ["without the profiler", f"{whole:.0f}", "", all_least]]
    return Table([shape.label, "ms", "of a step", f"lower bound at {peak / 1e9:.0f} GFLOP/s, ms"], rows)


if __name__ == "__main__":
    main()
