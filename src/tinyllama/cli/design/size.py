"""The command `size`, and its table."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import AsJson, Device, app, given_options, print_json, real, say_next, whole
from tinyllama.cli.design.options import (
    MOST_TOKENS,
    Gpus,
    Hardware,
    MachineOptions,
    Nodes,
    OverTraining,
    Shapes,
    choose_machine,
)
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from tinyllama.design.machines import Machine
    from tinyllama.design.sizing import Size

_COLUMNS = (
    *("", "layers x width", "parameters", "ids", "tokens", "per parameter"),
    *("batch", "peak LR", "tokens/s", "hours", "expected loss"),
)
_NEAR = 4
"""Rows above and below the recommended one."""


@app.command(
    short_help="Show which models fit in your hours and memory.",
    epilog="Example: tinyllama size --hours 12 --hardware rtx4090",
)
def size(
    ctx: typer.Context,
    *,
    hours: Annotated[float | None, real("Hours of training.", least=0.001, most=1e6)] = None,
    tokens: Annotated[int | None, whole("Tokens, instead of --hours.", most=MOST_TOKENS)] = None,
    vocab_size: Annotated[int | None, whole("Number of ids (default: what suits each size).", least=512)] = None,
    context: Annotated[int | None, whole("Tokens of a sequence (default: what suits each batch).", least=16)] = None,
    over_training: OverTraining = 1.0,
    shapes: Shapes = None,
    law: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", parser=expand_path, help="A ladder.json, whose law replaces that of Hoffmann et al. 2022."
        ),
    ] = None,
    hardware: Hardware = "here",
    gpus: Gpus = 1,
    nodes: Nodes = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """List shapes with the tokens that they are trained on in the time, and mark the recommended one.

    The expected loss is that of the text and tokenizer of Hoffmann et al. 2022, to compare rows; or with --law that of
    the ladder's text and tokenizer. If the ladder determines it, its law also says which size is recommended.
    """
    from tinyllama.design.new import budget_of
    from tinyllama.design.sizing import sizes

    budget = replace(budget_of(hours, tokens, over_training, shapes), vocab_size=vocab_size, context=context)
    if law is not None:
        from tinyllama.ladder.law import by_ladder

        budget = by_ladder(budget, law)
    machine = choose_machine(ctx, MachineOptions(hardware, gpus, nodes, device), hours, tokens)
    found = sizes(machine, budget)
    if as_json:
        print_json({"machine": machine.name, "sizes": [each.as_dict() for each in found]})
        return
    print_sizes(found, machine)
    if law is None and vocab_size is None and context is None:  # which `new` does not take
        same = given_options(ctx, "hours", "tokens", "over_training", "shapes", "hardware", "gpus", "nodes", "device")
        say_next("new", "NAME", "--text", "TEXT", *same)


def print_sizes(found: list[Size], machine: Machine) -> None:
    """Print the rows around the recommended one."""
    from rich.table import Table

    from tinyllama.cli.tables import output
    from tinyllama.design.rules import peak_learning_rate
    from tinyllama.recipe.quantities import format_count
    from tinyllama.text import MISSING

    best = next(index for index, each in enumerate(found) if each.is_recommended)
    table = Table(title=machine.name, title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for index, each in enumerate(found[max(0, best - _NEAR) : best + _NEAR + 1], max(0, best - _NEAR)):
        speed = "does not fit" if each.tokens_per_second is None else f"{each.tokens_per_second:,.0f}"
        table.add_row(
            "→" if index == best else "",
            f"{each.shape.layers} x {each.shape.width}",
            format_count(each.parameters, 3),
            f"{each.shape.vocab_size:,}",
            format_count(each.tokens, 3),
            f"{each.tokens_per_parameter:.3g}",
            f"{each.sequences} x {each.shape.context}",
            f"{peak_learning_rate(each.flops):.2e}" if each.tokens else MISSING,
            speed + ("" if each.is_measured else " (estimate)"),
            MISSING if each.seconds is None else f"{each.seconds / 3600:.3g}",
            _loss(each),
        )
    console = output()
    console.print(table)
    console.print(_legend(found[best]), markup=False, soft_wrap=True)
    if machine.assumed_of is not None:
        console.print(
            f"tokens/s: by published speeds of the {machine.assumed_of}, for lack of its own", markup=False,
            soft_wrap=True,
        )  # fmt: skip


def _legend(size: Size) -> str:
    """What the expected loss is of, and what recommends."""
    from tinyllama.text import MISSING

    fit, repeated = size.fit, ""
    if size.effective_tokens < size.tokens:
        repeated = ", where text that is read again counts less than new text (Muennighoff et al. 2023)"
    return (
        f"expected loss: by the fit of {fit.name}, in nats a token of its text and tokenizer{repeated}; ~ is beyond "
        f"it (it has models of {_range(fit.smallest, fit.largest)} parameters on {_range(fit.fewest, fit.most)} "
        f"tokens), {MISSING} far beyond; compute-optimal: {size.rule}"
    )


def _range(low: int, high: float) -> str:
    from tinyllama.recipe.quantities import format_count

    return (
        f"at least {format_count(low)}"
        if math.isinf(high)
        else f"{format_count(low, 3)} to {format_count(round(high), 3)}"
    )


def _loss(size: Size) -> str:
    """The expected loss, if the fit is not far away."""
    from tinyllama.text import MISSING

    if size.is_fitted:
        return f"{size.expected_loss:.2f}"
    return f"~{size.expected_loss:.2f}" if size.is_near_fitted else MISSING
