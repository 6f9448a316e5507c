"""`tinyllama launch`: train as a job of a cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import Overrides, RecipeName, RunFolder, VariantName, app, prepared_sizes
from tinyllama.errors import UserError

if TYPE_CHECKING:
    from tinyllama.recipe import Recipe

_EARLY = 60
"""Seconds that Slurm may send a signal before its time."""


@app.command(epilog="Example: tinyllama launch tinyllama-v1.1 --slurm --nodes 16 --gpus-per-node 4 --time 24:00:00")
def launch(  # noqa: PLR0913  # a command's options
    recipe: RecipeName,
    *,
    slurm: Annotated[bool, typer.Option("--slurm", help="As a job of Slurm.")] = False,
    nodes: Annotated[int, typer.Option(min=1, help="How many machines.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(min=0, help="0 trains on processors.")] = 1,
    ranks_per_node: Annotated[
        int | None, typer.Option(min=1, help="Processes (default: one for each GPU, or one).")
    ] = None,
    cpus_per_node: Annotated[int | None, typer.Option(min=1, help="Default: the cluster's.")] = None,
    partition: Annotated[str | None, typer.Option(help="Default: the cluster's.")] = None,
    account: Annotated[str | None, typer.Option(help="Default: yours.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="Of one turn, e.g. 24:00:00 (default: the partition's).")
    ] = None,
    notice: Annotated[
        int, typer.Option(min=1, max=65535, metavar="SECONDS", help="Before the limit, when all ranks save and end.")
    ] = 120,
    max_restarts: Annotated[int, typer.Option(min=0, help="In one turn, after a rank was lost.")] = 3,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="A further option of sbatch, e.g. --sbatch mem=0.")
    ] = None,
    setup: Annotated[
        list[str] | None, typer.Option(metavar="LINE", help="Shell that runs first, e.g. --setup 'module load cuda'.")
    ] = None,
    python: Annotated[str, typer.Option(help="The interpreter (default: this command's).")] = sys.executable,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the batch script; write and submit nothing.")] = (
        False
    ),
    variant: VariantName = None,
    overrides: Overrides = None,
    run: RunFolder = None,
) -> None:
    """Train on a cluster: write a batch script into the family's folder and submit it; prints the job's number.

    The job saves before its limit, queues again by itself, and goes on until the family is trained. Its script is
    RUN/slurm/NAME.sbatch, its output beside it.
    """
    from tinyllama.files import write_atomic  # noqa: PLC0415  # with what follows
    from tinyllama.launch.slurm import submit  # noqa: PLC0415  # with what follows
    from tinyllama.launch.slurm_script import TrainingJob  # noqa: PLC0415  # with what follows
    from tinyllama.recipe import load_recipe  # noqa: PLC0415  # imports pydantic

    if not slurm:
        raise UserError("say --slurm; how to start on Kubernetes and SkyPilot is in docs/scale.md")
    loaded = load_recipe(recipe, overrides or ())
    ranks = ranks_per_node or max(1, gpus_per_node)
    _refuse_what_would_fail(loaded, variant, nodes * ranks, ranks, time=time, notice=notice)
    family = (run or Path("runs") / loaded.name).absolute()
    name = loaded.name if variant is None else f"{loaded.name}-{variant}"
    job = TrainingJob(
        name=name,
        command=("tinyllama", "train", recipe, *_options(variant, overrides, run)),
        python=python,
        directory=Path.cwd(),
        logs=family / "slurm",
        nodes=nodes,
        ranks_per_node=ranks,
        gpus_per_node=gpus_per_node,
        cpus_per_node=cpus_per_node,
        partition=partition,
        account=account,
        time=time,
        notice=notice,
        max_restarts=max_restarts,
        directives=tuple(f"--{option.removeprefix('--')}" for option in sbatch or ()),
        setup=tuple(setup or ()),
    )
    path = job.logs / f"{name}.sbatch"
    script = job.script(path)
    if dry_run:
        typer.echo(script, nl=False)
        return
    _tell_what_is_not_prepared(loaded, run, recipe)
    write_atomic(path, script)
    number = submit(path)
    typer.echo(f"{path}, its output: {job.logs / number}.log", err=True)
    typer.echo(number)


def _options(variant: str | None, overrides: list[str] | None, run: Path | None) -> list[str]:
    """The options of `tinyllama train` that say the same."""
    words = [] if variant is None else ["--variant", variant]
    words += [word for override in overrides or () for word in ("--set", override)]
    return words if run is None else [*words, "--run", str(run)]


def _refuse_what_would_fail(  # noqa: PLR0913  # what could
    recipe: Recipe, variant: str | None, ranks: int, per_node: int, *, time: str | None, notice: int
) -> None:
    """Hours in a queue are a long time to wait for an error.

    Raises:
        UserError: the recipe has no such variant, or the notice would come as the job begins.
        RecipeError: the recipe's sharding does not divide the ranks.
    """
    from tinyllama.launch.slurm import seconds_of  # noqa: PLC0415  # with the rest

    if variant is not None and variant not in {"base", *recipe.variants}:
        raise UserError(f"{recipe.name} has no variant {variant!r}; it has base, {', '.join(recipe.variants)}")
    recipe.hardware.sharded_over(ranks, per_node)
    if time is not None and seconds_of(time) <= notice + _EARLY:
        raise UserError(
            f"--time {time} leaves nothing to train in: the notice may come {notice} + {_EARLY} s before the limit"
        )


def _tell_what_is_not_prepared(recipe: Recipe, run: Path | None, name: str) -> None:
    prepared = prepared_sizes(recipe, run)
    if missing := [corpus for corpus in recipe.corpora if corpus not in prepared]:
        where = "" if run is None else f" --run {shlex.quote(str(run))}"
        typer.echo(
            f"not prepared: {', '.join(missing)}; the job prepares them while its other ranks wait. "
            f"Better first: tinyllama prepare {name}{where}",
            err=True,
        )
