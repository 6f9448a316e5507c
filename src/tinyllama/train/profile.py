"""Profiles of some steps: a Chrome trace by torch.profiler, a table of where the time went, and a GPU's memory."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tinyllama.files import write_atomic
from tinyllama.model.devices import describe_device
from tinyllama.model.torch_internals import record_memory
from tinyllama.train.trace_table import PREFIX, STEP, WAIT, read_trace, trace_table

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tinyllama.train.feeder import StepBatch

_ACTIVITIES = {"cuda": ProfilerActivity.CUDA, "xpu": ProfilerActivity.XPU}


def region(name: str) -> AbstractContextManager[object]:
    """A part of a step, by the table's name for it; takes microseconds while nothing is profiled."""
    return record_function(f"{PREFIX}{name}")


def profile_name(steps: range) -> str:
    """What the names of a profile's files begin with."""
    return f"steps-{steps.start}-{steps.stop - 1}"


def profiled(
    batches: Iterator[StepBatch], steps: range, done: int, folder: Path, device: torch.device
) -> Generator[StepBatch]:
    """Pass on the batches of consecutive steps, and profile some of these: from the wait for a batch to the next one.

    Args:
        batches: one for each step.
        steps: to profile, counted from 1; may be empty.
        done: steps before the first batch.
        folder: receives the files, once the last of the steps is done or training ends before.
        device: what computes.
    """
    with ExitStack() as recording:
        begun = False
        for step in count(done + 1):
            if step in steps and not begun:
                begun = True
                recording.enter_context(_recording(steps, folder, device))
            with region(STEP):
                with region(WAIT):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
            if step == steps.stop - 1:
                recording.close()


@contextmanager
def _recording(steps: range, folder: Path, device: torch.device) -> Iterator[None]:
    """Record what happens in the block, and write it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = profile_name(steps)
    write_memory = record_memory(device)
    activities = [ProfilerActivity.CPU, *(_ACTIVITIES[kind] for kind in (device.type,) if kind in _ACTIVITIES)]
    if device.type != "cpu":  # what is queued belongs to the step before
        torch.get_device_module(device).synchronize()
    recorder = profile(activities=activities)
    recorder.start()
    try:
        yield
    finally:
        recorder.stop()
        trace, part = (folder / f"{name}.{end}" for end in ("trace.json.gz", "part.json.gz"))
        recorder.export_chrome_trace(str(part))
        part.replace(trace)
        if write_memory is not None:
            write_memory(folder / f"{name}.memory.pickle")
        title = f"Steps {steps.start} to {steps.stop - 1} on {describe_device(device)}"
        write_atomic(folder / f"{name}.md", trace_table(read_trace(trace), title))
