"""The command `tune`, and its tables."""

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
    on_device,
    open_family,
    print_json,
    real,
    refuse_options,
    say_next,
    whole,
)
from tinyllama.cli.design.options import Gpus, Planned, PlannedHardware, model_of
from tinyllama.design.transfer import Transfer
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.design.tuning import Sweep, Trial
    from tinyllama.files import Json
    from tinyllama.ladder import TuneRecord


@app.command(
    short_help="Find the peak learning rate on a small model.",
    epilog="Example: tinyllama tune mini --variant v1.1 --transfer mup --plan",
)
def tune(
    ctx: typer.Context,
    recipe: RecipeName,
    *,
    variant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model to imitate: a variant, a branch or base (default: the first)."),
    ] = None,
    transfer: Annotated[
        Transfer | None,
        typer.Option(
            help="How the best peak becomes the recipe's: by muP, which widens models, or falling with the compute "
            "(default: mup, but compute if the model's embeddings are tied)."
        ),
    ] = None,
    rungs: Annotated[
        int,
        whole(
            "Number of small models; from 2 on, and with --transfer compute, how the peak changes with the compute is "
            "fitted to their best peaks.",
            most=12,
        ),
    ] = 1,
    peaks: Annotated[int, whole("Peaks to try at first, factors of 2 around the recipe's.", least=3, most=15)] = 5,
    length: Annotated[float, real("Tokens of a trial, as a part of the model's.", least=1e-6, most=1)] = 0.25,
    seeds: Annotated[int, whole("Trials of each peak, whose losses are averaged.", most=100)] = 1,
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", parser=expand_path, help="The trials' folder (default: runs/<recipe name>-tune)."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Print the trials and their time, and train nothing.")] = False,
    hardware: PlannedHardware = None,
    gpus: Gpus = 1,
    overrides: Overrides = None,
    run: RunFolder = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Train small models of a ladder at several peak learning rates, and say which peak suits the recipe.

    The last lines are the recipe's keys to set. Where the best peak of a small model is the lowest or the highest
    one, up to three more follow beside it. If interrupted, run the command again to resume.
    """
    from tinyllama.design.rungs import goal_of
    from tinyllama.design.tuning import Sweep, first_exponents, usual_transfer

    family = open_family(recipe, on_device(overrides, device), run)
    goal = goal_of(family.recipe, model_of(family, variant))
    sweep = Sweep(goal, transfer or usual_transfer(goal), length, rungs)
    trials = [
        sweep.trial(exponent, seed, number)
        for number in range(1, rungs + 1)
        for exponent in first_exponents(peaks)
        for seed in range(seeds)
    ]
    if plan:
        _print_plan(sweep, trials, Planned(hardware, gpus), as_json=as_json)
        return
    refuse_options(ctx, {"hardware", "gpus"}, "without --plan; training runs on this machine")
    from tinyllama.ladder import tune as run_trials  # imports torch

    record = run_trials(family, sweep, folder or Path("runs") / f"{family.recipe.name}-tune", peaks, seeds)
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    _print_record(record)
    if record.best is not None:
        changes = [f"{key}={value}" for key, value in record.best.keys.items()]
        say_next("plan", recipe, run=run, overrides=[*(overrides or ()), *changes])


def _print_plan(sweep: Sweep, trials: Sequence[Trial], machine: Planned, *, as_json: bool) -> None:
    each = {trial.number: trial for trial in trials}
    speeds = {number: machine.tokens_per_second(trial.rung) for number, trial in each.items()}
    times = [trial.rung.trained_tokens / speed for trial in trials if (speed := speeds[trial.number]) is not None]
    seconds = sum(times) if len(times) == len(trials) else None
    flops = sum(trial.rung.flops for trial in trials)
    if as_json:
        from tinyllama.ladder.tune_record import sweep_record

        print_json({
            "sweep": sweep_record(sweep, trials[0]).model_dump(mode="json"),
            "flops": flops,
            "model_flops": sweep.goal.flops,
            "seconds": seconds,
            "trials": [_as_dict(trial, speeds[trial.number]) for trial in trials],
        })  # fmt: skip
        return
    from rich.table import Table

    from tinyllama.cli.tables import output
    from tinyllama.design.tuning import MOST_MORE

    goal = sweep.goal
    table = Table(title=f"trials of {goal.model} of {goal.recipe.name}", title_justify="left")
    for column in ("trial", "peak LR of the recipe", "its own", "seed"):
        table.add_column(column, justify="right")
    for trial in trials:
        own = trial.rung.recipe.optimizer.learning_rate.peak
        table.add_row(trial.rung.name, f"{trial.peak:.3g}", f"{own:.3g}", str(trial.seed))
    console = output()
    console.print(table)
    for trial in each.values():
        console.print(_each_text(trial, sweep.rungs), markup=False, soft_wrap=True)
    time = "does not fit" if seconds is None else f"{seconds / 3600:.3g} hours without measurements"
    of_rungs = " of a rung" if sweep.rungs > 1 else ""
    console.print(
        f"all: {flops:.2e} FLOPs, {flops / goal.flops:.1%} of those of {goal.model}, {time}; up to {MOST_MORE} more "
        f"peaks, if the best{of_rungs} is the first or the last",
        markup=False, soft_wrap=True,
    )  # fmt: skip


def _each_text(trial: Trial, rungs: int) -> str:
    """What all trials of a rung are, one of which is given."""
    from tinyllama.recipe.quantities import format_count

    rung, which = trial.rung, f"each of rung {trial.number}" if rungs > 1 else "each"
    return (
        f"{which}: {rung.shape.layers} x {rung.shape.width}, {format_count(rung.shape.parameters, 3)} parameters, "
        f"{format_count(rung.trained_tokens, 3)} tokens in {rung.steps:,} steps of {rung.sequences} x "
        f"{rung.shape.context}"
    )


def _as_dict(trial: Trial, speed: float | None) -> dict[str, Json]:
    rung = trial.rung
    return {
        "name": rung.name,
        "rung": trial.number,
        "width": rung.shape.width,
        "peak": trial.peak,
        "own_peak": rung.recipe.optimizer.learning_rate.peak,
        "seed": trial.seed,
        "tokens": rung.trained_tokens,
        "steps": rung.steps,
        "flops": rung.flops,
        "tokens_per_second": speed,
    }


def _print_record(record: TuneRecord) -> None:
    from rich.table import Table

    from tinyllama.cli.tables import output
    from tinyllama.ladder.tune_text import outcome_text, rows, transfer_text

    console, title = output(), f"trials of {record.sweep.model} of {record.sweep.recipe}"
    for number in range(1, record.sweep.rungs + 1):
        on_rung = f", rung {number}" if record.sweep.rungs > 1 else ""
        table = Table(title=title + on_rung, title_justify="left")
        header, *body = rows(record, number)
        for column in header:
            table.add_column(column, justify="right")
        for row in body:
            table.add_row(*row)
        console.print(table)
    for text in (transfer_text(record), outcome_text(record)):
        console.print(text, markup=False, soft_wrap=True)
    if record.best is not None:
        for key, value in record.best.keys.items():
            typer.echo(f"{key}: {value}")
