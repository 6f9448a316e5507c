"""GPUs by their data sheets, and the utilization that published training reached on them.

Utilization is that of matrix products and attention, by causal FLOPs (`flops_formulas`), over the dense peak, while
they run: memory traffic, the update and collectives are counted beside it (`plan/step_time.py`). One published row per
card fits it; `tests/plan/test_published_speed.py` has the rows, and predicts the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyllama.errors import PlanError
from tinyllama.text import did_you_mean

RESERVED = 1.5 * 2**30
"""Bytes that the driver, the communication library and fragmentation take of a card."""
_FOUNDRY = "https://github.com/mosaicml/llm-foundry/blob/main/scripts/train/benchmarking/README.md"
_LLMQ = "https://github.com/IST-DASLab/llmq#speed"


@dataclass(frozen=True)
class Utilization:
    """Of matrix products in bf16 over the dense peak of the data sheet."""

    value: float
    """What the fitted row implies."""
    low: float
    """The least that any row of the same card implies."""
    high: float
    """The most that any row implies."""
    fitted: str
    """The row that fits it."""
    source: str
    """Where the row was published."""


@dataclass(frozen=True)
class Gpu:
    """A GPU by its data sheet, in a usual node."""

    flops: float
    """Dense bf16 FLOP/s with fp32 accumulation."""
    memory_gib: float
    bandwidth: float
    """Bytes per second of its memory."""
    per_node: int
    """Cards in a usual node."""
    link: float
    """Bytes per second that a card sends, and also receives, inside its node."""
    network: float
    """The same between nodes: each card's share of the node's adapters."""
    hop: float
    """Seconds of a hop inside the node."""
    utilization: Utilization

    @property
    def usable(self) -> int:
        """Bytes that training can use."""
        return int(self.memory_gib * 2**30 - RESERVED)


def _foundry(card: str, value: float, low: float, high: float) -> Utilization:
    return Utilization(value, low, high, f"llm-foundry's 1B model on 8 {card}", _FOUNDRY)


def _llmq(card: str, value: float, low: float, high: float) -> Utilization:
    return Utilization(value, low, high, f"LLMQ's Qwen2.5-1.5B on {card} (CUDA without PyTorch)", _LLMQ)


_HOPPER = _foundry("H100", 0.443, 0.39, 0.70)
_HDR, _NDR, _ETHERNET = 25e9, 50e9, 12.5e9
"""InfiniBand with 200 and 400 Gb/s per card; two cards that share an adapter of 200 Gb/s."""
_NVLINK, _PCIE = 3.4e-6, 5.7e-6
"""Seconds of a hop of a ring in NCCL's own model (src/graph/tuning.cc, protocol Simple)."""

GPUS = {
    "a100-40g": Gpu(312e12, 40, 1555e9, 4, 300e9, _HDR, _NVLINK, _foundry("A100-40G", 0.589, 0.52, 0.70)),
    "a100-80g": Gpu(312e12, 80, 2039e9, 8, 300e9, _HDR, _NVLINK, _foundry("A100-80G", 0.609, 0.57, 0.67)),
    "h100-80g": Gpu(989.4e12, 80, 3350e9, 8, 450e9, _NDR, _NVLINK, _HOPPER),
    "h200-141g": Gpu(989.4e12, 141, 4800e9, 8, 450e9, _NDR, _NVLINK, _HOPPER),
    "l40s-48g": Gpu(362.05e12, 48, 864e9, 8, 32e9, _ETHERNET, _PCIE, _llmq("one L40S", 0.582, 0.50, 0.61)),
    "rtx4090-24g": Gpu(165.2e12, 24, 1008e9, 4, 16e9, _ETHERNET, _PCIE, _llmq("4 RTX 4090", 0.807, 0.80, 1.0)),
}
"""NVIDIA's data sheets: SXM versions, without sparsity.

Links are NVLink of the third and fourth generation, in one direction, or PCIe 4.0 with 16 lanes; without peer-to-peer
access, which the RTX 4090 lacks, data cross it twice, through the host's memory. Adapters are assumptions: those of a
DGX, of llm-foundry's A100s (1,600 Gb/s a node) and of torchtitan's H100s (400 Gb/s a card). The H200 is the H100's
chip with other memory, and has its utilization.
"""


def find_gpu(name: str) -> Gpu:
    """A card by name.

    Raises:
        PlanError: it is not in the table.
    """
    if name not in GPUS:
        raise PlanError(f"no GPU is named {name!r}{did_you_mean(name, GPUS)}; known: {', '.join(GPUS)}")
    return GPUS[name]
