"""Runs cases, each in a fresh folder, and collects their faults."""

from __future__ import annotations

import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from tests.field.fuzz.draw import KINDS, draw
from tests.field.fuzz.template import Files, Template
from tests.field.fuzz.verdict import Fault, judge, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.field.commands import Commands
    from tests.field.fuzz.case import Case

HEAVY = (
    "accelerate", "gguf", "huggingface_hub", "jinja2", "lm_eval.evaluator", "lm_eval.tasks", "plotly.graph_objects",
    "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.nn.attention.flex_attention",
    "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
    "transformers.generation.utils",
)  # fmt: skip
"""What commands that open models import, in seconds."""
_SECONDS = 60
"""Time that a case may take; more counts as a hang."""
_MEMORY = 8 * 2**30
_STANDIN = str(Path(__file__).parent / "standin")
_STEPS, _TOKENS = 40, 40_000
"""Training that a case may ask for; a recipe that states more is planned only."""


class Done(NamedTuple):
    """A case that ran, with its faults."""

    number: int
    kind: str
    case: Case
    code: int
    faults: list[Fault]


def environment(folder: Path) -> dict[str, str]:
    """Environment variables of the server: no network, no programs, no settings of the machine's user."""
    return {
        "PYTHONPATH": ":".join([_STANDIN, *filter(None, sys.path)]),
        "PATH": "/nowhere",
        "HOME": str(folder / "home"),
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "PIP_INDEX_URL": "http://127.0.0.1:9",
        "PIP_RETRIES": "0",
        "AWS_EC2_METADATA_DISABLED": "true",
        "OMP_NUM_THREADS": "1",
    }


class Fuzz:
    """Cases of one seed below a working folder."""

    def __init__(self, seed: int, work: Path, template: Template) -> None:
        """Use a template that may be shared."""
        self._seed, self._work, self._template = seed, work, template

    def run(self, number: int, commands: Commands, kinds: Sequence[str] = tuple(KINDS), *, keep: bool = False) -> Done:
        """Run one case; `keep` leaves its folder."""
        kind, case = draw(self._seed, number, Files(self._template, commands), kinds)
        folder = self._work / f"{self._seed}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        self._template.copy(case.needs, folder, commands)
        case.place(folder)
        before = snapshot(folder)
        own = {"HOME": str(folder / "home"), "TINYLLAMA_CACHE": str(folder / "cache")}
        outcome = commands.run(
            *self._argv(case, folder, commands),
            cwd=folder,
            env=own | case.env,
            stdin=case.stdin,
            seconds=_SECONDS,
            memory=_MEMORY,
            interrupt=case.interrupt,
        )
        faults = judge(case, outcome, before, snapshot(folder))
        if keep:
            sys.stderr.write(f"{case}\n{folder}: {outcome.code} in {outcome.seconds:.1f} s\n{outcome.out}{outcome.err}")
        else:
            shutil.rmtree(folder)
        return Done(number, kind, case, outcome.code, faults)

    def _argv(self, case: Case, folder: Path, commands: Commands) -> Sequence[str]:
        """The arguments of a case, or of `plan` alone if its recipe states much training."""
        if case.plan_first and not _is_small(commands, case.plan_first, folder):
            return case.plan_first
        return case.argv


def _is_small(commands: Commands, plan: Sequence[str], folder: Path) -> bool:
    """Whether a recipe cannot be planned, or plans little."""
    outcome = commands.run(*plan, "--json", cwd=folder, seconds=_SECONDS, memory=_MEMORY)
    if outcome.code == 2:
        return True
    if outcome.code != 0:
        return False
    plans = json.loads(outcome.out)
    return all(plan["steps"] <= _STEPS and plan["tokens"] <= _TOKENS for plan in plans)


def run_all(
    fuzz: Fuzz,
    numbers: Iterable[int],
    servers: Sequence[Commands],
    tell: Callable[[Done, float], None],
    kinds: Sequence[str] = tuple(KINDS),
) -> list[Done]:
    """Run cases on some servers at once, in the order of their numbers."""
    free: SimpleQueue[Commands] = SimpleQueue()
    for server in servers:
        free.put(server)

    def run(number: int) -> Done:
        server, start = free.get(), time.monotonic()
        try:
            done = fuzz.run(number, server, kinds)
        finally:
            free.put(server)
        tell(done, time.monotonic() - start)
        return done

    with ThreadPoolExecutor(len(servers)) as threads:
        return list(threads.map(run, numbers))
