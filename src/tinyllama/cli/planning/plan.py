"""Commands about recipes and plans: recipes, plan."""

from __future__ import annotations

from functools import partial
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
    given_options,
    open_family,
    print_json,
    real,
    refuse_options,
    say_next,
    whole,
)
from tinyllama.paths import expand_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinyllama.cli.planning.prediction import Measured
    from tinyllama.family import Family
    from tinyllama.plan import PlanSummary
    from tinyllama.plan.hardware import Prediction


_SCHEMA = "# yaml-language-server:"
"""Names the schema's file by its path from the shipped recipe, which a copy does not have beside it."""
_TIMES = "time: --hardware here measures it on this machine, --hardware NAME predicts it, e.g. --hardware a100-40g"
"""How to see what a plan does not show."""


@app.command(epilog="Example: tinyllama recipes mini > my-family.yaml")
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The recipe to print, to copy and change.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """List the shipped recipes, or print one of them as it is written."""
    from tinyllama.recipe import load_recipe, shipped_recipes
    from tinyllama.recipe.loading import find_recipe

    if name is not None:
        path = find_recipe(name)
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(line for line in lines if not line.startswith(_SCHEMA))
        if as_json:
            print_json({"name": path.stem, "text": text})
        else:
            typer.echo(text, nl=False)
            say_next("plan", name)
        return
    found = {shipped: load_recipe(shipped).description for shipped in shipped_recipes()}
    if as_json:
        print_json(found)
        return
    for shipped, description in found.items():
        typer.echo(f"{shipped:16} {description}")
    say_next("plan", "NAME")


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
        str | None,
        typer.Option(
            metavar="GPU",
            help="Predict memory, speed, days and cost on this GPU, e.g. a100-40g; `here` measures this machine.",
        ),
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

    With --hardware, also predict memory, speed, days and cost; `--hardware here` measures the speed of this machine,
    in one process on `hardware.device`, and shows the time of each model. With --check, check text, tasks, prompts,
    packages, disk and memory, as `prepare`, `train` and `reproduce` do before they begin.
    """
    from tinyllama.cli.planning.prediction import measure_here
    from tinyllama.design.machines import HERE
    from tinyllama.errors import UserError
    from tinyllama.plan import compile_plan, summarize
    from tinyllama.plan.hardware import predict

    if hardware is None or hardware == HERE:
        why = WITHOUT_HARDWARE if hardware is None else "with --hardware here, which measures one process"
        refuse_options(ctx, {"gpus", "nodes", "mfu", "price"}, why)
    family = open_family(recipe, overrides, run)
    if check:
        refuse_options(ctx, {"parquet", "plot", "hardware"}, "with --check, which plans nothing")
        _check(family, variant, as_json=as_json)
        if not as_json:
            say_next("reproduce", recipe, overrides=overrides, run=run)
        return
    loaded, sizes = family.recipe, family.prepared_sizes()
    if parquet is not None and variant is None:
        raise UserError("--parquet writes one variant's table; name it with --variant")
    plans = [compile_plan(loaded, name) for name in ([variant] if variant else loaded.planned)]
    found = None
    if hardware is not None:
        here = hardware == HERE
        predicted = partial(predict, loaded, plans, hardware, gpus, nodes=nodes, mfu=mfu, price=price)
        found = measure_here(loaded, plans) if here else predicted()
    if plot is not None:
        from tinyllama.report.plan_plot import write_plan_plot

        write_plan_plot(loaded, plot)
    if parquet is not None:
        plans[0].write_parquet(parquet)
    summaries = [summarize(compiled, loaded, sizes) for compiled in plans]
    _show(family, summaries, found, as_json=as_json)
    if not as_json:
        if found is None:
            typer.echo(_TIMES, err=True)
        say_next("plan", recipe, "--check", *given_options(ctx, "variant"), overrides=overrides, run=run)


def _show(
    family: Family, summaries: Sequence[PlanSummary], found: Prediction | Measured | None, *, as_json: bool
) -> None:
    """Print plans, what published rules say of them, and the time that was predicted or measured."""
    from tinyllama.cli.planning.prediction import print_hardware
    from tinyllama.cli.planning.published import compare_with_published
    from tinyllama.cli.tables import output, print_plan, print_tree

    recipe = family.recipe
    plans = [(summary, compare_with_published(summary, recipe)) for summary in summaries]
    if as_json:
        table = [summary.as_dict() | {"published": published.as_dict()} for summary, published in plans]
        print_json(table if found is None else {"plans": table, "hardware": found.as_dict()})
        return
    console = output()
    for summary, published in plans:
        print_plan(console, summary, recipe, published)
    if recipe.branches:
        print_tree(console, recipe, {name: family.work.replay(name) for name in recipe.branches})
    print_hardware(console, found)


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
