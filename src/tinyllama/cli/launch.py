"""The command `launch`: train as a job on a cluster."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import Overrides, RecipeName, RunFolder, VariantName, app, is_pipe, open_family, whole

if TYPE_CHECKING:
    from tinyllama.family import Family


@app.command(
    short_help="Submit training to Slurm; the job resumes automatically.",
    epilog="Example: tinyllama launch tinyllama-v1.1 --nodes 16 --gpus-per-node 4 --time 24:00:00",
)
def launch(
    recipe: RecipeName,
    *,
    nodes: Annotated[int, whole("Number of machines.")] = 1,
    gpus_per_node: Annotated[int, whole("GPUs on each machine; 0 trains on CPUs.", least=0)] = 1,
    ranks_per_node: Annotated[int | None, whole("Processes on each machine (default: one per GPU, or one).")] = None,
    cpus_per_node: Annotated[int | None, whole("CPUs (default: the cluster's).")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition (default: the cluster's).")] = None,
    account: Annotated[str | None, typer.Option(help="Account (default: yours).")] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="LIMIT", help="Time limit of one job, e.g. 24:00:00 (default: the partition's)."),
    ] = None,
    notice: Annotated[int, whole("Save and stop this long before the limit.", most=65535, metavar="SECONDS")] = 120,
    max_restarts: Annotated[int, whole("Maximum number of restarts within a job after a rank fails.", least=0)] = 3,
    sbatch: Annotated[
        list[str] | None, typer.Option(metavar="OPTION", help="An additional option for sbatch, e.g. --sbatch mem=0.")
    ] = None,
    setup: Annotated[
        list[str] | None, typer.Option(metavar="LINE", help="Shell line to run first, e.g. --setup 'module load cuda'.")
    ] = None,
    python: Annotated[
        str, typer.Option(help="Python interpreter (default: this command's).", show_default=False)
    ] = sys.executable,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the batch script.")] = False,
    variant: VariantName = None,
    overrides: Overrides = None,
    run: RunFolder = None,
) -> None:
    """Train on a Slurm cluster: write a batch script to the family's folder, submit it, and print the job's number.

    The job saves before its time limit, requeues itself, and resumes until the family is trained. Its script is
    FOLDER/slurm/NAME.sbatch; its output is next to the script.
    """
    from tinyllama.errors import UserError
    from tinyllama.family.preflight import refuse_faults
    from tinyllama.files import write_atomic
    from tinyllama.folders import claim_file
    from tinyllama.launch.slurm import check_job, submit
    from tinyllama.launch.slurm_script import TrainingJob
    from tinyllama.layout import is_batch_script

    if is_pipe(recipe):
        raise UserError(f"{recipe}: is a pipe, which the job cannot read again; write the recipe to a file")
    if any(override.startswith("logging.notify=http") for override in overrides or ()):
        raise UserError(
            "--set logging.notify: the job's script would show the URL; write it to the recipe, or name a variable of "
            "the job's environment: --set 'logging.notify=$WEBHOOK'"
        )
    family = open_family(recipe, overrides, run)
    ranks = ranks_per_node or max(1, gpus_per_node)
    check_job(family.recipe, variant, nodes * ranks, ranks, time=time, notice=notice)
    name = family.recipe.name if variant is None else f"{family.recipe.name}-{variant}"
    job = TrainingJob(
        name=name,
        command=("tinyllama", "train", recipe, *_options(variant, overrides, run)),
        python=python,
        directory=Path.cwd(),
        logs=family.layout.slurm.absolute(),
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
    results = family.check({"prepare", "train"}, models=None if variant is None else [variant], here=False)
    for note in (note for result in results for note in result.notes):
        typer.echo(f"note: {note}", err=True)
    refuse_faults(results)
    family.work.claim()
    claim_file(path, "a batch script", is_batch_script)
    _warn_of_unprepared(family, run, recipe)
    write_atomic(path, script)
    number = submit(path)
    typer.echo(f"script: {path}, output: {job.logs / number}.log", err=True)
    typer.echo(number)


def _options(variant: str | None, overrides: list[str] | None, run: Path | None) -> list[str]:
    """The equivalent options of `tinyllama train`."""
    words = [] if variant is None else ["--variant", variant]
    words += [word for override in overrides or () for word in ("--set", override)]
    return words if run is None else [*words, "--run", str(run)]


def _warn_of_unprepared(family: Family, run: Path | None, name: str) -> None:
    prepared = family.prepared_sizes()
    if missing := [corpus for corpus in family.recipe.corpora if corpus not in prepared]:
        where = "" if run is None else f" --run {shlex.quote(str(run))}"
        typer.echo(
            f"not prepared: {', '.join(missing)}; the job prepares them while its other ranks wait. "
            f"To avoid this, first run: tinyllama prepare {name}{where}",
            err=True,
        )
