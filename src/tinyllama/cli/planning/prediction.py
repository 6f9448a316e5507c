"""Tables of a family's requirements on given hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from rich.console import Console

    from tinyllama.plan.hardware import Prediction
    from tinyllama.plan.step_time import StepTime

_GIB = 2**30


def print_prediction(console: Console, prediction: Prediction) -> None:
    """Print memory, speed with its formula, and days, GPU-hours and cost per part of the family."""
    memory = prediction.memory
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "moments": memory.moments,
        "whole at a time": memory.working,
        f"activations of {prediction.micro_batch} sequences": memory.activations,
    }
    lines = [
        f"{prediction.gpus} x {prediction.card}, nodes: {prediction.nodes}, sharded over: {prediction.sharded_over}",
        f"memory per GPU: {memory.total / _GIB:.1f} of {prediction.memory_limit / _GIB:.1f} GiB, "
        + ("fits" if prediction.fits else "DOES NOT FIT: lower hardware.micro_batch, or shard over more GPUs")
        + "; "
        + ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items()),
        _step(prediction.step),
        "by hardware.shard: "
        + ", ".join(
            f"{shard} " + ("does not fit" if seconds is None else _duration(seconds))
            for shard, seconds in prediction.seconds_by_shard.items()
        ),
        _speed(prediction),
        "MFU: " + ", ".join(f"{value:.1%} by {name}" for name, value in prediction.mfu_by_formula.items()),
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    table = Table()
    for name in ("part", "tokens", "days", "GPU-hours", "cost"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for span in prediction.spans:
        table.add_row(*_cells(span.name, span.tokens, span.days, span.gpu_hours, span.cost))
    costs = [span.cost for span in prediction.spans if span.cost is not None]
    table.add_row(
        *_cells(
            "family",
            sum(span.tokens for span in prediction.spans),
            sum(span.days for span in prediction.spans),
            sum(span.gpu_hours for span in prediction.spans),
            sum(costs) if costs else None,
        )
    )
    console.print(table)


def _step(step: StepTime) -> str:
    return (
        f"step of {step.sequences} sequences (passes per GPU: {step.passes}): "
        f"{_duration(step.seconds)}, bound by {step.bound_by}; compute {_duration(step.products + step.memory)} "
        f"(matrix products {_duration(step.products)}, memory traffic {_duration(step.memory)}), launches "
        f"{_duration(step.launches)}, collectives {_duration(step.collectives)} (not hidden: "
        f"{_duration(step.exposed)}), feed {_duration(step.feed)}"
    )


def _speed(prediction: Prediction) -> str:
    speed = f"speed per GPU: {prediction.tokens_per_second_per_gpu:,.0f} tokens/s"
    if prediction.assumed_mfu is not None:
        return f"{speed}, with computation at {prediction.assumed_mfu:.1%} of the peak"
    used, (slowest, fastest) = prediction.utilization, prediction.speed_range
    return (
        f"{speed} ({slowest:,.0f} to {fastest:,.0f}), with matrix products in bf16 at {used.value:.1%} of the peak at "
        f"this width (published speeds: {used.low:.0%} to {used.high:.0%}; fitted to {used.fitted}: {used.source})"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1e3:,.2f} ms"


def _cells(name: str, tokens: int, days: float, hours: float, cost: float | None) -> tuple[str, ...]:
    money = "needs --price" if cost is None else f"{cost:,.0f}"
    return name, format_count(tokens), f"{days:.1f}", f"{hours:,.0f}", money
