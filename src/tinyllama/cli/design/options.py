"""Options of both commands, and the machine that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from tinyllama.cli.app import real, refuse_options, whole

if TYPE_CHECKING:
    from tinyllama.design.machines import Machine

MOST_TOKENS = 10**15
Hardware = Annotated[
    str, typer.Option(metavar="GPU", help="What trains: `here` measures this machine; a GPU by name is predicted.")
]
Gpus = Annotated[int, whole("Number of GPUs, with --hardware.", most=1_000_000)]
Nodes = Annotated[int | None, whole("Number of nodes (default: by the usual number of GPUs in one).")]
OverTraining = Annotated[
    float,
    real("Tokens per parameter, as a multiple of the compute-optimal 20: a better model of the same size.", least=0.01),
]
Shapes = Annotated[
    str | None, typer.Option(metavar="FAMILY", help="Proportions: smollm (deep) or tinyllama (wide); default: by size.")
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
