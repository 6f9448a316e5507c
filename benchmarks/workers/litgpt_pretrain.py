"""litgpt's own `pretrain`, called as its command calls it: python litgpt_pretrain.py INPUTS RECORDS PRECISION."""

from __future__ import annotations

import json
import re
import sys
from contextlib import redirect_stdout
from io import TextIOBase
from pathlib import Path

import torch
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data import DataModule
from litgpt.pretrain import setup
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from safetensors.torch import load_file
from task import Records, Task
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class _Rows(Dataset[Tensor]):
    """Rows of T + 1 ids; it splits them into inputs and targets itself."""

    def __init__(self, task: Task) -> None:
        rows = torch.cat([task.inputs, task.targets[..., -1:]], -1)
        self._rows = rows.flatten(0, 1)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Tensor:
        return self._rows[index]


class _Data(DataModule):  # type: ignore[misc]
    """The task's rows in order."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self._rows, self._batch = _Rows(task), task.inputs.shape[1]

    def connect(self, *_: object, **__: object) -> None:
        """Nothing is left to set."""

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Batches of the task."""
        return DataLoader(self._rows, self._batch)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """The same; `pretrain` checks its settings with two of them."""
        return DataLoader(self._rows, self._batch)


class _Steps(TextIOBase):
    """Records the loss of each step as `pretrain` prints it."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def write(self, text: str) -> int:
        """Take printed text."""
        if found := re.search(r"loss train: ([0-9.]+)", text):
            self._records.step(float(found[1]))
        return sys.__stdout__.write(text) if sys.__stdout__ else 0


def main() -> None:
    """Train until killed."""
    task, records = Task(Path(sys.argv[1])), Path(sys.argv[2])
    shape = json.loads((task.folder / "config.json").read_text(encoding="utf-8"))
    config = _config(shape)
    weights: dict[str, Tensor] = {}
    copy_weights_hf_llama(config, {}, weights, load_file(task.folder / "model.safetensors"))
    start = records.parent / "start"
    start.mkdir(exist_ok=True)
    torch.save(weights, start / "lit_model.pth")
    batch = task.inputs.shape[1]
    with redirect_stdout(_Steps(Records(records))):
        setup(
            "speed",
            config,
            out_dir=records.parent / "out",
            precision=sys.argv[3],
            initial_checkpoint_dir=start.resolve(),
            data=_Data(task),
            train=TrainArgs(
                save_interval=None,
                log_interval=1,
                global_batch_size=batch,
                micro_batch_size=batch,
                max_tokens=10**12,
                max_norm=1.0,
                max_seq_length=shape["max_position_embeddings"],
            ),
            eval=EvalArgs(interval=10**9, max_iters=1, final_validation=False),
            devices=1,
        )


def _config(shape: dict[str, int]) -> Config:
    return Config(
        name="speed",
        block_size=shape["max_position_embeddings"],
        vocab_size=shape["vocab_size"],
        padded_vocab_size=shape["vocab_size"],
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_query_groups=shape["num_key_value_heads"],
        n_embd=shape["hidden_size"],
        head_size=shape["head_dim"],
        intermediate_size=shape["intermediate_size"],
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=shape["rms_norm_eps"],
        mlp_class_name="LLaMAMLP",
    )


if __name__ == "__main__":
    main()
