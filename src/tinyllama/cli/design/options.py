"""Options of several of these commands, and the machine that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tinyllama.cli.app import real, refuse_options, whole

if TYPE_CHECKING:
    from tinyllama.design.machines import Machine
    from tinyllama.design.rungs import Rung
    from tinyllama.family import Family

MOST_TOKENS = 10**15
Hardware = Annotated[
    str, typer.Option(metavar="GPU", help="What trains: `here` measures this machine; a GPU by name is predicted.")
]
Gpus = Annotated[int, whole("Number of GPUs, with --hardware.", most=1_000_000)]
Nodes = Annotated[int | None, whole("Number of nodes (default: by the usual number of GPUs in one).")]
OverTraining = Annotated[
    float,
    real(
        "Tokens per parameter, as a multiple of the compute-optimal ones: a better model of the same size.", least=0.01
    ),
]
Shapes = Annotated[
    str | None, typer.Option(metavar="FAMILY", help="Proportions: smollm (deep) or tinyllama (wide); default: by size.")
]
PlannedHardware = Annotated[
    str | None, typer.Option(metavar="GPU", help="With --plan: predict a GPU's times instead of measuring here.")
]


class MachineOptions(NamedTuple):
    """What trains, as given on the command line."""

    hardware: str
    gpus: int
    nodes: int | None
    device: str


def choose_machine(ctx: typer.Context, options: MachineOptions, hours: float | None, tokens: int | None) -> Machine:
    """This machine, or GPUs by name.

    Args:
        ctx: the command's context.
        options: what was given on the command line.
        hours: of training, if they are known.
        tokens: of a model, if they are known.

    Raises:
        UserError: an option has no effect.
        PlanError: no such card.
    """
    from tinyllama.design.machines import HERE, MeasuredMachine, PredictedMachine, compiling_pays

    if options.hardware != HERE:
        refuse_options(ctx, {"device"}, "with --hardware, which is not this machine")
        return PredictedMachine(options.hardware, options.gpus, options.nodes)
    refuse_options(ctx, {"gpus", "nodes"}, "without --hardware; name a GPU, e.g. --hardware a100-40g")
    from functools import partial

    from tinyllama.model.devices import best_precision, choose_device, describe_device, memory_of
    from tinyllama.train.machine import measure_peak_flops
    from tinyllama.train.speed import measure_speed

    found = choose_device(options.device)
    flops = measure_peak_flops(best_precision(found), found)
    measure = partial(measure_speed, device=found)
    compiles = compiling_pays(hours, tokens)
    return MeasuredMachine(f"this machine, {describe_device(found)}", flops, memory_of(found), measure, compiles)


class Planned(NamedTuple):
    """What trains a small model, for a plan: GPUs by name, or this machine."""

    hardware: str | None
    gpus: int

    def tokens_per_second(self, rung: Rung) -> float | None:
        """Predicted for GPUs, measured here; None if the model does not fit in memory."""
        if self.hardware is not None:
            from tinyllama.plan.hardware import predict_speed

            return predict_speed(rung.recipe, self.hardware, self.gpus, None, rung.sequences)
        from tinyllama.model.devices import choose_device
        from tinyllama.train.speed import measure_speed  # imports torch

        return measure_speed(rung.recipe, rung.sequences, choose_device(rung.recipe.hardware.device))


def model_of(family: Family, variant: str | None) -> str:
    """The model that small ones imitate: the named one, or the first after the base.

    Raises:
        UserError: the recipe has no such model.
    """
    from tinyllama.errors import UserError
    from tinyllama.text import did_you_mean

    model = variant or [*family.models[1:], *family.models][0]
    if model not in family.models:
        known = ", ".join(family.models)
        raise UserError(
            f"--variant {model}: {family.recipe.name} has no such model{did_you_mean(model, family.models)}; it has "
            f"{known}"
        )
    return model
