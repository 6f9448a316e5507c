"""GPUs by their data sheets, and the utilization that published training reached on them.

Utilization is that of matrix products and attention, by causal FLOPs (`flops_formulas`), over the dense peak, while
they run: memory traffic, the update and collectives are counted beside it (`plan/step_time.py`). One published row per
card fits it, and one more how much less narrow models reach; `tests/plan/test_published_speed.py` has the rows, and
predicts the others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinyllama.errors import PlanError
from tinyllama.text import did_you_mean

RESERVED = 1.5 * 2**30
"""Bytes that the driver, the communication library and fragmentation take of a card."""
_FOUNDRY = "https://github.com/mosaicml/llm-foundry/blob/main/scripts/train/benchmarking/README.md"
_LLMQ = "https://github.com/IST-DASLab/llmq#speed"
_LLAMA_FACTORY = "https://github.com/IST-DASLab/llmq/blob/main/benchmarks/4090x4.md"
_WIDTH = 2048
"""Width of the models that `GPUS` has the utilization of."""
_HALF_WIDTH = 400
"""Width of a model whose matrix products reach half of what a very wide model's do: llm-foundry's 350M model on 8
A100-80G (width 1,024) fits it."""


@dataclass(frozen=True)
class Utilization:
    """Of matrix products in bf16 over the dense peak of the data sheet, in models of one width."""

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

    def at(self, width: int) -> Utilization:
        """That of models of another width: W / (W + a constant), relative to the width of the table."""
        scale = width / (width + _HALF_WIDTH) * (_WIDTH + _HALF_WIDTH) / _WIDTH
        return replace(self, value=scale * self.value, low=scale * self.low, high=scale * self.high)


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
    """Of models of width 2,048."""

    @property
    def usable(self) -> int:
        """Bytes that training can use."""
        return int(self.memory_gib * 2**30 - RESERVED)


def _foundry(card: str, value: float, low: float, high: float) -> Utilization:
    return Utilization(value, low, high, f"llm-foundry's 1B model on 8 {card}", _FOUNDRY)


_HOPPER = _foundry("H100", 0.443, 0.38, 0.75)
_L40S = Utilization(0.613, 0.59, 0.65, "LLMQ's Qwen2.5-1.5B on one L40S (CUDA without PyTorch)", _LLMQ)
_RTX4090 = Utilization(0.938, 0.84, 1.17, "LLaMA-Factory's Qwen2.5-1.5B on 4 RTX 4090", _LLAMA_FACTORY)
_HDR, _NDR, _ETHERNET = 25e9, 50e9, 12.5e9
"""InfiniBand with 200 and 400 Gb/s per card; two cards that share an adapter of 200 Gb/s."""
_NVLINK, _PCIE = 3.4e-6, 5.7e-6
"""Seconds of a hop of a ring in NCCL's own model (src/graph/tuning.cc, protocol Simple)."""

GPUS = {
    "a100-40g": Gpu(312e12, 40, 1555e9, 4, 300e9, _HDR, _NVLINK, _foundry("A100-40G", 0.589, 0.46, 0.65)),
    "a100-80g": Gpu(312e12, 80, 2039e9, 8, 300e9, _HDR, _NVLINK, _foundry("A100-80G", 0.609, 0.55, 0.61)),
    "h100-80g": Gpu(989.4e12, 80, 3350e9, 8, 450e9, _NDR, _NVLINK, _HOPPER),
    "h200-141g": Gpu(989.4e12, 141, 4800e9, 8, 450e9, _NDR, _NVLINK, _HOPPER),
    "l40s-48g": Gpu(362.05e12, 48, 864e9, 8, 32e9, _ETHERNET, _PCIE, _L40S),
    "rtx4090-24g": Gpu(165.2e12, 24, 1008e9, 4, 16e9, _ETHERNET, _PCIE, _RTX4090),
}
"""NVIDIA's data sheets: SXM versions, without sparsity.

Links are NVLink in one direction (data sheets: 600 GB/s of the A100 and 900 of the H100 in both), or PCIe 4.0 with 16
lanes; without peer-to-peer access, which the RTX 4090 lacks, data cross it twice, through the host's memory. Adapters
are assumptions: those of a DGX A100 and H100 (eight of 200 and of 400 Gb/s), of llm-foundry's A100s (1,600 Gb/s a
node) and of torchtitan's H100s (400 Gb/s a card). The H200 is the H100's chip with other memory, and has its
utilization.
"""


def find_gpu(name: str) -> Gpu:
    """A card by name.

    Raises:
        PlanError: it is not in the table.
    """
    if name not in GPUS:
        raise PlanError(f"no GPU is named {name!r}{did_you_mean(name, GPUS)}; known: {', '.join(GPUS)}")
    return GPUS[name]
