"""transformers' Llama in a loop of one's own: compiled, bf16 weights with fp32 masters.

python transformers_loop.py INPUTS RECORDS
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from task import Masters, Records, Task
from torch import nn
from transformers import LlamaForCausalLM


def main() -> None:
    """Train until killed."""
    task, records = Task(Path(sys.argv[1])), Records(Path(sys.argv[2]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: nn.Module = LlamaForCausalLM.from_pretrained(task.folder, dtype=torch.float32)
    model.to(device).train()
    masters = Masters(model)
    forward = torch.compile(model)
    for step, (inputs, targets) in enumerate(task.batches()):
        labels = targets.to(device)
        loss = forward(input_ids=inputs.to(device), labels=labels, shift_labels=labels, use_cache=False).loss
        loss.backward()
        masters.step(task.learning_rate(step))
        records.step(loss.item())


if __name__ == "__main__":
    main()
