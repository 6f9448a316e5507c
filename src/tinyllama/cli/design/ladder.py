"""The command `ladder`, and the table of its rungs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import (
    AsJson,
    Device,
    Overrides,
    RecipeName,
    RunFolder,
    app,
    given_options,
    on_device,
    open_family,
    print_json,
    real,
    refuse_options,
    say_next,
    whole,
)
from tinyllama.cli.design.options import Gpus, Planned, PlannedHardware, model_of
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.design.rungs import Goal, Rung
    from tinyllama.files import Json
    from tinyllama.ladder import LadderRecord

_COLUMNS = ("rung", "layers x width", "parameters", "tokens", "batch", "steps", "peak LR", "FLOPs", "tokens/s", "hours")


@app.command(
    short_help="Train small models of a recipe, and predict its loss.",
    epilog="Example: tinyllama ladder mini --variant v1.1 --plan",
)
def ladder(
    ctx: typer.Context,
    recipe: RecipeName,
    *,
    variant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model to predict: a variant, a branch or base (default: the first)."),
    ] = None,
    rungs: Annotated[int, whole("Number of small models.", least=3, most=12)] = 4,
    compute: Annotated[
        float, real("Compute of all rungs together, as a part of the model's.", least=1e-6, most=10)
    ] = 0.1,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", parser=expand_path, help="The ladder's folder (default: runs/<recipe name>-ladder)."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the rungs and their times, and train nothing.")] = False,
    hardware: PlannedHardware = None,
    gpus: Gpus = 1,
    overrides: Overrides = None,
    run: RunFolder = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train a ladder of small models, fit how loss falls with parameters and tokens, and predict the recipe's.

    Each rung is a family in the ladder's folder, with several lengths that decay from one trunk. If interrupted, run
    the command again to resume. Once the recipe is trained, the command says how far off the prediction was.
    """
    from tinyllama.design.rungs import goal_of
    from tinyllama.design.rungs import ladder as design

    family = open_family(recipe, on_device(overrides, device), run)
    goal = goal_of(family.recipe, model_of(family, variant))
    found = design(goal, rungs, compute)
    if plan:
        _print_plan(goal, found, Planned(hardware, gpus), as_json=as_json)
        if not as_json:
            same = given_options(ctx, "variant", "rungs", "compute", "folder", "device")
            say_next("ladder", recipe, *same, overrides=overrides, run=run)
        return
    refuse_options(ctx, {"hardware", "gpus"}, "without --plan; training runs on this machine")
    from tinyllama.ladder import climb  # imports torch
    from tinyllama.ladder.climb import RECORD

    climbed = climb(family, goal, found, folder or Path("runs") / f"{family.recipe.name}-ladder", compute)
    if as_json:
        print_json(climbed.record.model_dump(mode="json"))
    else:
        _print_record(climbed.record)
        typer.echo(climbed.page)
        if climbed.record.law is not None:
            say_next("size", "--law", str(climbed.page.with_name(RECORD)), "--tokens", str(goal.tokens))
        if climbed.record.prediction is None or climbed.record.prediction.measured is None:
            say_next("train", recipe, overrides=on_device(overrides, device), run=run)


def _print_plan(goal: Goal, rungs: Sequence[Rung], machine: Planned, *, as_json: bool) -> None:
    speeds = [machine.tokens_per_second(rung) for rung in rungs]
    seconds = [
        None if speed is None else rung.trained_tokens / speed for rung, speed in zip(rungs, speeds, strict=True)
    ]
    flops = sum(rung.flops for rung in rungs)
    if as_json:
        print_json({
            "model": goal.model,
            "tokens": goal.tokens,
            "flops": goal.flops,
            "ladder_flops": flops,
            "rungs": [_as_dict(*item) for item in zip(rungs, speeds, seconds, strict=True)],
        })  # fmt: skip
        return
    from rich.table import Table

    from tinyllama.cli.tables import output
    from tinyllama.recipe.quantities import format_count
    from tinyllama.text import MISSING

    table = Table(title=f"ladder of {goal.model} of {goal.recipe.name}", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for rung, speed, time in zip(rungs, speeds, seconds, strict=True):
        table.add_row(
            rung.name,
            f"{rung.shape.layers} x {rung.shape.width}",
            format_count(rung.shape.parameters, 3),
            ", ".join(format_count(tokens, 3) for tokens in rung.ends.values()),
            f"{rung.sequences} x {rung.shape.context}",
            f"{rung.steps:,}",
            f"{rung.recipe.optimizer.learning_rate.peak:.2e}",
            f"{rung.flops:.2e}",
            "does not fit" if speed is None else f"{speed:,.0f}",
            MISSING if time is None else f"{time / 3600:.3g}",
        )
    console = output()
    console.print(table)
    known = [time for time in seconds if time is not None]
    whole_time = f", {sum(known) / 3600:.3g} hours without measurements" if len(known) == len(rungs) else ""
    console.print(
        f"the ladder: {flops:.2e} FLOPs, {flops / goal.flops:.1%} of those of {goal.model}{whole_time}; "
        f"{goal.model}: {format_count(goal.shape.parameters, 3)} parameters, {format_count(goal.tokens, 3)} tokens, "
        f"{goal.flops:.2e} FLOPs",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _as_dict(rung: Rung, speed: float | None, seconds: float | None) -> dict[str, Json]:
    return {
        "name": rung.name,
        "shape": rung.shape.model_dump(exclude_none=True, mode="json"),
        "parameters": rung.shape.parameters,
        "tokens": list(rung.ends.values()),
        "trained_tokens": rung.trained_tokens,
        "sequences": rung.sequences,
        "steps": rung.steps,
        "peak_learning_rate": rung.recipe.optimizer.learning_rate.peak,
        "flops": rung.flops,
        "tokens_per_second": speed,
        "seconds": seconds,
    }


def _print_record(record: LadderRecord) -> None:
    from tinyllama.ladder.page import check_text, doubt_text, prediction_text

    law = record.law
    if law is not None:
        typer.echo(f"loss = {law.formula}; typical residual {law.typical_error:.2%}")
    typer.echo(f"check: {check_text(record)}")
    typer.echo(prediction_text(record))
    if law is not None and (doubt := doubt_text(law)):
        typer.echo(f"doubt: {doubt}")
