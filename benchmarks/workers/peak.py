"""Measures the machine's matrix peak again and again: python peak.py RECORDS."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import torch

from tinyllama.train.machine import measure_peak_flops


def main() -> None:
    """Append the FLOP/s of products in bf16, until killed."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
    with Path(sys.argv[1]).open("w", encoding="utf-8", buffering=1) as file:
        for step in count(1):
            record = {"step": step, "loss": 0.0, "flops": measure_peak_flops("bf16", device), "device": name}
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
