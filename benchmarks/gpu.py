"""Training the 1.1B model on one GPU, unattended, in minutes: python benchmarks/gpu.py [--quick].

Ours is `tinyllama train`, the others are transformers' LlamaForCausalLM compiled and, if it is installed, litgpt's
`pretrain`. Each configuration has the GPU to itself. Configurations that do not fit, or for which no time is left, are
reported.
"""

from __future__ import annotations

import importlib.util
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
    publish,
    speed_family,
    standard_arguments,
    tinyllama_train,
    write_inputs,
)
from runner.inputs import RECIPE
from runner.machine import WORKERS
from runner.shapes import TINY, Shape

from tinyllama.plan.hardware import GPUS, flops_formulas
from tinyllama.recipe import load_recipe
from tinyllama.train.machine import measure_peak

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGSHIP = Shape("1.1B", (22, 2048, 5632, 32, 4, 2048), 16)
"""TinyLlama's."""
MICRO_BATCHES = (16, 8, 4)
"""Sequences of a pass, the most promising first; a step is one pass."""
OURS, LOOP, LITGPT = "tinyllama train", "transformers, bf16, compiled", "litgpt pretrain, bf16-mixed"
COMPARED, PARITY = 20, 0.05
"""Steps whose losses are compared, and by how much they may differ, in nats."""
WARMUP = 4
"""Steps before measuring, for compilation and allocations of the first update."""

TEXT = """Whole optimizer steps of one pass each, at steady state, on one GPU. MFU counts {formula} FLOPs per token
over {peak}. Memory is the engine's memory on
the GPU, caches included, or the memory of the process on a machine without a GPU."""


class Contestant(NamedTuple):
    """One configuration."""

    name: str
    precision: str
    micro_batch: int


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
    parser.add_argument("--minutes", type=float, default=8.0, help="that it may take in all")
    parser.add_argument("--seconds", type=float, default=12.0, help="that each configuration is measured")
    asked = parser.parse_args()
    deadline = time.monotonic() + 60 * asked.minutes
    if not asked.quick and not torch.cuda.is_available():
        sys.stderr.write("skipped: this machine has no GPU\n")
        return
    shape = TINY if asked.quick else FLAGSHIP
    shutil.rmtree(asked.out / "work" / f"gpu-inputs-{shape.name}", ignore_errors=True)
    peak, peak_name = _peak(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    sizes = (2, 1) if asked.quick else MICRO_BATCHES
    found: list[Found] = []
    left_out: dict[str, str] = {}
    longest = 0.0
    for contestant in _contestants(sizes):
        began = time.monotonic()
        if began + longest > deadline:
            left_out[_label(contestant)] = "no time was left"
            continue
        try:
            found.append(_measure(contestant, shape, asked.out / "work", 0.1 if asked.quick else asked.seconds))
        except EngineError as error:
            sys.stderr.write(f"{error}\n")
            left_out[_label(contestant)] = "out of memory" if "out of memory" in str(error).lower() else "does not run"
        longest = max(longest, time.monotonic() - began)
    publish(_result(shape, found, left_out, peak, peak_name), asked.out)


def _contestants(sizes: tuple[int, ...]) -> Iterator[Contestant]:
    """Configurations by importance: each engine at the largest pass, then fp8, then smaller passes."""
    names = [OURS, LOOP] + [LITGPT] * (importlib.util.find_spec("litgpt") is not None)
    yield from (Contestant(name, "bf16", sizes[0]) for name in names)
    yield Contestant(OURS, "fp8", sizes[0])
    for size in sizes[1:]:
        yield from (Contestant(name, "bf16", size) for name in names[:2])
        yield Contestant(OURS, "fp8", size)


def _measure(contestant: Contestant, shape: Shape, work: Path, seconds: float) -> Found:
    """Run one configuration by itself."""
    sys.stderr.write(f"{_label(contestant)}\n")
    sized = replace(shape, batch=contestant.micro_batch)
    overrides = [
        *sized.overrides,
        f"hardware.micro_batch={contestant.micro_batch}",
        f"precision={contestant.precision}",
        "checkpoints.keep=1",  # none is written; room for them is asked for
    ]
    family = speed_family(work, f"gpu-{shape.name}", overrides)
    engine = _engine(contestant.name, family, work / f"gpu-inputs-{shape.name}", overrides)
    before = _card_memory()
    with Process(engine) as process:
        process.run_to(WARMUP, timeout=240)
        per_step = process.turn(seconds, timeout=120)
        memory = _card_memory() - before or process.peak_memory()
        losses = [record["loss"] for record in process.records]
        return Found(contestant, sized.tokens / per_step, memory, process.stamps[1].clock, losses)


def _engine(name: str, family: Path, inputs: Path, overrides: list[str]) -> Engine:
    if name == OURS:
        return tinyllama_train(name, family, overrides)
    records = family / "records.jsonl"
    write_inputs(family, inputs, overrides, steps=8)
    script, *options = ["litgpt_pretrain.py", "bf16-mixed"] if name == LITGPT else ["transformers_loop.py"]
    command = [sys.executable, str(WORKERS / script), str(inputs), str(records), *options]
    return Engine(name, command, family, records)


def _card_memory() -> int:
    """Bytes in use on the first GPU; 0 without one."""
    if shutil.which("nvidia-smi") is None or not torch.cuda.is_available():
        return 0
    command = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout) * 2**20  # no input


def _peak(device: torch.device) -> tuple[float, str]:
    """Peak FLOP/s for MFU and its source: the GPU's data sheet, else a measurement."""
    measured = measure_peak("bf16", device)
    name = torch.cuda.get_device_name(device).lower() if device.type == "cuda" else "this processor"
    for card, sheet in GPUS.items():
        if device.type == "cuda" and card.split("-")[0] in name.replace(" ", ""):
            stated = f"{sheet.flops / 1e12:g} TFLOP/s (data sheet of {card}; measured product: {measured / 1e12:.0f})"
            return sheet.flops, stated
    return measured, f"{measured / 1e12:.3g} TFLOP/s (measured product on {name})"


def _result(shape: Shape, found: list[Found], left_out: dict[str, str], peak: float, peak_name: str) -> Result:
    formulas = flops_formulas(load_recipe(str(RECIPE), shape.overrides).model)
    formula, flops = next(iter(formulas.items()))
    rows = [
        [
            _label(one.contestant),
            f"{one.tokens_per_second:,.0f}",
            f"{one.tokens_per_second * flops / peak:.1%}",
            f"{one.memory / 2**30:.1f}",
            f"{one.first_step:.0f}",
        ]
        for one in found
    ] + [[label, reason, "", "", ""] for label, reason in left_out.items()]
    table = Table([shape.label, "tokens/s", "MFU", "GiB", "first step, s"], rows)
    bars = [(_label(one.contestant), one.tokens_per_second) for one in found]
    charts = [Chart(shape.label, "tokens/s", bars, peak / flops, "peak:")] if bars else []
    facts = {
        "peak_flops": peak,
        "formulas": formulas,
        "found": [one.contestant._asdict() | one._asdict() | {"contestant": _label(one.contestant)} for one in found],
        "left_out": left_out,
    }
    text = TEXT.format(formula=formula, peak=peak_name)
    return Result("gpu", "One GPU", text, [table], list(_claims(found)), charts, facts)


def _claims(found: list[Found]) -> Iterator[Claim]:
    """Claims that fp8 trains as bf16 does, for each size at which both ran."""
    ours = {(one.contestant.precision, one.contestant.micro_batch): one for one in found if one.contestant.name == OURS}
    for (precision, size), one in ours.items():
        exact = ours.get(("bf16", size))
        if precision == "fp8" and exact is not None:
            largest = loss_differences({"bf16": exact, "fp8": one}, "bf16", {"fp8": COMPARED})["fp8"]
            yield Claim(f"largest difference of fp8's losses from bf16's, {size} sequences", largest, most=PARITY)


def _label(contestant: Contestant) -> str:
    precision = "" if "bf16" in contestant.name else f", {contestant.precision}"
    return f"{contestant.name}{precision}, {contestant.micro_batch} sequences"


if __name__ == "__main__":
    main()
