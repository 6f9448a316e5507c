"""Commands about recipes and plans: recipes, plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import (
    WITHOUT_HARDWARE,
    AsJson,
    Overrides,
    RecipeName,
    RunFolder,
    VariantName,
    app,
    open_family,
    print_json,
    real,
    refuse_options,
    whole,
)
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from tinyllama.family import Family


@app.command(epilog="Example: tinyllama recipes")
def recipes(*, as_json: AsJson = False) -> None:
    """List the shipped recipes."""
    from tinyllama.recipe import load_recipe, shipped_recipes

    found = {name: load_recipe(name).description for name in shipped_recipes()}
    if as_json:
        print_json(found)
        return
    for name, description in found.items():
        typer.echo(f"{name:16} {description}")


@app.command(
    short_help="Show a recipe's stages and shares; predict its cost.",
    epilog="Example: tinyllama plan tinyllama-v1.1 --hardware a100-40g --gpus 16 --price 1.5",
)
def plan(
    ctx: typer.Context,
    recipe: RecipeName,
    *,
    variant: VariantName = None,
    overrides: Overrides = None,
    run: RunFolder = None,
    parquet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=expand_path,
            help="Write one variant's table, with one row per step (needs --variant).",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", parser=expand_path, help="Draw LR, batch, context and shares by tokens."),
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="GPU", help="Predict memory, speed, days and cost on this GPU, e.g. a100-40g.")
    ] = None,
    gpus: Annotated[int, whole("Number of GPUs.", most=1_000_000)] = 1,
    nodes: Annotated[int | None, whole("Number of nodes (default: by the usual number of GPUs in one).")] = None,
    mfu: Annotated[
        float | None,
        real("Model FLOPs utilization of computation (default: by published speeds of the GPU).", least=0.01, most=1.0),
    ] = None,
    price: Annotated[float | None, real("Price of one GPU-hour, to estimate the cost.")] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check what can be known before the first step; exit code 2 for a fault."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show each stage of a recipe: steps, tokens, batch, learning rate, shares, epochs.

    With --hardware, also predict memory, speed, days and cost. With --check, check text, tasks, prompts, packages, disk
    and memory, as `prepare`, `train` and `reproduce` do before they begin.
    """
    from tinyllama.cli.planning.prediction import print_prediction
    from tinyllama.cli.tables import output, print_plan, print_tree
    from tinyllama.errors import UserError
    from tinyllama.plan import compile_plan, summarize
    from tinyllama.plan.hardware import predict

    if hardware is None:
        refuse_options(ctx, {"gpus", "nodes", "mfu", "price"}, WITHOUT_HARDWARE)
    family = open_family(recipe, overrides, run)
    if check:
        refuse_options(ctx, {"parquet", "plot", "hardware"}, "with --check, which plans nothing")
        _check(family, variant, as_json=as_json)
        return
    loaded, sizes = family.recipe, family.prepared_sizes()
    if parquet is not None and variant is None:
        raise UserError("--parquet writes one variant's table; name it with --variant")
    plans = [compile_plan(loaded, name) for name in ([variant] if variant else loaded.planned)]
    prediction = None if hardware is None else predict(loaded, plans, hardware, gpus, nodes=nodes, mfu=mfu, price=price)
    if plot is not None:
        from tinyllama.report.plan_plot import write_plan_plot

        write_plan_plot(loaded, plot)
    if parquet is not None:
        plans[0].write_parquet(parquet)
    summaries = [summarize(compiled, loaded, sizes) for compiled in plans]
    if as_json:
        table = [summary.as_dict() for summary in summaries]
        print_json(table if prediction is None else {"plans": table, "hardware": prediction.as_dict()})
        return
    console = output()
    for summary in summaries:
        print_plan(console, summary)
    if loaded.branches:
        print_tree(console, loaded, {name: family.work.replay(name) for name in loaded.branches})
    if prediction is not None:
        print_prediction(console, prediction)


def _check(family: Family, variant: str | None, *, as_json: bool) -> None:
    """Print what each check finds."""
    from tinyllama.cli.tables import output, print_checks
    from tinyllama.errors import PreflightError

    results = family.check(models=None if variant is None else [variant])
    if as_json:
        print_json([{"check": result.name, "faults": [*result.faults], "notes": [*result.notes]} for result in results])
    else:
        print_checks(output(), results)
    if failed := [result.name for result in results if result.faults]:
        raise PreflightError(f"{len(failed)} of {len(results)} checks failed: {', '.join(failed)}")
