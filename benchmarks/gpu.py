"""Training the 1.1B model on one GPU, unattended, in minutes: python benchmarks/gpu.py [--quick].

Ours is the trainer of `tinyllama train`, the others are transformers' LlamaForCausalLM compiled and, if it is
installed, litgpt's `pretrain`. Each configuration has the GPU to itself. Configurations that do not fit, or for which
no time is left, are reported.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from runner import (
    Chart,
    Claim,
    Engine,
    EngineError,
    Process,
    Result,
    Table,
    loss_differences,
    matrix_peak,
    publish,
    speed_family,
    standard_arguments,
    write_inputs,
)
from runner.inputs import RECIPE
from runner.machine import WORKERS, measured_peak
from runner.shapes import TINY, Shape

from tinyllama.plan.cards import GPUS
from tinyllama.plan.step_time import flops_formulas
from tinyllama.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

FLAGSHIP = Shape("1.1B", (22, 2048, 5632, 32, 4, 2048), 16)
"""TinyLlama's."""
MICRO_BATCHES = (16, 8, 4)
"""Sequences of a pass, the most promising first; a step is one pass, or many."""
MANY = 8
"""Passes of a step over which the optimizer's time is spread."""
SMOOTH = ("optimizer.learning_rate.warmup=4M", "optimizer.learning_rate.peak=4e-4")
"""Overrides with which the losses of 1.1B do not jump, so that those of fp8 can be compared."""
OURS, LOOP, LITGPT = "tinyllama train", "transformers, bf16, compiled", "litgpt pretrain, bf16-mixed"
COMPARED, PARITY = 20, 0.05
"""Steps whose losses are compared, and by how much they may differ, in nats."""
WARMUP = 4
"""Steps before measuring, for compilation and allocations of the first update."""

TEXT = """Whole optimizer steps at steady state on one GPU, each of one pass if no other number is given. MFU counts
{formula} FLOPs per token over {peak}.
Memory is the engine's memory on the GPU, caches included, or the memory of the process on a machine without a GPU."""


class Contestant(NamedTuple):
    """One configuration."""

    name: str
    precision: str
    micro_batch: int
    passes: int = 1


class Found(NamedTuple):
    """Its measurements."""

    contestant: Contestant
    tokens_per_second: float
    memory: int
    first_step: float
    losses: list[float]


def main() -> None:
    """Measure as many configurations as there is time for, most important first."""
    parser = standard_arguments(__doc__ or "")
    parser.add_argument(
        "--minutes", type=float, default=8.0, help="that it may take in all; 8 are enough for 3 to 5 configurations"
    )
    parser.add_argument("--seconds", type=float, default=12.0, help="that each configuration is measured")
    asked = parser.parse_args()
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi numbers them
    deadline = time.monotonic() + 60 * asked.minutes
    if not asked.quick and not torch.cuda.is_available():
        sys.stderr.write("skipped: this machine has no GPU\n")
        return
    shape = TINY if asked.quick else FLAGSHIP
    shutil.rmtree(asked.out / "work" / f"gpu-inputs-{shape.name}", ignore_errors=True)
    peak, peak_name = _peak(asked.out / "work")
    sizes = (2,) if asked.quick else MICRO_BATCHES
    found: list[Found] = []
    left_out: dict[str, str] = {}
    longest = 0.0
    for contestant in contestants(sizes):
        began = time.monotonic()
        if began + longest > deadline:
            left_out[label_of(contestant)] = "no time was left"
            continue
        try:
            seconds = 0.1 if asked.quick else asked.seconds
            found.append(_measure(contestant, shape, asked.out / "work", seconds, deadline))
        except EngineError as error:
            sys.stderr.write(f"{error}\n")
            left_out[label_of(contestant)] = (
                "out of memory" if "out of memory" in str(error).lower() else "does not run"
            )
        longest = max(longest, time.monotonic() - began)
    publish(_result(shape, found, left_out, peak, peak_name), asked.out)


def contestants(sizes: tuple[int, ...]) -> Iterator[Contestant]:
    """Configurations by importance: each engine at the largest pass, fp8, many passes a step, then smaller passes."""
    names = [OURS, LOOP] + [LITGPT] * (importlib.util.find_spec("litgpt") is not None)
    yield from (Contestant(name, "bf16", sizes[0]) for name in names)
    yield Contestant(OURS, "fp8", sizes[0])
    yield Contestant(OURS, "bf16", sizes[0], MANY)
    for size in sizes[1:]:
        yield from (Contestant(name, "bf16", size) for name in names[:2])
        yield Contestant(OURS, "fp8", size)


def _measure(contestant: Contestant, shape: Shape, work: Path, seconds: float, deadline: float) -> Found:
    """Run one configuration by itself, until a deadline on the monotonic clock."""
    sys.stderr.write(f"{label_of(contestant)}\n")
    sized = replace(shape, batch=contestant.micro_batch * contestant.passes)
    overrides = overrides_of(contestant, sized)
    family = speed_family(work, f"gpu-{shape.name}", overrides)
    engine = _engine(contestant.name, family, work / f"gpu-inputs-{shape.name}", overrides)
    on_card = torch.cuda.is_available()
    before = _card_memory() if on_card else 0
    with Process(engine) as process:
        process.run_to(WARMUP, timeout=seconds_left(deadline, 240))
        per_step = process.turn(seconds, timeout=seconds_left(deadline, 120))
        memory = _card_memory() - before if on_card else process.peak_memory()
        losses = [record["loss"] for record in process.records]
        return Found(contestant, sized.tokens / per_step, memory, process.stamps[1].clock, losses)


def overrides_of(contestant: Contestant, sized: Shape) -> list[str]:
    """Overrides of the speed recipe for a configuration, whose batch the shape has."""
    return [
        *sized.overrides,
        *SMOOTH,
        f"hardware.micro_batch={contestant.micro_batch}",
        f"precision={contestant.precision}",
    ]


def seconds_left(deadline: float, most: float) -> float:
    """Seconds until a deadline on the monotonic clock, between 1 and `most`."""
    return min(most, max(1.0, deadline - time.monotonic()))


def _engine(name: str, family: Path, inputs: Path, overrides: list[str]) -> Engine:
    if name == OURS:
        command = [sys.executable, str(WORKERS / "trainer.py"), str(RECIPE), str(family), *overrides]
        return Engine(name, command, family, family / "base" / "metrics.jsonl")
    records = family / "records.jsonl"
    write_inputs(family, inputs, overrides, steps=8)
    script, *options = ["litgpt_pretrain.py", "bf16-mixed"] if name == LITGPT else ["transformers_loop.py"]
    command = [sys.executable, str(WORKERS / script), str(inputs), str(records), *options]
    return Engine(name, command, family, records)


def _card_memory() -> int:
    """Bytes in use on the GPU that engines take."""
    command = [
        "nvidia-smi",
        f"--id={visible_card(os.environ)}",
        "--query-gpu=memory.used",
        "--format=csv,noheader,nounits",
    ]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout) * 2**20  # no input


def visible_card(environment: Mapping[str, str]) -> str:
    """The first visible GPU, as nvidia-smi names it: its number in the order of the bus, or its UUID."""
    return environment.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"


def _peak(work: Path) -> tuple[float, str]:
    """FLOP/s that MFU is of, and where the figure comes from: the card's data sheet, else a measurement.

    Measured in a process of its own, whose memory on the GPU ends with it.
    """
    with Process(matrix_peak(work)) as process:
        process.run_to(3, timeout=120)
        measured, name = measured_peak(process.records), process.records[0]["device"]
    for card, sheet in GPUS.items():
        if torch.cuda.is_available() and card.split("-")[0] in name.lower().replace(" ", ""):
            stated = f"{sheet.flops / 1e12:g} TFLOP/s (data sheet of {card}; measured product: {measured / 1e12:.0f})"
            return sheet.flops, stated
    return measured, f"{measured / 1e12:.3g} TFLOP/s (measured product on {name})"


def _result(shape: Shape, found: list[Found], left_out: dict[str, str], peak: float, peak_name: str) -> Result:
    formulas = flops_formulas(load_recipe(str(RECIPE), shape.overrides).model)
    formula, flops = next(iter(formulas.items()))
    rows = [
        [
            label_of(one.contestant),
            f"{one.tokens_per_second:,.0f}",
            f"{one.tokens_per_second * flops / peak:.1%}",
            f"{one.memory / 2**30:.1f}",
            f"{one.first_step:.0f}",
        ]
        for one in found
    ] + [[label, reason, "", "", ""] for label, reason in left_out.items()]
    table = Table([shape.label, "tokens/s", "MFU", "GiB", "first step, s"], rows)
    bars = [(label_of(one.contestant), one.tokens_per_second) for one in found]
    charts = [Chart(shape.label, "tokens/s", bars, peak / flops, "peak:")] if bars else []
    facts = {
        "peak_flops": peak,
        "formulas": formulas,
        "found": [one.contestant._asdict() | one._asdict() | {"contestant": label_of(one.contestant)} for one in found],
        "left_out": left_out,
    }
    text = TEXT.format(formula=formula, peak=peak_name)
    return Result("gpu", "One GPU", text, [table], list(_claims(found)), charts, facts)


def _claims(found: list[Found]) -> Iterator[Claim]:
    """Claims that fp8 trains as bf16 does, for each size at which both ran."""
    single = [one for one in found if one.contestant.name == OURS and one.contestant.passes == 1]
    ours = {(one.contestant.precision, one.contestant.micro_batch): one for one in single}
    for (precision, size), one in ours.items():
        exact = ours.get(("bf16", size))
        if precision == "fp8" and exact is not None:
            largest = loss_differences({"bf16": exact, "fp8": one}, "bf16", {"fp8": COMPARED})["fp8"]
            yield Claim(f"largest difference of fp8's losses from bf16's, {size} sequences", largest, most=PARITY)


def label_of(contestant: Contestant) -> str:
    """A configuration in words."""
    precision = "" if "bf16" in contestant.name else f", {contestant.precision}"
    passes = f", {contestant.passes} passes" if contestant.passes > 1 else ""
    return f"{contestant.name}{precision}, {contestant.micro_batch} sequences{passes}"


if __name__ == "__main__":
    main()
