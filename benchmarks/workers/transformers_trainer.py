"""transformers' own Trainer, as its documentation has it: python transformers_trainer.py INPUTS RECORDS [--bf16]."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from task import Records, Task
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import IterableDataset
from transformers import LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Rows(IterableDataset[dict[str, torch.Tensor]]):
    """The task's rows, one by one, in order."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for inputs, targets in self._task.batches():
            for row, labels in zip(inputs, targets, strict=True):
                # Its loss shifts labels by itself, which would make one target less of a row.
                yield {"input_ids": row, "labels": labels, "shift_labels": labels}


class _Steps(TrainerCallback):
    """Records the loss of each step as the Trainer logs it."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def on_log(self, *_: Any, logs: dict[str, float] | None = None, **__: Any) -> None:  # noqa: ANN401  # as its base
        """Take a step's loss."""
        if logs is not None and "loss" in logs:
            self._records.step(float(logs["loss"]))


def main() -> None:
    """Train until the steps are done, or killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--steps", type=int, default=1_000_000)
    asked = parser.parse_args()
    task = Task(asked.inputs)
    model = LlamaForCausalLM.from_pretrained(asked.inputs, dtype=torch.float32)
    settings = TrainingArguments(
        output_dir=str(asked.records.parent / "trainer"),
        per_device_train_batch_size=task.inputs.shape[1],
        max_steps=asked.steps,
        use_cpu=True,  # without which it refuses bf16 on a processor
        bf16=asked.bf16,
        torch_compile=asked.compile,
        logging_steps=1,
        remove_unused_columns=False,  # keeps shift_labels
        report_to="none",
        save_strategy="no",
    )
    # The Trainer's default is this optimizer; stated, because it would not decay norms and ends at another LR.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True)
    Trainer(
        model=model,
        args=settings,
        train_dataset=_Rows(task),
        callbacks=[_Steps(Records(asked.records))],
        optimizers=(optimizer, LambdaLR(optimizer, task.learning_rate)),
    ).train()


if __name__ == "__main__":
    main()
