"""Tables of a family's requirements on given hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from rich.console import Console

    from tinyllama.plan.hardware import Prediction

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
        f"{prediction.gpus} x {prediction.card}, state sharded over {prediction.sharded_over}",
        f"memory per GPU: {memory.total / _GIB:.1f} of {prediction.memory_limit / _GIB:.1f} GiB, "
        + ("fits" if prediction.fits else "DOES NOT FIT: lower hardware.micro_batch, or shard over more GPUs")
        + "; "
        + ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items()),
        f"speed per GPU: {prediction.formula}",
        "the same speed by formula: "
        + ", ".join(f"{value:.1%} of peak by {name}" for name, value in prediction.other_formulas.items()),
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


def _cells(name: str, tokens: int, days: float, hours: float, cost: float | None) -> tuple[str, ...]:
    money = "needs --price" if cost is None else f"{cost:,.0f}"
    return name, format_count(tokens), f"{days:.1f}", f"{hours:,.0f}", money
