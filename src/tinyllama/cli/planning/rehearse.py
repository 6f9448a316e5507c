"""`tinyllama rehearse`: verify a whole plan before training."""

from __future__ import annotations

import time
from dataclasses import asdict
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
    refuse_options,
    say_next,
    whole,
)

if TYPE_CHECKING:
    from tinyllama.files import Json
    from tinyllama.recipe import Recipe
    from tinyllama.sampler import Rehearsal
    from tinyllama.train.memory import RankMemory

_GIB = 2**30


@app.command(
    short_help="Verify every row of every step before training.",
    epilog="Example: tinyllama rehearse tinyllama-v1.1 --hardware a100-40g --gpus 64",
)
def rehearse(
    ctx: typer.Context,
    recipe: RecipeName,
    *,
    variant: VariantName = None,
    overrides: Overrides = None,
    run: RunFolder = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="GPU", help="Also measure the memory per GPU on --gpus GPUs of this type.")
    ] = None,
    gpus: Annotated[int, whole("Number of GPUs.", most=1_000_000)] = 1,
    as_json: AsJson = False,
) -> None:
    """Walk every row of every step of a plan, without data, and check that the plan does what the recipe states.

    With --hardware, also check that the model fits in memory.
    """
    from tinyllama.corpus.rows import row_count  # imports numpy
    from tinyllama.errors import UserError
    from tinyllama.family.progress import at_intervals
    from tinyllama.sampler import rehearse
    from tinyllama.system_memory import peak_memory

    if hardware is None:
        refuse_options(ctx, {"gpus"}, WITHOUT_HARDWARE)
    family = open_family(recipe, overrides, run)
    loaded = family.recipe
    stated = {name: corpus.size for name, corpus in loaded.corpora.items() if corpus.size is not None}
    sizes = stated | family.prepared_sizes()
    if unknown := sorted(loaded.corpora.keys() - sizes.keys()):
        raise UserError(
            f"corpora.{unknown[0]}.size: is not stated, and the corpus is not prepared; run `tinyllama prepare`, or "
            "write size"
        )
    rows = {
        partition: row_count(size, context)
        for name, size in sizes.items()
        for partition, context in loaded.partitions(name).items()
    }
    began, results = time.monotonic(), []
    memory = None if hardware is None else _Memory(loaded, hardware, gpus)
    if memory is not None and not as_json:
        typer.echo(memory.text)
    say = at_intervals(family.work.progress.say)

    def show(name: str, done: int, total: int) -> None:
        say(f"{name}: {done / total:.0%} of {total:,} sequences")

    for result in rehearse(loaded, rows, [variant] if variant else loaded.planned, show):
        results.append(result)
        if not as_json:
            _print(result)
    seconds, peak = time.monotonic() - began, peak_memory()
    if as_json:
        extra = {} if memory is None else {"memory_per_gpu": memory.plain}
        print_json(_plain(results, seconds, peak) | extra)
    else:
        typer.echo(f"{seconds:.0f} s, peak memory {'unknown' if peak is None else f'{peak / _GIB:.1f} GiB'}")
    _require_passed(results, memory)
    if not as_json:
        say_next("reproduce", recipe, overrides=overrides, run=run)


def _require_passed(results: list[Rehearsal], memory: _Memory | None) -> None:
    """Check that training would follow the recipe, and fits.

    Raises:
        TinyLlamaError: it would not.
    """
    from tinyllama.errors import TinyLlamaError

    if failed := [result.variant for result in results if not result.passed]:
        raise TinyLlamaError(f"the rehearsal of {', '.join(failed)} failed; training would not follow the recipe")
    if memory is not None and not memory.fits:
        raise TinyLlamaError(
            f"{memory.recipe} does not fit {memory.card}: lower hardware.micro_batch, set "
            "hardware.activation_checkpointing, or shard over more GPUs"
        )


def _print(result: Rehearsal) -> None:
    typer.echo(f"{result.variant}: {result.steps:,} steps, {result.sequences:,} sequences")
    for check in result.checks:
        typer.echo(f"  {'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")


def _plain(results: list[Rehearsal], seconds: float, peak: int | None) -> dict[str, Json]:
    return {
        "passed": all(result.passed for result in results),
        "seconds": round(seconds, 1),
        "memory_gib": None if peak is None else round(peak / _GIB, 2),
        "variants": [asdict(result) for result in results],
    }


class _Memory:
    """The measured memory of one rank, and the memory of its GPU."""

    def __init__(self, recipe: Recipe, name: str, gpus: int) -> None:
        from tinyllama.plan.cards import find_gpu  # only with --hardware
        from tinyllama.recipe.schema import AUTO
        from tinyllama.train.memory import measure_memory  # imports torch

        gpu = find_gpu(name)
        self.recipe, self.card, self._gpus = recipe.name, name, gpus
        if recipe.precision == AUTO:
            recipe = recipe.in_precision("bf16")  # in which all these GPUs multiply
        stages = [stage for model in recipe.models for stage in recipe.line(model).stages]
        shapes = {staged.model.context: staged for staged in (recipe, *map(recipe.in_stage, stages))}.values()
        measured = [measure_memory(staged, gpus, min(gpus, gpu.per_node), gpu.usable) for staged in shapes]
        self._measured: RankMemory = max(measured, key=lambda memory: memory.total)
        self._limit = gpu.usable
        self.fits = self._measured.total <= self._limit

    @property
    def text(self) -> str:
        """Text for the terminal."""
        parts = asdict(self._measured)
        sequences = parts.pop("micro_batch")
        return (
            f"memory: {self._measured.total / _GIB:.1f} of {self._limit / _GIB:.1f} GiB on each of {self._gpus} x "
            f"{self.card}, {sequences} sequences per pass: "
            + ", ".join(f"{name} {size / _GIB:.1f}" for name, size in parts.items())
            + ("" if self.fits else "  FAIL")
        )

    @property
    def plain(self) -> dict[str, Json]:
        """Values for JSON, in bytes."""
        return asdict(self._measured) | {"total": self._measured.total, "limit": self._limit, "fits": self.fits}
