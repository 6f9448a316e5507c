"""What the studio takes from training, and how soon it shows things: python benchmarks/studio.py [--quick]."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from runner import Claim, Process, Result, Table, publish, speed_family, standard_arguments, tinyllama_train
from runner.inputs import TINYLLAMA
from runner.shapes import TINY, mini
from runner.tree import peak_memory, processor_seconds, send, tree
from runner.viewers import open_viewer

from tinyllama.layout import BASE, FamilyLayout
from tinyllama.plan import compile_plan
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.metrics import HeldOutRecord, JsonlLogger, StepRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.viewers import Viewer

    from tinyllama.plan import Plan

TEXT = """One training of the demo's blocks with 32,000 ids takes turns: with the studio stopped (SIGSTOP), and with the
studio and a page that is open on the run; the page is in {viewer}, on the same machine. Metrics of invented numbers are
opened by a studio that has just started: the demo's four models, and a million steps of one, whose first curve is of
the part that is read so far. Memory is the sum of the peaks (VmHWM) of the studio's processes; what it computes on
demand is in others, which end with the request."""
_LONG_TOKENS, _QUICK_STEPS, _LONG_STEPS = 1024, 20_000, 1_000_000


def main() -> None:
    """Measure training beside the studio, then opening and following."""
    asked = standard_arguments(__doc__).parse_args()
    viewer_name, viewer = open_viewer()
    work = asked.out / "work"
    try:
        beside = _measure_beside(work, viewer, quick=asked.quick)
        demo = _measure_opening(_write_demo(work / "studio-demo"), viewer, repeats=1 if asked.quick else 5)
        steps = _QUICK_STEPS if asked.quick else _LONG_STEPS
        long_run = _write_long(work / "studio-long", steps)
        first = _measure_opening(long_run, viewer, repeats=1)
        again = _measure_opening(long_run, viewer, repeats=1 if asked.quick else 3)
    finally:
        viewer.close()
    slower = 100 * (statistics.median(beside["with"]) / statistics.median(beside["without"]) - 1)
    opened = {"the demo's models": demo, f"{steps:,} steps, for the first time": first, "the same again": again}
    medians = {name: {part: statistics.median(found[part]) for part in found} for name, found in opened.items()}
    rows = [
        [name, f"{found['open']:.2f}", f"{found['step']:.2f}", f"{found['memory'] / 1e6:.0f}"]
        for name, found in medians.items()
    ]
    table = Table(["", "until the first curve, s", "until a new step, s", "memory, MB"], rows)
    taken = Table(
        ["processor time, of one core", "share"],
        [[name, f"{100 * beside[name]:.1f}%"] for name in ("the studio", "its page")],
    )
    demo_open, long_open, _ = (found["open"] for found in medians.values())
    slowest = max(found["step"] for found in medians.values())
    memory = max(found["memory"] for found in medians.values()) / 1e6
    claims = [
        Claim("training beside an open page is slower by, percent", slower, most=1.0, unit="%"),
        Claim("until the first curve of the demo's models, seconds", demo_open, most=2.0, unit=" s"),
        Claim("until the first curve of a long run, for the first time, seconds", long_open, most=2.0, unit=" s"),
        Claim("until a new step is on the page, seconds", slowest, most=1.0, unit=" s"),
        Claim("memory of all processes, MB", memory, most=300, unit=" MB"),
    ]
    facts = {"viewer": viewer_name, "beside": beside, "opened": opened, "slower": slower}
    text = TEXT.format(viewer=viewer_name)
    publish(Result("studio", "The studio", text, [table, taken], claims, facts=facts), asked.out)


def _measure_beside(work: Path, viewer: Viewer, *, quick: bool) -> dict[str, Any]:
    """Seconds of a step without and with the studio, in turns, and the processor time that it and its page took."""
    shape, rounds, seconds = (TINY, 2, 1.0) if quick else (mini(), 30, 6.0)
    family = speed_family(work, f"studio-{shape.name}", shape.overrides)
    found: dict[str, Any] = {"without": [], "with": []}
    taken = {"the studio": 0.0, "its page": 0.0}
    elapsed = 0.0
    with Process(tinyllama_train("tinyllama train", family, shape.overrides)) as training:
        training.run_to(3, timeout=300)
        with _studio(family) as (address, studio):
            viewer.open(address, family.name)
            training.turn(seconds, timeout=300)  # the page comes to rest
            for number in range(rounds):
                for kind in ("without", "with") if number % 2 else ("with", "without"):
                    parts = _watching(studio, training.pid)
                    watching = [pid for part in parts.values() for pid in part]
                    send(watching, signal.SIGCONT if kind == "with" else signal.SIGSTOP)
                    began = time.perf_counter()
                    before = {name: processor_seconds(part) for name, part in parts.items()}
                    found[kind].append(training.turn(seconds, timeout=300))
                    if kind == "with":
                        elapsed += time.perf_counter() - began
                        for name, part in parts.items():
                            taken[name] += processor_seconds(part) - before[name]
                    send(watching, signal.SIGCONT)
    return found | {name: spent / elapsed for name, spent in taken.items()}


def _watching(studio: int, training: int) -> dict[str, list[int]]:
    """The processes of the studio and of its browser."""
    own, others = os.getpid(), {*tree(studio), *tree(training)}
    return {"the studio": tree(studio), "its page": [pid for pid in tree(own) if pid not in {own, *others}]}


def _measure_opening(family: Path, viewer: Viewer, repeats: int) -> dict[str, list[float]]:
    """Seconds until a curve is shown, seconds until a new step is, and bytes of the studio's processes."""
    found: dict[str, list[float]] = {"open": [], "step": [], "memory": []}
    for _ in range(repeats):
        with _studio(family) as (address, pid):
            found["open"].append(viewer.open(address, family.name))
            last = json.loads(FamilyLayout(family).metrics(BASE).read_bytes().rstrip(b"\n").rpartition(b"\n")[2])
            viewer.wait_for(last["step"])
            time.sleep(1)
            with FamilyLayout(family).metrics(BASE).open("a", encoding="utf-8") as file:
                step, tokens = last["step"] + 1, last["tokens"] + _LONG_TOKENS
                file.write(json.dumps(last | {"step": step, "tokens": tokens}) + "\n")
            found["step"].append(viewer.wait_for(step))
            found["memory"].append(float(sum(map(peak_memory, tree(pid)))))
    return found


@contextmanager
def _studio(family: Path) -> Iterator[tuple[str, int]]:
    """A studio on a family: its address, and its process."""
    command = [*TINYLLAMA, "studio", str(family), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output = cast("IO[str]", process.stdout)
            yield output.readline().strip(), process.pid
        finally:
            process.kill()


def _write_demo(folder: Path) -> Path:
    """Metrics of the four models of `mini`."""
    recipe = load_recipe("mini")
    layout = _empty(folder, dump_recipe(recipe))
    for model in recipe.models:
        plan = compile_plan(recipe, None if model == BASE else model)
        _write_steps(layout.metrics(model), plan, 0 if model == BASE else plan.fork_step)
    return folder


def _write_long(folder: Path, steps: int) -> Path:
    """Metrics of a long run of one small model."""
    until = steps * _LONG_TOKENS
    ends = [f"stages.{index}.until={until * (index + 10) // 10}" for index in range(3)]
    recipe = load_recipe("nano", [*ends, f"optimizer.learning_rate.horizon={2 * until}"])
    layout = _empty(folder, dump_recipe(recipe))
    _write_steps(layout.metrics(BASE), compile_plan(recipe), 0)
    return folder


def _empty(folder: Path, recipe: str) -> FamilyLayout:
    shutil.rmtree(folder, ignore_errors=True)
    layout = FamilyLayout(folder)
    layout.model(BASE).mkdir(parents=True)
    layout.recipe.write_text(recipe, encoding="utf-8")
    return layout


def _write_steps(path: Path, plan: Plan, first: int) -> None:
    """A record of each step of a model, with held-out losses after each hundredth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = JsonlLogger(path, first)
    for step in range(first, plan.steps):
        batch, tokens = int(plan.batch[step]), int(plan.tokens[step])
        loss = 2 + 4 * math.exp(-20 * step / plan.steps) + 0.05 * math.sin(step * 1.7)
        counts = dict.fromkeys(plan.corpora, batch // len(plan.corpora))
        logger.log(
            StepRecord(
                step=step + 1, stage=plan.stages[plan.stage[step]], tokens=tokens, loss=loss, lr=float(plan.lr[step]),
                grad_norm=1.0, batch=batch, counts=counts, seconds=0.3, checkpoint_seconds=0.0, tokens_per_second=1e4,
                mfu=0.3, digest="c663b496823bcc97",
            )
        )  # fmt: skip
        if not step % 100:
            logger.log(HeldOutRecord(step=step + 1, tokens=tokens, losses=dict.fromkeys(plan.corpora, loss)))
    logger.close()


if __name__ == "__main__":
    main()
